// Results with their intervals on a scale that shows the differences, failures by class, cost, and the funnel of data.
import { get } from "./api.js";
import { link } from "./address.js";
import { ticks } from "./charts.js";
import { el, number, plain, seconds, signed, svg } from "./dom.js";

const AXIS = 260;

export async function results(main, page) {
  const body = el("div", { class: "results" });
  main.append(body);
  let drawn = "";

  async function move() {
    await renew();
  }

  async function renew() {
    const runs = page.state().runs;
    const found = await Promise.all(runs.map((_, n) => get(`${n}/outcomes`)));
    const now = JSON.stringify(found);
    if (now === drawn) return;
    drawn = now;
    const open = new Set([...body.querySelectorAll("details[open]")].map((each) => each.dataset.name));
    body.replaceChildren(accuracy(runs, found), ...runs.map((run, n) => whole(run, n, found[n], runs.length > 1)));
    for (const each of body.querySelectorAll("details")) each.open ||= open.has(each.dataset.name);
  }

  return { move, renew };
}

const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : `${(100 * share).toFixed(digits)} %`);

// One axis for all rows, from the lowest end of an interval to the highest.
function axisOf(intervals, least) {
  let low = Math.min(...intervals.map(([from]) => from));
  let high = Math.max(...intervals.map(([, to]) => to));
  const room = Math.max((high - low) * 0.05, least - (high - low), 0) / 2 || least / 2;
  low -= room;
  high += room;
  const px = (value) => 6 + ((value - low) / (high - low)) * (AXIS - 12);
  return { low, high, px, ticks: ticks(low, high, 5) };
}

function whisker({ value, ci95 }, axis, zero) {
  const [from, to] = ci95;
  return svg("svg", { class: "whisker", viewBox: `0 0 ${AXIS} 22`, role: "img", "aria-label": `${value}, 95 % interval ${from} to ${to}` },
    axis.ticks.map((at) => svg("line", { class: zero && at === 0 ? "zero" : "grid", x1: axis.px(at), x2: axis.px(at), y1: 0, y2: 22 })),
    svg("line", { class: "interval", x1: axis.px(from), x2: axis.px(to), y1: 11, y2: 11 }), svg("circle", { class: "estimate", cx: axis.px(value), cy: 11, r: 4.5 }));
}

function scale(axis, words) {
  return svg("svg", { class: "whisker", viewBox: `0 0 ${AXIS} 16`, "aria-hidden": "true" }, axis.ticks.map((at) => svg("text", { x: axis.px(at), y: 12, "text-anchor": "middle" }, words(at))));
}

function table(head, rows, kind = "") {
  return el("div", { class: "scroll" }, el("table", { class: kind }, el("thead", {}, el("tr", {}, head.map((cell) => el("th", { scope: "col" }, cell)))), el("tbody", {}, rows)));
}

const line = (name, cells) => el("tr", {}, el("th", { scope: "row" }, name), cells.map((cell) => el("td", {}, cell)));

function accuracy(runs, found) {
  const rows = found.flatMap((each, n) => each.results.map((row) => ({ ...row, run: n })));
  if (!rows.length) return el("section", {}, el("h2", {}, "Results"), el("p", { class: "nothing" }, "No evaluation has finished in these folders yet; below is what the journals hold."));
  const sets = new Set(rows.map((row) => row.set));
  const measured = rows.filter((row) => row.avg);
  const axis = axisOf(measured.length ? measured.map((row) => row.avg.ci95) : [[0, 1]], 0.02);
  const tokens = (row) => number(row.tokens_kept + row.tokens_discarded, 0);
  return el("section", {}, el("h2", {}, "Results"),
    table(["", ...(runs.length > 1 ? ["run"] : []), ...(sets.size > 1 ? ["set"] : []), "accuracy", scale(axis, (at) => percent(at, 0)), "95 % interval", "problems", "lost", "calls that succeed", "calls", "repairs", "tokens", "seconds"],
      rows.map((row) => line(plain(row.name), [
        ...(runs.length > 1 ? [plain(runs[row.run].name)] : []), ...(sets.size > 1 ? [plain(row.set)] : []),
        ...(row.avg ? [el("b", {}, percent(row.avg.value)), whisker(row.avg, axis), `${percent(row.avg.ci95[0])} to ${percent(row.avg.ci95[1])}`] : ["–", "", "nothing was measured"]),
        number(row.n_scored), plain(row.lost),
        row.call_success ? percent(row.call_success.value) : "–", number(row.calls), number(row.repairs), tokens(row), seconds(row.seconds)])), "wide"),
    el("p", { class: "note" }, "Calls, repairs, tokens and seconds are per attempt that counts; the axis reaches from the lowest interval to the highest."),
    remarks(rows),
    more(rows, runs));
}

