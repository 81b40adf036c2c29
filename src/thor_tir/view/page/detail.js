// One trajectory: its head, its steps by author, and the repairs that hang under a failed call.
import { get, isAlone } from "./api.js";
import { link } from "./address.js";
import { candidates } from "./candidates.js";
import { el, number, plain, plural, seconds, shown, signed } from "./dom.js";
import { prose } from "./latex.js";
import { tokens } from "./tokens.js";
import { block, cut, output, program, thought } from "./turns.js";

export async function detail(place, { run, file, key, back, isWanted }) {
  const it = await get(`${run}/trajectory`, { file, key });
  if (!isWanted()) return null; // another one was opened meanwhile
  const more = el("div", { class: "more" });
  const toggle = { tokens: button("tokens", "t", () => open("tokens", tokens)), candidates: button(`${plural(it.candidates.length, "attempt")} side by side`, "c", () => open("candidates", candidates)) };
  const hasMany = !isAlone && it.candidates.length > 1 && it.kind === "trajectory";
  let opened = "";

  async function open(name, fill) {
    for (const [each, node] of Object.entries(toggle)) node.setAttribute("aria-pressed", String(each === name && opened !== name));
    if (opened === name) {
      opened = "";
      more.replaceChildren();
      return;
    }
    opened = name;
    try {
      more.replaceChildren(await fill({ run, file, key }));
    } catch (error) {
      more.replaceChildren(el("p", { class: "nothing" }, error.message));
    }
  }

  place.replaceChildren(
    el("article", {},
      el("div", { class: "tools" }, el("button", { type: "button", class: "back", onclick: back }, "‹ list"), isAlone ? null : toggle.tokens, hasMany ? toggle.candidates : null,
        isAlone ? null : el("a", { href: `api/${run}/row?${new URLSearchParams({ file, key })}`, download: "row.json", class: "quiet" }, "row as JSON")),
      head(it, run, file), more,
      el("details", { class: "turn prompt" }, el("summary", {}, `Prompt · ${plural(it.prompt.tokens, "token")}`), block(it.prompt.text === null ? "No tokenizer of this model was found on this machine, so the prompt cannot be shown." : it.prompt.text)),
      it.steps.map((step, n) => turn(step, n, it, run, file)),
      answerOf(it)));
  return {
    key(name) {
      if (name === "t" && !isAlone) open("tokens", tokens);
      else if (name === "c" && hasMany) open("candidates", candidates);
      else return false;
      return true;
    },
  };
}

function button(words, key, work) {
  return el("button", { type: "button", "aria-pressed": "false", title: `Key ${key}`, onclick: work }, words);
}

function head(it, run, file) {
  const facts = [
    ["verdict", it.kind === "repair" ? null : it.outcome + (it.by_judge ? " (a model judged)" : "")],
    ["call", it.kind === "repair" ? it.outcome : null],
    ["reference", it.reference], ["reason", it.reason], ["end", it.finish.replace("_", " ")],
    ["reward", it.reward === undefined ? null : number(it.reward)],
    ...Object.entries(it.parts || {}).map(([name, value]) => [`reward ${name}`, number(value)]),
    ["advantage", it.reward === undefined ? null : it.advantage === null ? "not trained" : signed(it.advantage)],
    ["trained in update", it.update], ["round", it.round], ["weights", it.version || null],
    ["tokens", number(it.tokens)], ["seconds", it.seconds === null ? null : seconds(it.seconds)], ["family", it.family], ["journal", it.file],
  ];
  return el("header", {},
    el("p", { class: "id" }, plain(it.key)),
    it.parent ? el("p", {}, "Repair of a call of ", el("a", { href: link("trajectories", { run, any: "1", in: file, key: it.parent }) }, plain(it.parent))) : null,
    it.question ? el("h2", { class: "question" }, prose(it.question.trim())) : null,
    el("dl", { class: "facts" }, facts.filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value]) => el("div", { class: name === "verdict" || name === "call" ? `fact ${it.outcome}` : "fact" }, el("dt", {}, plain(name)), el("dd", {}, shown(String(value)))))),
    el("p", { class: "links" }, it.kind === "repair" ? null : el("a", { href: link("trajectories", { run, any: "1", problem: it.problem }) }, "all attempts at this problem")),
    it.tirgen ? tirgen(it.tirgen) : null);
}

