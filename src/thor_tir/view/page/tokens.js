// The tokens of a trajectory one by one: how sure the policy was of each, and which of them are trained.
import { get } from "./api.js";
import { el, number, plain } from "./dom.js";

// From -log p in nats to one of six shades: what was nearly certain stays white.
const SHADES = [0.05, 0.3, 0.8, 1.6, 3];

export async function tokens({ run, file, key }) {
  const found = await get(`${run}/tokens`, { file, key });
  const facts = el("p", { class: "note", role: "status" }, "Point at a token, or move with the arrow keys.");
  const say = (event) => {
    const it = event.target.dataset;
    if (it.id !== undefined) facts.textContent = it.facts;
  };
  const parts = found.spans.map((span) =>
    el("div", { class: `token-span ${span.author}` }, el("h3", {}, span.part, span.trained ? el("span", { class: "tag mend" }, "trained") : null),
      el("div", { class: "tokens", onmouseover: say, onfocusin: say }, span.ids.map((id, n) => token(span, n, id)))));
  const rest = found.total > found.shown ? ` The first ${number(found.shown)} of ${number(found.total)} tokens are shown.` : "";
  const legend = el("p", { class: "note" }, "−log p in nats: ", [...SHADES, "more"].map((most, n) => el("span", { class: `token s${n}` }, n === SHADES.length ? `> ${SHADES.at(-1)}` : `≤ ${most}`)),
    " A line under a token: it is trained. ", found.is_row ? "" : "This row entered no update: nothing of it is trained. ", rest);
  const box = el("section", { class: "token-box", "aria-label": "Tokens", onkeydown: walk }, legend, facts, parts);
  return box;
}

function token(span, n, id) {
  const text = span.texts ? span.texts[n] : `${id} `;
  const logprob = span.logprobs ? span.logprobs[n] : null;
  const ratio = span.ratios ? span.ratios[n] : null;
  const shade = logprob === null ? "" : ` s${SHADES.findIndex((most) => -logprob <= most) < 0 ? SHADES.length : SHADES.findIndex((most) => -logprob <= most)}`;
  const facts = `token ${id}` + (span.texts ? ` ${JSON.stringify(plain(text))}` : "") + `, by the ${span.author}` +
    (logprob === null ? ", not sampled here" : `, log p ${logprob.toFixed(4)}, p ${Math.exp(logprob).toPrecision(3)}`) +
    (ratio === null || ratio === undefined ? "" : `, trainer / engine ${ratio}`) + (span.trained ? ", trained" : ", not trained");
  return el("span", { class: `token${shade}${span.trained ? " trained" : ""}`, tabindex: n === 0 ? "0" : "-1", "data-id": id, "data-facts": facts }, plain(text).replaceAll("\n", "⏎\n") || "·");
}

function walk(event) {
  const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!by || !event.target.classList.contains("token")) return;
  const all = [...event.currentTarget.querySelectorAll("[data-id]")];
  all[all.indexOf(event.target) + by]?.focus();
  event.preventDefault();
  event.stopPropagation();
}
