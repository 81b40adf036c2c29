// The list of trajectories with its filters, and the one that is open beside it.
import { get } from "./api.js";
import { go, here, link } from "./address.js";
import { detail } from "./detail.js";
import { el, number, plain, plural, seconds } from "./dom.js";

const FILTERS = ["file", "level", "outcome", "call", "repaired", "failure", "family", "problem", "finish", "round", "min_tokens", "max_tokens", "text", "sort", "page"];
export const START = { level: "trajectories", call: "failed", round: "last" };

export async function trajectories(main, page) {
  const form = el("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() });
  const count = el("p", { class: "count", role: "status" });
  const list = el("ol", { class: "rows", "aria-label": "Trajectories" });
  const pager = el("div", { class: "pager" });
  const open = el("section", { class: "open", "aria-label": "Trajectory", tabindex: "-1" });
  main.append(el("div", { class: "split" }, el("div", { class: "side" }, form, count, list, pager), open));
  let asked = {};
  let answer = { rows: [] };
  let known = null;
  let shownKey = "";
  let live = null;

  const read = (params) => Object.fromEntries(FILTERS.filter((name) => params.get(name)).map((name) => [name, params.get(name)]));
  const openOf = (params) => ({ in: params.get("in") || "", key: params.get("key") || "" });
  const runOf = (params) => params.get("run") || "0";
  const put = (changes) => {
    const { params } = here();
    go("trajectories", { run: runOf(params), any: "1", ...read(params), page: "", ...changes });
  };

  async function move(params) {
    const run = runOf(params);
    if (![...params.keys()].some((name) => name !== "run")) {
      await begin(run);
      return;
    }
    const wanted = { run, ...read(params) };
    if (JSON.stringify(wanted) !== JSON.stringify(asked)) {
      asked = wanted;
      await fill();
    }
    const { in: file, key } = openOf(params);
    main.classList.toggle("reading", Boolean(key));
    mark(file, key);
    if (`${run} ${file} ${key}` === shownKey) return;
    shownKey = `${run} ${file} ${key}`;
    if (key) await show(run, file, key);
    else empty();
  }

  // Without an address of its own the page opens on what needs eyes: failed calls of the last round, else all there is.
  async function begin(run) {
    for (const choice of [START, { call: "failed" }, {}]) {
      const found = await get(`${run}/trajectories`, choice);
      if (found.total || !Object.keys(choice).length) {
        const first = matchMedia("(min-width: 56.01rem)").matches && found.rows[0];
        go("trajectories", { run, any: "1", ...choice, in: first?.file, key: first?.key }, { replace: true });
        return;
      }
    }
  }

  async function fill(isRenewal = false) {
    const mine = asked;
    const { run, ...selection } = asked;
    list.setAttribute("aria-busy", "true");
    const [found, facets] = await Promise.all([get(`${run}/trajectories`, selection), get(`${run}/facets`, { file: selection.file })]);
    if (mine !== asked) return; // something else was asked for meanwhile
    answer = found;
    known = facets;
    list.removeAttribute("aria-busy");
    if (!isRenewal || !form.contains(document.activeElement)) drawFilters(); // a menu that is open stays open
    drawList();
  }

  function drawFilters() {
    const at = form.contains(document.activeElement) ? document.activeElement.name : "";
    if (at && form.elements[at].tagName === "INPUT" && form.elements[at].value !== (asked[at] || "")) return; // half typed
    const more = FILTERS.filter((name) => ["failure", "family", "finish", "sort", "min_tokens", "max_tokens", "problem"].includes(name) && asked[name]).length;
    const isOpen = form.querySelector("details")?.open || more > 0;
    const copies = new Set(known.copies);
    const files = Object.entries(known.files).map(([name, n]) => [name, `${name} · ${number(n)}${copies.has(name) ? " copies" : ""}`]);
    form.replaceChildren(
      el("div", { class: "search" },
        el("input", { type: "search", name: "text", placeholder: "Search text", "aria-label": "Search text", value: asked.text || "", onchange: (event) => put({ text: event.target.value }) }),
        el("button", { class: "quiet", type: "button", title: "All trajectories", onclick: () => go("trajectories", { run: asked.run, any: "1" }) }, "clear")),
      el("div", { class: "selects" },
        select("file", "Journal", files, "all journals"),
        select("round", "Round", [["last", "last round"], ...known.rounds.map((n) => [String(n), `round ${n}`])], "all rounds", !known.rounds.length),
        select("call", "Calls", [["failed", "some call failed"], ["ran", "all calls ran"], ["none", "no call"]], "any calls"),
        select("outcome", "Verdict", Object.entries(known.outcomes).map(([name, n]) => [name, `${name} · ${number(n)}`]), "any verdict"),
        select("repaired", "Repairs", [["yes", "repaired"], ["no", "not repaired"]], "repaired or not"),
        select("level", "Level", [["repairs", `repairs · ${number(known.repairs)}`]], "trajectories", !known.repairs && asked.level !== "repairs")),
      el("details", { open: isOpen },
        el("summary", {}, `More filters${more ? ` (${more})` : ""}`),
        el("div", { class: "selects" },
          select("failure", "Failure", Object.entries(known.failures).map(([name, n]) => [name, `${name} · ${number(n)}`]), "any failure"),
          select("family", "Family", Object.entries(known.families).map(([name, n]) => [name, `${name} · ${number(n)}`]), "any family"),
          select("sort", "Order", known.orders.slice(1).map((name) => [name, name]), `${known.orders[0]} first`),
          select("finish", "End", Object.entries(known.finishes).map(([name, n]) => [name, `${name.replace("_", " ")} · ${number(n)}`]), "any end"),
          amount("min_tokens", "tokens from"), amount("max_tokens", "tokens to"),
          asked.problem ? el("button", { type: "button", class: "chip", onclick: () => put({ problem: "" }) }, `problem ${plain(asked.problem)} ✕`) : null)));
    form.elements[at]?.focus();
  }

  function select(name, label, options, nothing, isHidden = false) {
    if (isHidden) return null;
    const value = asked[name] || "";
    if (value && !options.some(([each]) => each === value)) options = [...options, [value, value]];
    const isNothing = name === "level" && value === "trajectories";
    return el("select", { name, "aria-label": label, class: value && !isNothing ? "set" : null, onchange: (event) => put({ [name]: event.target.value }) },
      el("option", { value: "" }, nothing), options.filter(([each]) => !(name === "level" && each === "trajectories")).map(([each, words]) => el("option", { value: each, selected: each === value }, plain(words))));
  }

  function amount(name, label) {
    return el("input", { type: "number", min: "0", name, placeholder: label, "aria-label": label, value: asked[name] || "", onchange: (event) => put({ [name]: event.target.value }) });
  }

  function drawList() {
    const begin = answer.page * answer.page_rows;
    const round = asked.round === "last" && answer.round ? `, round ${answer.round}` : "";
    count.textContent = answer.total
      ? `${number(begin + 1)}–${number(begin + answer.rows.length)} of ${number(answer.total)}${round}` + (answer.unsearched ? `; ${number(answer.unsearched)} not searched in time` : "")
      : answer.unread ? "Nothing found yet; the run is still being read." : "Nothing found; `clear` shows all.";
    const { params } = here();
    const at = list.contains(document.activeElement) ? document.activeElement.dataset : null;
    list.replaceChildren(...answer.rows.map((row) => line(row, params)));
    pager.replaceChildren(
      el("button", { type: "button", disabled: answer.page === 0, onclick: () => turn(-1) }, "‹ newer"),
      el("button", { type: "button", disabled: begin + answer.rows.length >= answer.total, onclick: () => turn(1) }, "older ›"));
    pager.hidden = answer.total <= answer.page_rows;
    const { in: file, key } = openOf(params);
    mark(file, key);
    if (at) [...list.querySelectorAll("a")].find((each) => each.dataset.key === at.key && each.dataset.file === at.file)?.focus();
  }

  function line(row, params) {
    const address = link("trajectories", { run: asked.run, any: "1", ...read(params), in: row.file, key: row.key });
    const tags = [
      row.failures.length ? el("span", { class: "tag bad" }, plain(row.failures[0]) + (row.failures.length > 1 ? ` +${row.failures.length - 1}` : "")) : null,
      row.discarded ? el("span", { class: "tag mend" }, plural(row.discarded, "version") + " cut") : null,
      row.repairs ? el("span", { class: "tag mend" }, plural(row.repairs, "repair")) : null,
    ];
    const words = row.question || row.start;
    return el("li", {}, el("a", { href: address, "data-key": row.key, "data-file": row.file },
      el("span", { class: `dot ${row.outcome}`, title: row.outcome }, { correct: "✓", wrong: "✗", ran: "✓", failed: "✗" }[row.outcome] || "?"),
      el("span", { class: "what" }, el("span", { class: "question" }, plain(words).replace(/\s+/g, " ")), el("span", { class: "facts" },
        row.family ? plain(row.family) : plain(row.problem), row.round ? ` · round ${row.round}` : "", ` · ${plural(row.calls, "call")} · ${plural(row.tokens, "token")}`,
        row.seconds === null ? "" : ` · ${seconds(row.seconds)}`)),
      el("span", { class: "tags" }, tags)));
  }

  function mark(file, key) {
    for (const each of list.querySelectorAll("a")) {
      const isIt = each.dataset.key === key && each.dataset.file === file;
      each.setAttribute("aria-current", isIt ? "true" : "false");
      if (isIt) each.scrollIntoView({ block: "nearest" });
    }
  }

  async function show(run, file, key) {
    const mine = shownKey;
    open.setAttribute("aria-busy", "true");
    live = null;
    try {
      const drawn = await detail(open, { run, file, key, back: () => put({ page: asked.page }), isWanted: () => shownKey === mine });
      if (!drawn) return;
      live = drawn;
      open.scrollTop = 0;
      if (matchMedia("(max-width: 56rem)").matches) scrollTo(0, 0);
    } catch (error) {
      if (shownKey === mine) open.replaceChildren(el("p", { class: "nothing" }, error.message));
    }
    if (shownKey === mine) open.removeAttribute("aria-busy");
  }

  function empty() {
    live = null;
    open.removeAttribute("aria-busy");
    open.replaceChildren(el("p", { class: "nothing" }, answer.rows.length ? "Choose a trajectory, or press j." : ""));
  }

  function turn(by) {
    put({ page: Math.max(0, answer.page + by) || "" });
    list.scrollTop = 0;
  }

  function step(by) {
    const links = [...list.querySelectorAll("a")];
    const at = links.findIndex((each) => each.getAttribute("aria-current") === "true");
    const next = links[at < 0 ? 0 : at + by];
    const { params } = here();
    if (next) go("trajectories", { run: runOf(params), any: "1", ...read(params), in: next.dataset.file, key: next.dataset.key });
  }

  function key(name) {
    if (name === "j" || name === "ArrowDown") step(1);
    else if (name === "k" || name === "ArrowUp") step(-1);
    else if (name === "n" && answer.page * answer.page_rows + answer.rows.length < answer.total) turn(1);
    else if (name === "p" && answer.page > 0) turn(-1);
    else if (name === "/") form.querySelector("input[type=search]").focus();
    else if (name === "f") go("trajectories", { run: asked.run, any: "1", ...START });
    else if (name === "Enter" && here().params.get("key")) open.focus();
    else if (name === "Escape") escape();
    else return live?.key(name) || false;
    return true;
  }

  function escape() {
    if (form.contains(document.activeElement)) document.activeElement.blur();
    else put({ page: asked.page });
  }

  return { move, key, renew: () => fill(true) };
}
