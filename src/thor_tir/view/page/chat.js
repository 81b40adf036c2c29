// The chat page of `thor serve`: a conversation whose programs, outputs and repairs are seen as they come.
import { el, number, plain, seconds, shown } from "./dom.js";
import { Refused, ask, streamed } from "./events.js";
import { prose } from "./latex.js";
import { cut, output, program, thought } from "./turns.js";

const FIRST = "What is the greatest common divisor of 780 and 461?";
const turns = []; // what the model reads of this conversation
let model = "";
let asking = null;

const news = el("span", { class: "news" });
const notice = el("p", { class: "notice", role: "alert", hidden: true });
const talk = el("section", { class: "talk", "aria-label": "Conversation", "aria-live": "off" });
const question = el("textarea", { rows: 3, "aria-label": "Question", placeholder: FIRST, onkeydown: (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); } } });
const key = el("input", { type: "password", autocomplete: "off", "aria-label": "Key", placeholder: "key of this server", hidden: true, onchange: begin });
const tools = el("input", { type: "checkbox", checked: true });
const attempts = el("select", {}, [1, 2, 4, 8].map((n) => el("option", { value: n }, n)));
const select = el("select", {}, ["pass-rate", "vote", "pass-rate-then-vote"].map((name) => el("option", { value: name }, name)));
const temperature = el("input", { type: "number", min: 0, max: 2, step: 0.1, placeholder: "server's" });
const button = el("button", { type: "submit" }, "Ask");

function say(sentence) {
  notice.hidden = !sentence;
  notice.textContent = plain(sentence || "");
}

async function begin() {
  try {
    const { data } = await (await ask("v1/models", { key: key.value })).json();
    model = data[0].id;
    news.textContent = plain(model);
    say("");
  } catch (error) {
    key.hidden &&= error.status !== 401;
    say(error.message);
  }
}

function options() {
  const many = Number(attempts.value);
  const thor = { tools: tools.checked, attempts: many, ...(many > 1 ? { select: select.value } : {}) };
  return { model, stream: true, thor, ...(temperature.value === "" ? {} : { temperature: Number(temperature.value) }) };
}

async function send() {
  if (asking) return asking.abort();
  const text = question.value.trim() || (turns.length ? "" : FIRST);
  if (!text) return;
  question.value = "";
  say("");
  const live = el("pre", { class: "live", "aria-label": "Answer as it is written" });
  const place = el("article", { class: "answering" }, el("h2", { class: "question" }, shown(text)), live);
  talk.append(place);
  place.scrollIntoView({ block: "end" });
  const mine = new AbortController();
  asking = mine;
  button.textContent = "Stop";
  const candidates = [];
  try {
    const messages = [...turns, { role: "user", content: text }];
    const reply = await ask("v1/chat/completions", { key: key.value, signal: mine.signal, body: { ...options(), messages } });
    await streamed(reply, ({ delta, thor }) => {
      if (mine.signal.aborted) return; // what arrives after a stop is no part of the conversation
      live.append(shown((delta.reasoning_content || "") + (delta.content || "")));
      if (thor?.kind === "candidate") candidates.push(thor);
      if (thor?.kind === "end") {
        live.replaceWith(...answer(thor));
        turns.push({ role: "user", content: text }, { role: "assistant", content: thor.context });
      } else if (candidates.length) live.replaceChildren(`${candidates.length} of ${attempts.value} attempts are written`);
    });
  } catch (error) {
    place.append(el("p", { class: "note" }, error.name === "AbortError" ? "Stopped: the model does not read this question again." : "No whole answer; the model does not read this question again."));
    if (error.name !== "AbortError") say(error instanceof Refused ? error.message : "The server does not answer.");
    if (place.isConnected && !turns.length && !question.value) question.value = text;
  } finally {
    asking = null;
    button.textContent = "Ask";
    place.scrollIntoView({ block: "nearest" });
    question.focus();
  }
}

function answer(it) {
  const facts = [`${it.finish.replaceAll("_", " ")}`, seconds(it.seconds), `seed ${it.seed}`].join(", ");
  return [
    it.steps.map((step, n) => turn(step, n, it.steps.length)),
    it.candidates ? chosen(it.candidates) : null,
    el("footer", { class: "answer" }, it.answer === null ? "no answer found" : ["answer ", el("b", {}, prose(`$${it.answer}$`))], el("span", { class: "seconds" }, plain(facts))),
  ].flat().filter(Boolean);
}

function turn(step, n, many) {
  const old = (step.discarded || []).map(read);
  const now = read(step);
  return el("section", { class: `step${now.output && !now.output.ran ? " failed" : ""}` },
    old.map((each, place) => cut(each, place, old.length, now)), thought(now.thought, many > 1 ? n + 1 : 0), program(now), now.output ? output(now.output) : null);
}

// A step of the field `thor` as the turns of the page want it.
function read(step) {
  if (step.code === null) return { thought: step.thought };
  const result = { status: step.status, class: step.error, ran: step.status === "ok", text: step.output, stdout: "", stderr: "", seconds: step.seconds };
  return { thought: step.thought, code: step.code, tool: step.tool, output: result };
}

function chosen(all) {
  return el("details", {}, el("summary", {}, `${all.length} attempts, one of which is the answer`), el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["answer", "calls", "that succeed", "tokens", ""].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, all.map((each) => el("tr", {}, [each.answer === null ? "–" : plain(each.answer), number(each.calls), number(each.succeeded), number(each.tokens), each.is_chosen ? "chosen" : ""].map((cell) => el("td", {}, cell))))))));
}

const named = (name, field) => el("label", {}, name, " ", field);
document.body.classList.add("chat");
document.body.replaceChildren(
  el("header", { class: "top" }, el("span", { class: "brand" }, "THOR ", el("b", {}, "chat")), news, el("button", { class: "quiet", type: "button", onclick: () => { asking?.abort(); turns.length = 0; talk.replaceChildren(); } }, "new conversation")),
  notice, talk,
  el("form", { class: "ask", onsubmit: (event) => { event.preventDefault(); send(); } }, question,
    el("div", { class: "tools" }, key, named("programs", tools), named("attempts", attempts), named("chosen by", select), named("temperature", temperature), button)));
await begin();
question.focus();
document.body.dataset.ready = "yes";