function tirgen(facts) {
  const fates = Object.entries(facts.fates).map(([name, n]) => `${name} ${n}`).join(", ");
  const kept = facts.kept.length ? `; share of words kept ${facts.kept.map((share) => number(share)).join(", ")}` : "";
  const spent = Object.entries(facts.spent).map(([name, n]) => `${name} ${number(n)}`).join(", ");
  return el("p", { class: "note" }, plain(`TIRGen's critic: ${fates}${kept}. Spent: ${spent}.`));
}

function turn(step, n, it, run, file) {
  const failed = step.output && !step.output.ran;
  return el("section", { class: `step${failed ? " failed" : ""}`, "aria-label": `Step ${n + 1}` },
    step.discarded.map((old, place) => cut(old, place, step.discarded.length, step)),
    beside(step.replaced, [thought(step.thought, it.steps.length > 1 ? n + 1 : 0), program(step), step.output ? output(step.output) : null]),
    step.branches ? branches(step, run, file) : null);
}

// What TIRGen's critic wrote, beside the words of the actor that it stands for.
function beside(replaced, turns) {
  if (!replaced) return turns;
  const many = replaced.steps > 1 ? `, here and in the next ${plural(replaced.steps - 1, "step")}` : "";
  return el("div", { class: "pair" },
    el("div", { class: "turn before" }, el("h3", {}, `before: the actor's own words${many}`), el("div", { class: "text" }, prose(replaced.text.trim()))),
    el("div", { class: "after" }, turns));
}

function branches(step, run, file) {
  const ran = step.branches.filter((each) => each.output && each.output.ran).length;
  const shown = new Set();
  return el("div", { class: "branches" },
    el("h3", {}, `${plural(step.branches.length, "repair")} sampled from inside this thought, ${ran} ran`),
    step.branches.map((each) => {
      const kind = each.output ? (each.output.ran ? "ran" : "failed") : "none";
      const isFirst = !shown.has(kind);
      shown.add(kind);
      return branch(each, step, isFirst, run, file);
    }));
}

function branch(it, step, isOpen, run, file) {
  const status = it.output ? it.output.class || it.output.status.replaceAll("_", " ") : "no call";
  return el("details", { class: `branch ${it.output && it.output.ran ? "ran" : "failed"}`, open: isOpen },
    el("summary", {}, el("span", { class: `tag ${it.output && it.output.ran ? "good" : "bad"}` }, plain(status)),
      el("span", { class: "credit" }, `reward ${number(it.reward)}`), el("span", { class: "credit" }, it.advantage === null ? "not trained" : `advantage ${signed(it.advantage)}`),
      it.update ? el("span", { class: "credit dim" }, `update ${it.update}`) : null,
      isAlone ? null : el("a", { class: "dim", href: link("trajectories", { run, any: "1", level: "repairs", in: file, key: it.key }) }, "open")),
    el("div", { class: "turn thought" }, el("h3", {}, "thought"), el("div", { class: "text" },
      step.kept === null ? null : el("span", { class: "kept", title: "kept from the failed call's thought" }, shown(step.kept)),
      el("span", { class: "new", title: "written again" }, prose(it.thought)))),
    program(it), it.output ? output(it.output) : null);
}

function answerOf(it) {
  if (it.kind === "repair") return null;
  return el("footer", { class: `answer ${it.outcome}` }, it.answer === null ? "no answer found" : ["answer ", el("b", {}, shown(it.answer))], el("span", { class: "seconds" }, it.outcome));
}