function remarks(rows) {
  const said = rows.flatMap((row) => (row.remarks || []).map((words) => el("li", {}, `${plain(row.name)}: ${plain(words)}`)));
  return said.length ? el("ul", { class: "remarks" }, said) : null;
}

function more(rows, runs) {
  const ks = (field) => [...new Set(rows.flatMap((row) => Object.keys(row[field] || {})))].sort((a, b) => a - b);
  const many = [["pass_at", "pass@"], ["maj_at", "maj@"]].flatMap(([field, name]) => ks(field).map((k) => [field, k, `${name}${k}`]));
  const families = [...new Set(rows.flatMap((row) => Object.keys(row.by_source || {})))].sort();
  const name = (row) => plain(runs.length > 1 ? `${runs[row.run].name}: ${row.name}` : row.name);
  return [
    many.length > 1 ? el("details", { "data-name": "k" }, el("summary", {}, "pass@k and maj@k"), table(["", ...many.map(([, , words]) => words)],
      rows.map((row) => line(name(row), many.map(([field, k]) => percent(row[field]?.[k]?.value)))))) : null,
    families.length > 1 ? el("details", { "data-name": "families" }, el("summary", {}, "Accuracy by family"), table(["", ...rows.map(name)],
      families.map((family) => line(plain(family), rows.map((row) => percent(row.by_source?.[family]?.value, 0)))))) : null,
  ];
}

function whole(run, n, found, isNamed) {
  const { summary } = found;
  return el("section", { class: "run" }, isNamed ? el("h2", {}, plain(run.name)) : null,
    paired(summary.paired), stages(found.stages, n), failures(summary.failure_classes, found.failures, n), success(summary.chi_squared), cost(found, summary.seconds), found.funnels.map(funnel),
    Object.keys(summary).length ? el("details", { "data-name": `settings ${n}` }, el("summary", {}, "Machine, seed, options, versions"),
      el("p", {}, plain(`${summary.machine || "machine not recorded"}, seed ${summary.seed ?? "not recorded"}`)), el("pre", {}, plain(JSON.stringify({ ...summary.config, versions: summary.versions }, null, 1)))) : null);
}

function paired(pairs) {
  if (!Array.isArray(pairs)) return null;
  const shown = pairs.filter((pair) => typeof pair.difference === "number" && Array.isArray(pair.ci95));
  if (!shown.length) return null;
  const axis = axisOf([...shown.map((pair) => pair.ci95), [0, 0]], 0.02);
  return [el("h3", {}, "Paired differences, points"), table(["", "difference", scale(axis, (at) => signed(100 * at, 0)), "95 % interval"],
    shown.map((pair) => line(plain(pair.name), [el("b", {}, signed(100 * pair.difference, 1)), whisker({ value: pair.difference, ci95: pair.ci95 }, axis, true), `${signed(100 * pair.ci95[0], 1)} to ${signed(100 * pair.ci95[1], 1)}`]))),
    el("p", { class: "note" }, "The same problems, one configuration minus another. An interval that keeps clear of 0 is a difference beyond chance at the 5 % level.")];
}

function stages(rows, n) {
  if (!rows.length) return null;
  return [el("h3", {}, "What the journals hold"), table(["journal", "trajectories", "right", "unscored", "calls", "succeed", "tokens", "corrected", "repairs", "repairs that succeed", "lost to machine faults"],
    rows.map((row) => line(el("a", { href: link("trajectories", { run: n, any: "1", file: row.name }) }, plain(row.name)),
      [number(row.trajectories), percent(row.right), number(row.unscored), number(row.calls), percent(row.succeeded), number(row.tokens, 0), number(row.corrected), number(row.repairs), percent(row.repairs_ran), number(row.lost)])), "wide")];
}

