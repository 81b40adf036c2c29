// Python in colours, by one regular expression: no meaning, only what a reader's eye looks for.
import { el, plain } from "./dom.js";

const PYTHON = new RegExp(
  [
    "(?<comment>#[^\\n]*)",
    "(?<string>(?:\\b[rbfuRBFU]{1,2})?(?:\"\"\"[\\s\\S]*?(?:\"\"\"|$)|'''[\\s\\S]*?(?:'''|$)|\"(?:\\\\.|[^\"\\\\\\n])*\"?|'(?:\\\\.|[^'\\\\\\n])*'?))",
    "(?<number>\\b(?:0[xX][0-9a-fA-F_]+|0[bB][01_]+|0[oO][0-7_]+|\\d[\\d_]*(?:\\.\\d*)?(?:[eE][+-]?\\d+)?j?)\\b)",
    "(?<keyword>\\b(?:False|None|True|and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is|lambda|match|nonlocal|not|or|pass|raise|return|try|while|with|yield)\\b)",
    "(?<call>\\b[A-Za-z_]\\w*(?=\\())",
  ].join("|"),
  "g",
);
const MOST = 40000;

export function python(code) {
  const text = plain(code.replace(/\n$/, ""));
  if (text.length > MOST) return el("code", {}, text);
  const parts = [];
  let end = 0;
  for (const found of text.matchAll(PYTHON)) {
    if (found.index > end) parts.push(text.slice(end, found.index));
    const kind = Object.keys(found.groups).find((name) => found.groups[name] !== undefined);
    parts.push(el("span", { class: `py-${kind}` }, found[0]));
    end = found.index + found[0].length;
  }
  parts.push(text.slice(end));
  return el("code", {}, parts);
}
