// Mathematics within text, set by KaTeX as MathML; whatever it does not understand stays text.
import { el, shown } from "./dom.js";

const OPEN = /\$\$|\$(?=\S)|\\\(|\\\[|\\boxed\s*\{/g;
const MOST = 2000;
const MOST_FORMULAS = 300;

// The text of a formula that begins at `place` with `opening`, and where it ends; null where none ends.
function formula(text, opening, place) {
  const begin = place + opening.length;
  if (opening.startsWith("\\boxed")) {
    let depth = 1;
    for (let at = begin; at < text.length && at - begin < MOST; at++) {
      if (text[at] === "\\") at++;
      else if (text[at] === "{") depth++;
      else if (text[at] === "}" && --depth === 0) return { tex: text.slice(place, at + 1), end: at + 1, block: false };
    }
    return null;
  }
  const closing = { $$: "$$", $: "$", "\\(": "\\)", "\\[": "\\]" }[opening];
  let end = text.indexOf(closing, begin);
  while (end > 0 && text[end - 1] === "\\" && closing[0] === "$") end = text.indexOf(closing, end + 1);
  if (end < 0 || end - begin > MOST || end === begin) return null;
  const tex = text.slice(begin, end);
  if (opening === "$" && (/\n\s*\n/.test(tex) || /\s$/.test(tex) || /\d/.test(text[end + 1] || ""))) return null; // prices
  return { tex, end: end + closing.length, block: opening === "$$" || opening === "\\[" };
}

function set(tex, block) {
  const place = el("span", { class: block ? "math block" : "math" });
  try {
    globalThis.katex.render(tex, place, { output: "mathml", displayMode: block, throwOnError: true, trust: false, strict: "ignore", maxExpand: 200, maxSize: 20 });
    return place;
  } catch {
    return null;
  }
}

export function prose(text) {
  const whole = document.createDocumentFragment();
  let end = 0;
  let count = 0;
  OPEN.lastIndex = 0;
  for (let found = OPEN.exec(text); found && globalThis.katex && count < MOST_FORMULAS; found = OPEN.exec(text)) {
    const read = formula(text, found[0], found.index);
    const node = read && set(read.tex, read.block);
    if (!node) continue;
    count++;
    whole.append(shown(text.slice(end, found.index)), node);
    end = OPEN.lastIndex = read.end;
  }
  whole.append(shown(text.slice(end)));
  return whole;
}
