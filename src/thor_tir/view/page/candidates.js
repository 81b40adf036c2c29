// All attempts at one problem side by side, with the scores that selectors give them.
import { get } from "./api.js";
import { link } from "./address.js";
import { el, number, plain, seconds, shown } from "./dom.js";
import { output, program, thought } from "./turns.js";

export async function candidates({ run, file, key }) {
  const it = await get(`${run}/candidates`, { file, key });
  const rows = it.selectors.map((selector) =>
    el("tr", {}, el("th", { scope: "row" }, selector.name), selector.scores.map((score, n) => {
      const isChosen = selector.chosen === it.candidates[n].id;
      return el("td", { class: isChosen ? "chosen" : null }, score.map((part) => number(part)).join(" · "), isChosen ? " ◀" : "");
    })));
  const row = (name, cells) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", {}, cell)));
  return el("section", { class: "candidates", "aria-label": "Candidates" },
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, el("td"), it.candidates.map((each) =>
        el("th", { scope: "col", class: each.key === key ? "chosen" : null }, el("a", { href: link("trajectories", { run, any: "1", in: file, key: each.key }) }, plain(each.key.split("/").at(-1))))))),
      el("tbody", {},
        row("verdict", it.candidates.map((each) => el("span", { class: `dot ${each.outcome}` }, each.outcome))),
        row("answer", it.candidates.map((each) => each.answer === null ? "none" : shown(each.answer))),
        row("calls that ran", it.candidates.map((each) => `${each.calls - each.failures.length} of ${each.calls}`)),
        row("tokens", it.candidates.map((each) => number(each.tokens))), row("seconds", it.candidates.map((each) => seconds(each.seconds))),
        rows))),
    el("p", { class: "note" }, "Selectors take the highest score, compared from left to right; ◀ is the one that the run's seed chose, where it is an evaluation."),
    el("div", { class: "columns" }, it.candidates.map((each) => el("div", { class: "column" }, el("h3", {}, plain(each.key.split("/").at(-1)), " ", el("span", { class: `dot ${each.outcome}` }, each.outcome)),
      each.steps.map((step) => [thought(step.thought, 0), program(step), step.output ? output(step.output) : null])))));
}
