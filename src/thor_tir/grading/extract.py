r"""Find the answer in what a model wrote. It does not judge it, and it must never be shown a tool's output.

A strict reading takes the last box, and nothing else. A lenient one goes on to `<answer>` tags, to a sentence such as
"the answer is", and in the end to the last number.
"""

import re
from collections import deque

from thor_tir.grading.strictness import Strictness

MAX_CHARS = 1_000_000
"""Of a response; only its end can hold the answer, so what stands before is not read."""

_MARK = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
"""An opening box, an escaped character (so `\\{` is no brace), or a brace."""

_THOUGHT_ENDS = "</think>"
_TOOL_FENCE = re.compile(r"^```(?:output|result|text output|python|py)[ \t]*\n", re.MULTILINE)
_BARE_BOX = re.compile(r"\\(?:boxed|fbox)\s+([^\s{}$\\.,]{1,64})")
_TAG_OPENS, _TAG_CLOSES = "<answer>", "</answer>"
_SENTENCE = re.compile(
    r"(?:final answer|the answer|answer|réponse finale|la réponse|die antwort|la respuesta|答案)"
    r"(?: (?:is|ist|est|es|to the problem is|would be))?[ *]*[:：=是为]?[ *]*",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\n|(?<!\d)\.(?=\s|$)|\.(?=\s|$)|[。]|, (?:which|because|since|as|so) ")
_MATHS_SPAN = re.compile(r"\$\$?([^$]{1,2000})\$\$?|\\\(([^\n]{1,2000}?)\\\)|\\\[(.{1,2000}?)\\\]", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?|-?\.\d+")


def extract_answer(text: str, strictness: Strictness = Strictness.STRICT) -> str | None:
    r"""The final answer in a response; None where there is none.

    That is the content of the last `\boxed{...}` or `\fbox{...}` whose braces balance. An empty last box takes the
    answer back. Of nested boxes the innermost of the last one counts. Where the model closed a `<think>` block, only
    what follows it is an answer: inside it candidates are still weighed. Linear in the length, whatever the nesting.
    """
    text = _without_tool_output(text[-MAX_CHARS:].rpartition(_THOUGHT_ENDS)[2])
    boxed = _last_box(text)
    if boxed is not None:
        return boxed.strip() or None
    return _outside_a_box(text) if strictness is Strictness.LENIENT else None


def _last_box(text: str) -> str | None:
    """Content of the last complete box, perhaps empty; None where no box is complete."""
    last_start = last_end = -1
    opened: list[int] = []
    for mark in _MARK.finditer(text):
        if mark[0] == "}":
            start = opened.pop() if opened else -1
            if start > last_start:
                last_start, last_end = start, mark.start()
        elif mark[0].endswith("{") and mark[0] != r"\{":
            opened.append(mark.end() if len(mark[0]) > 1 else -1)
    return text[last_start:last_end] if last_start >= 0 else None


def _without_tool_output(text: str) -> str:
    """The text without fenced blocks that are marked as a program or its output: a box in there is not the model's."""
    kept, at = [], 0
    while fence := _TOOL_FENCE.search(text, at):
        kept.append(text[at : fence.start()])
        end = text.find("\n```", fence.end() - 1)
        at = len(text) if end < 0 else end + 4
    return "".join([*kept, text[at:]])


def _outside_a_box(text: str) -> str | None:
    bare = _last_match(_BARE_BOX, text)
    if bare:
        return bare[1]
    start = text.rfind(_TAG_OPENS)
    end = text.find(_TAG_CLOSES, start)
    if start >= 0 and end >= 0:
        return _unwrapped(text[start + len(_TAG_OPENS) : end]) or None
    if sentence := _last_match(_SENTENCE, text):
        rest = text[sentence.end() :].lstrip()
        said = rest[:2000]
        if (span := _MATHS_SPAN.match(said)) or (span := _MATHS_SPAN.match(said.lstrip("* "))):
            return _unwrapped(span[1] or span[2] or span[3])
        first = _ENDS.split(said, maxsplit=1)[0].strip(" *.$")
        if first:
            return _unwrapped(first)
    number = _last_match(_NUMBER, text)
    return number[0].rstrip(",") if number else None


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _unwrapped(text: str) -> str:
    """Without the dollars, brackets and stars that set a formula apart."""
    text = text.strip().strip("*").strip()
    span = _MATHS_SPAN.fullmatch(text)
    return (span[1] or span[2] or span[3]).strip() if span else text.rstrip(".").strip()