function failures(recorded, counted, n) {
  const moments = recorded && Object.keys(recorded).length ? Object.entries(recorded).map(([name, classes]) => ({ name, classes })) : [];
  const brief = (name) => name.replace(/\/attempts\/[^,]*/, "");
  const isUnique = new Set(counted.map((column) => brief(column.name))).size === counted.length;
  const columns = [...moments, ...counted.map((column) => (isUnique ? { ...column, name: brief(column.name) } : column))];
  const sum = (classes) => Object.values(classes).reduce((all, each) => all + each, 0);
  const classes = [...new Set(columns.flatMap((column) => Object.keys(column.classes)))].sort((a, b) => columns.reduce((all, { classes: each }) => all + (each[b] || 0) - (each[a] || 0), 0));
  if (!classes.length) return null;
  const cell = (column, name) => {
    const count = column.classes[name] || 0;
    const bar = svg("svg", { class: "bar-mark", viewBox: "0 0 40 8", "aria-hidden": "true" }, svg("rect", { width: (40 * count) / (sum(column.classes) || 1), height: 8 }));
    const words = column.file && count ? el("a", { href: link("trajectories", { run: n, any: "1", file: column.file, round: column.round, failure: name }) }, number(count)) : number(count);
    return [words, " ", bar];
  };
  return [el("h3", {}, "Failed calls by class"), table(["", ...columns.map((column) => plain(column.name))],
    [...classes.map((name) => line(plain(name), columns.map((column) => cell(column, name)))),
      line("failed calls", columns.map((column) => el("b", {}, number(sum(column.classes))))), line("of all calls", columns.map((column) => (column.calls ? percent(sum(column.classes) / column.calls) : "–")))], "wide")];
}

function success(found) {
  if (!Array.isArray(found?.table)) return null;
  const [all, some] = found.table;
  const row = (name, [right, wrong]) => line(name, [number(right), number(wrong), percent(right + wrong ? right / (right + wrong) : null)]);
  return [el("h3", {}, "Tool success against correctness"), table(["", "right", "wrong", "share right"], [row("every call succeeded", all), row("some call failed", some)]),
    el("p", { class: "note" }, `Pearson χ² ${number(found.chi2, 1)}, p ${number(found.p, 3)}, φ ${number(found.phi, 3)}, odds ratio ${number(found.odds_ratio, 2)}: an association over problems of mixed difficulty, not a cause.`)];
}

function cost(found, times) {
  const parts = Object.entries(times || {}).filter(([, value]) => typeof value === "number");
  const total = parts.reduce((all, [, value]) => all + value, 0);
  const rows = found.results.filter((row) => typeof row.tokens_kept === "number");
  if (!parts.length && !rows.length) return null;
  const most = Math.max(...rows.map((row) => row.tokens_kept + row.tokens_discarded), 1);
  const bar = (row) => svg("svg", { class: "whisker", viewBox: `0 0 ${AXIS} 12`, "aria-hidden": "true" }, svg("rect", { class: "kept-mark", width: (AXIS * row.tokens_kept) / most, height: 12 }),
    svg("rect", { class: "lost-mark", x: (AXIS * row.tokens_kept) / most, width: (AXIS * row.tokens_discarded) / most, height: 12 }));
  return [el("h3", {}, "Cost"),
    rows.length ? table(["", "tokens kept", "tokens cut away", "", "calls", "calls cut away", "failed at first", "repaired", "seconds"], rows.map((row) => line(plain(row.name), [number(row.tokens_kept, 0), number(row.tokens_discarded, 0), bar(row), number(row.calls),
      number((row.correction || {}).discarded_calls), number((row.correction || {}).failed), number((row.correction || {}).repaired), seconds(row.seconds)]))) : null,
    parts.length ? el("p", {}, "Wall clock: ", parts.map(([name, value], n) => [n ? ", " : "", plain(name), " ", el("b", {}, seconds(value))]), ` of ${seconds(total)}.`) : null];
}

function funnel(it) {
  const most = Math.max(...it.stages.map((stage) => stage.kept || 0), 1);
  const reasons = (stage) => Object.entries(stage.rejected || {}).map(([name, count]) => `${name} ${number(count)}`).join(", ");
  return [el("h3", {}, `Funnel of ${plain(it.name)}`), table(["", "kept", "", "rejected"], it.stages.map((stage) => line(plain(String(stage.name)), [number(stage.kept),
    svg("svg", { class: "bar-mark", viewBox: "0 0 100 8", "aria-hidden": "true" }, svg("rect", { width: (100 * (stage.kept || 0)) / most, height: 8 })), plain(reasons(stage)) || "–"])))];
}
