// Curves as SVG: smoothed over what was measured, read by pointer or by arrow keys, each point a way to its round.
import { el, number, svg } from "./dom.js";

const WIDTH = 340;
const HEIGHT = 170;
const EDGE = { left: 46, right: 8, top: 8, bottom: 22 };

// An exponential mean that begins unbiased, as TensorBoard has it.
export function smoothed(points, weight) {
  let mean = 0;
  let sum = 0;
  return points.map(([x, y]) => {
    mean = weight * mean + (1 - weight) * y;
    sum = weight * sum + 1 - weight;
    return [x, mean / sum];
  });
}

export function ticks(low, high, most) {
  const rough = (high - low) / most || 1;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((each) => each >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step * 1e-9 ? 0 : at);
  return found;
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e4 || (size && size < 1e-3)) return value.toExponential(1).replace(".0e", "e").replaceAll("-", "−");
  return String(Number(value.toPrecision(3))).replace("-", "−");
}

export function chart({ title, look_for: lookFor, series }, { smooth, style, choose, unit }) {
  const all = series.flatMap((each) => each.points);
  const [x0, x1] = range(all.map(([x]) => x), 0);
  const [y0, y1] = range(all.map(([, y]) => y), 0.06);
  const px = (x) => EDGE.left + ((x - x0) / (x1 - x0)) * (WIDTH - EDGE.left - EDGE.right);
  const py = (y) => HEIGHT - EDGE.bottom - ((y - y0) / (y1 - y0)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const path = (points) => points.map(([x, y], n) => `${n ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  const cursor = svg("line", { class: "cursor", y1: EDGE.top, y2: HEIGHT - EDGE.bottom, x1: -9, x2: -9 });
  const reading = el("p", { class: "reading", "aria-live": "polite" }, lookFor);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: "0", role: "img", "aria-label": `${title}. Arrow keys read values, Enter opens the ${unit}.` },
    ticks(y0, y1, 4).map((y) => [svg("line", { class: "grid", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: py(y), y2: py(y) }), svg("text", { x: EDGE.left - 5, y: py(y) + 3.5, "text-anchor": "end" }, short(y))]),
    ticks(x0, x1, 5).filter(Number.isInteger).map((x) => svg("text", { x: px(x), y: HEIGHT - 7, "text-anchor": "middle" }, short(x))),
    series.map((each) => {
      const at = style(each);
      const line = smoothed(each.points, smooth);
      return [
        smooth > 0 ? svg("path", { class: `curve raw ${at}`, d: path(each.points) }) : null,
        each.points.length === 1 ? svg("circle", { class: `dot-mark ${at}`, cx: px(each.points[0][0]), cy: py(each.points[0][1]), r: 3 }) : svg("path", { class: `curve ${at}`, d: path(line) }),
      ];
    }), cursor);
  const xs = [...new Set(all.map(([x]) => x))].sort((a, b) => a - b);
  let at = -1;

  function read(place) {
    at = Math.max(0, Math.min(xs.length - 1, place));
    const x = xs[at];
    cursor.setAttribute("x1", px(x));
    cursor.setAttribute("x2", px(x));
    const values = series.map((each) => [each, each.points.find(([where]) => where === x)]).filter(([, point]) => point);
    reading.replaceChildren(el("b", {}, `${unit} ${x}`), ...values.map(([each, [, y]]) => el("span", { class: `value ${style(each)}` }, `${each.name} ${number(y, 4)}`)));
  }

  function rest() {
    at = -1;
    cursor.setAttribute("x1", -9);
    cursor.setAttribute("x2", -9);
    reading.replaceChildren(lookFor);
  }

  const nearest = (event) => {
    const box = drawing.getBoundingClientRect();
    const x = x0 + (((event.clientX - box.left) / box.width) * WIDTH - EDGE.left) / (WIDTH - EDGE.left - EDGE.right) * (x1 - x0);
    return xs.reduce((best, each, n) => (Math.abs(each - x) < Math.abs(xs[best] - x) ? n : best), 0);
  };
  drawing.addEventListener("pointermove", (event) => read(nearest(event)));
  drawing.addEventListener("pointerleave", rest);
  drawing.addEventListener("blur", rest);
  drawing.addEventListener("click", (event) => choose(xs[nearest(event)]));
  drawing.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) read(at < 0 && by < 0 ? xs.length - 1 : Number.isFinite(by) ? at + by : by < 0 ? 0 : xs.length - 1);
    else if (event.key === "Enter" && at >= 0) choose(xs[at]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return el("figure", { class: "chart" }, el("figcaption", {}, title, legend(series, style)), drawing, reading);
}

function legend(series, style) {
  const labels = new Map(series.filter((each) => each.label).map((each) => [each.label, style(each)]));
  if (labels.size < 2) return null;
  return el("span", { class: "legend" }, [...labels].map(([label, at]) => el("span", {}, svg("svg", { viewBox: "0 0 22 8", "aria-hidden": "true" }, svg("line", { class: `curve ${at}`, x1: 0, x2: 22, y1: 4, y2: 4 })), label)));
}

function range(values, margin) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) {
    low -= Math.abs(low) * 0.1 || 0.5;
    high += Math.abs(high) * 0.1 || 0.5;
  }
  const room = (high - low) * margin;
  return [low - room, high + room];
}
