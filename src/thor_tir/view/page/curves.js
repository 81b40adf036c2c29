// The curves of all runs in one grid, with one smoothing for all; a point leads to the trajectories of its round.
import { get } from "./api.js";
import { go, here } from "./address.js";
import { chart } from "./charts.js";
import { el, plain } from "./dom.js";

const COLOURS = 6;
const NAMES = { rounds: "Training, by rounds" };

export async function curves(main, page) {
  const bar = el("div", { class: "bar" });
  const body = el("div", { class: "curves" });
  main.append(bar, body);
  let groups = [];
  let drawn = "";

  async function move() {
    await renew();
  }

  async function renew() {
    groups = await get("curves");
    draw();
  }

  function settings() {
    const { params } = here();
    return { smooth: Number(params.get("smooth") || 0.6), hidden: new Set((params.get("hide") || "").split(",").filter(Boolean)) };
  }

  function put(changes) {
    const { params } = here();
    go("curves", { run: params.get("run"), smooth: params.get("smooth"), hide: params.get("hide"), ...changes }, { replace: true });
  }

  function draw() {
    const { smooth, hidden } = settings();
    const now = JSON.stringify([groups, smooth, [...hidden]]);
    if (now === drawn) return;
    drawn = now;
    const runs = page.state().runs;
    if (!bar.contains(document.activeElement)) drawBar(runs, smooth, hidden);
    const many = runs.length > 1;
    const labels = new Map();
    const style = (series) => many ? `c${series.run % COLOURS} d${place(labels, series.label)}` : `c${place(labels, series.label) % COLOURS}`;
    const at = document.activeElement?.closest?.("[data-chart]")?.dataset.chart;
    body.replaceChildren(...groups.flatMap((group) => {
      const charts = group.charts.map((each) => ({
        ...each,
        series: each.series.filter((series) => !hidden.has(String(series.run))).map((series) => ({ ...series, name: plain([many ? runs[series.run].name : "", series.label].filter(Boolean).join(" ")) })),
      })).filter((each) => each.series.length);
      const unit = group.name === "rounds" ? "round" : "step";
      const choose = (x) => unit === "round" && go("trajectories", { run: here().params.get("run") || charts[0].series[0].run, any: "1", round: x });
      return charts.length ? [el("h2", {}, plain(NAMES[group.name] || group.name)), el("div", { class: "grid" }, charts.map((each) => {
        labels.clear();
        const drawing = chart(each, { smooth, style, choose, unit });
        drawing.dataset.chart = `${group.name} ${each.title}`;
        return drawing;
      }))] : [];
    }));
    if (at) [...body.querySelectorAll("[data-chart]")].find((each) => each.dataset.chart === at)?.querySelector("svg").focus();
    if (!groups.length) body.replaceChildren(el("p", { class: "nothing" }, "No numbers of rounds or steps were found in these folders."));
  }

  function drawBar(runs, smooth, hidden) {
    const toggle = (n) => {
      const next = new Set(hidden);
      if (!next.delete(String(n))) next.add(String(n));
      put({ hide: [...next].join(",") });
    };
    bar.replaceChildren(
      el("label", {}, "smoothing ", el("input", { type: "range", min: "0", max: "0.95", step: "0.05", value: String(smooth), name: "smooth", oninput: (event) => put({ smooth: event.target.value }) })),
      ...(runs.length > 1 ? runs.map((run, n) => el("label", { class: `run c${n % COLOURS}` }, el("input", { type: "checkbox", checked: !hidden.has(String(n)), onchange: () => toggle(n) }), plain(run.name))) : []),
      el("span", { class: "dim" }, "A click on a point of a round opens its trajectories."));
  }

  return { move, renew };
}

function place(labels, label) {
  if (!labels.has(label)) labels.set(label, labels.size);
  return labels.get(label);
}
