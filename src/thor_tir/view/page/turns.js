// The turns of a step: a thought, its program, and what came of it.
import { el, plain, seconds, shown } from "./dom.js";
import { python } from "./highlight.js";
import { prose } from "./latex.js";

const SHOWN_LINES = 4000;

export function thought(text, number) {
  if (!text.trim()) return null;
  return el("div", { class: "turn thought" }, el("h3", {}, number ? `thought ${number}` : "thought"), el("div", { class: "text" }, lines(text, prose)));
}

export function program(step) {
  if (step.code === undefined) return null;
  const name = step.tool === undefined ? "code" : step.tool ? `call of ${step.tool}` : "call that cannot be read";
  return el("div", { class: "turn code" }, el("h3", {}, name), el("pre", {}, step.tool === undefined ? python(step.code) : plain(step.code)));
}

export function output(it) {
  const words = it.status.replaceAll("_", " ");
  const name = it.class && it.class !== it.status ? `${words}: ${it.class}` : words;
  const whole = [["stdout", it.stdout], ["stderr", it.stderr]].filter(([, text]) => text.trim() && text.trim() !== it.text.trim());
  return el("div", { class: `turn output ${it.ran ? "ran" : "failed"}` },
    el("h3", {}, "output ", el("span", { class: `tag ${it.ran ? "good" : "bad"}` }, plain(name)), el("span", { class: "seconds" }, seconds(it.seconds)),
      it.exit ? el("span", { class: "seconds" }, ` exit ${it.exit}`) : null),
    block(it.text),
    whole.map(([name, text]) => el("details", {}, el("summary", {}, `all of ${name}`), block(text))));
}

// A version that self-correction cut away: its thought is the part that was written again.
export function cut(old, place, count, step) {
  const stands = step.output && step.output.ran;
  const status = old.output ? old.output.class || old.output.status : "no call";
  return el("details", { class: "branch cut" },
    el("summary", {}, el("span", { class: "tag mend" }, `version ${place + 1} of ${count} cut away`), " ", el("span", { class: "tag bad" }, plain(status)),
      stands ? "" : " (no version ran: the first failure stands)"),
    thought(old.thought, 0), program(old), old.output ? output(old.output) : null);
}

export function block(text) {
  return el("pre", {}, lines(text.replace(/\n$/, ""), shown));
}

// Very many lines are laid out by the browser one by one; the rest waits for a click.
function lines(text, set) {
  let end = -1;
  for (let n = 0; n < SHOWN_LINES && end < text.length; n++) {
    const next = text.indexOf("\n", end + 1);
    if (next < 0) return set(text);
    end = next;
  }
  const rest = el("button", { type: "button", class: "quiet", onclick: () => rest.replaceWith(set(text.slice(end))) }, "show the rest");
  const both = document.createDocumentFragment();
  both.append(set(text.slice(0, end)), "\n", rest);
  return both;
}
