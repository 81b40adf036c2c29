// The frame of the page: its head, which view is shown, and the question whether there is something new.
import { get, isAlone } from "./api.js";
import { go, here, link } from "./address.js";
import { curves } from "./curves.js";
import { el, number } from "./dom.js";
import { results } from "./results.js";
import { trajectories } from "./trajectories.js";

const VIEWS = {
  trajectories: { title: "Trajectories", show: trajectories },
  curves: { title: "Curves", show: curves },
  results: { title: "Results", show: results },
};
const ASK_EVERY_MS = 2000;

const head = el("header", { class: "top" });
const main = el("main", { id: "main", tabindex: "-1" });
const notice = el("p", { class: "notice", role: "status", hidden: true });
let state = { runs: [] };
let current = null;

function drawHead() {
  const { view, params } = here();
  const run = Number(params.get("run") || 0);
  const tabs = Object.entries(VIEWS).map(([name, { title }]) =>
    el("a", { href: link(name, { run }), "aria-current": name === view ? "page" : null, "data-view": name }, title));
  const choice = state.runs.length > 1
    ? el("select", { "aria-label": "Run", onchange: (event) => go(view, { run: event.target.value }) },
        state.runs.map((each, n) => el("option", { value: n, selected: n === run }, each.name)))
    : el("span", { class: "run", title: state.runs[0]?.folder }, state.runs[0]?.name || "");
  const unread = state.runs.reduce((sum, each) => sum + each.unread, 0);
  const damaged = state.runs.reduce((sum, each) => sum + each.damaged, 0);
  const news = unread ? `reading, ${(unread / 2 ** 20).toFixed(1)} MB left` : damaged ? `${damaged} damaged line${damaged === 1 ? "" : "s"} left out` : isAlone ? `${number(state.runs[run]?.shown)} of ${number(state.runs[run]?.total)} trajectories` : "";
  head.replaceChildren(
    el("a", { class: "brand", href: "#" }, "THOR ", el("b", {}, "view")), choice, el("nav", { "aria-label": "Views" }, tabs),
    el("span", { class: "news" }, news),
    el("button", { class: "quiet", title: "Keys", onclick: help }, "?"));
}

function say(sentence) {
  notice.hidden = !sentence;
  notice.textContent = sentence || "";
}

async function show() {
  const { view, params } = here();
  const next = VIEWS[view] || VIEWS.trajectories;
  drawHead();
  document.body.dataset.view = view;
  try {
    if (!current || current.view !== next) {
      main.replaceChildren();
      current = { view: next, live: await next.show(main, { state: () => state, say }) };
    }
    await current.live.move(params);
    say("");
  } catch (error) {
    say(error.message);
  }
}

async function ask() {
  if (!document.hidden) {
    try {
      const before = state.runs.map((run) => run.version).join();
      state = await get("state");
      drawHead();
      if (before && before !== state.runs.map((run) => run.version).join() && current) await current.live.renew?.();
      if (notice.dataset.kind === "gone") say("");
      delete notice.dataset.kind;
    } catch (error) {
      notice.dataset.kind = "gone";
      say(error.message);
    }
  }
  setTimeout(ask, state.runs.some((run) => run.unread) ? 200 : ASK_EVERY_MS);
}

const KEYS = [
  ["j, k or ↓, ↑", "next or previous trajectory"], ["Enter", "open it, Esc goes back"], ["n, p", "next or previous page of the list"],
  ["/", "search"], ["f", "failed calls of the last round"], ["t", "tokens of the open trajectory"], ["c", "all attempts at its problem"],
  ["1, 2, 3", "trajectories, curves, results"], ["?", "this list"],
];

function help() {
  const dialog = el("dialog", { class: "help", onclose: () => dialog.remove(), onclick: () => dialog.close() },
    el("h2", {}, "Keys"), el("dl", {}, KEYS.map(([key, words]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, words)])));
  document.body.append(dialog);
  dialog.showModal();
}

addEventListener("keydown", (event) => {
  const typing = event.target.matches?.("input, select, textarea");
  if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape") || document.querySelector("dialog[open]")) return;
  const names = Object.keys(VIEWS);
  if (event.key === "?") help();
  else if (names[event.key - 1]) go(names[event.key - 1], { run: here().params.get("run") });
  else if (!current?.live.key?.(event.key)) return;
  event.preventDefault();
});
addEventListener("hashchange", show);
addEventListener("popstate", show);
addEventListener("moved", show);

document.body.replaceChildren(el("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } }, "Skip to content"), head, notice, main);
try {
  state = await get("state");
} catch (error) {
  say(error.message);
}
await show();
document.body.dataset.ready = "yes";
if (!isAlone) setTimeout(ask, 100);
