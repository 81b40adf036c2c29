r"""Find the answer in what a model wrote. It does not judge it, and it must never be shown a tool's output.

A strict reading takes the last box, or else what stands in `<answer>` tags, and nothing else. A lenient one goes on to
a sentence such as "the answer is", a formula, and in the end the last number.
"""

import re
from bisect import bisect
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from thor_tir.verdict import Strictness

MAX_CHARS = 1_000_000
"""Characters of a response that are read; only its end can hold the answer, so what stands before is not read."""

_MARK = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|\{+|\}+", re.DOTALL)
"""An opening box, an escaped character (so `\\{` is no brace), or braces in a row."""
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])")
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]{0,64}\}){0,64}\}){0,64}\}"
_BARE_BOX = re.compile(
    rf"\\(?:boxed|fbox)(?![a-zA-Z{{]|\s+{{)\s*(?:\$([^$\n]{{1,64}})\$"
    rf"|([+-]?\s?\\[dtc]?frac\s*(?:{_GROUP}|\d)\s*(?:{_GROUP}|\d)|[+-]?\s?\\sqrt(?:\[\w{{1,8}}\])?\s*(?:{_GROUP}|\d)"
    rf"|[+-]?\s?\\[a-zA-Z]+(?:{_GROUP})?)|(\\\{{[^{{}}\n]{{0,64}}\\\}}|[(\[][^()\[\]\n]{{1,64}}[)\]])|([^\s{{}}$\\]{{1,64}}))"
)
"""A box without braces and what it takes: a formula in dollars, a command with its arguments, a bracket, a word."""
_MENTION = re.compile(r"[A-Za-z]{2,}|[\W_]*")
"""Words that follow the bare command in a sentence about boxes."""

_FENCE = re.compile(r"(?:[ \t>]|[-*+][ \t]|\d{1,2}[.)][ \t])*(`{3,}|~{3,})(.*)")
_FENCE_LABEL = re.compile(r"\s*(?:\{?[.]?[A-Za-z][\w+#.-]*(?:[ ,:][ \w+#.,:=\"'-]*)?\}?)\s*")
_WRITING = frozenset(
    ("text", "txt", "plaintext", "plain", "tex", "latex", "math", "markdown", "md", "answer", "final", "mathjax")
)
"""Labels of fences that hold what the model writes; any other label is of a program or its output."""

_DOUBLED = re.compile(r"(?<!\\)\\\\(?=(?:boxed|fbox)\s*\{)")
"""A box whose backslash was escaped on its way."""

_DELIMITER = re.compile(r"\\[()\[\]]|\\q?quad|\$|\\[ ,;]|\\text\s*\{([^{}]*)\}|\s+")
_CONJUNCTIONS = frozenset((",", ";", "and", "or", ",and", ",or"))
_LISTED = re.compile(r"[\w ]*?(?:\b(?:and|or)\b|,)[\w ]*=?\s*", re.IGNORECASE)
_CONCLUDES = re.compile(r"\b(?:so|thus|hence|then|therefore|is|are|gives?|makes?|get|we)\b", re.IGNORECASE)
CORRECTION = re.compile(
    r"\b(?:not|no|rather|instead|but|wait|actually|sorry|wrong|correction|corrected|corrigendum|errat(?:um|a)|edit|edited|"
    r"updated?|should be|was)\b|\\neq?\b|≠|!=",
    re.IGNORECASE,
)
"""Words by which a text takes one of its two values back."""
_VARIABLE = re.compile(r"[a-z](?:_\{?\w\}?)?=$")
_MAX_JOINER = 60
_MAX_WORDS_BETWEEN = 15
"""Characters between two boxes of a reference: `\\boxed{1} papers and \\boxed{2} bins`."""

_TAG_OPENS = re.compile(r"<answer>", re.IGNORECASE)
_TAG_CLOSES = re.compile(r"</answer>", re.IGNORECASE)
_MAX_FORMULA_CHARS = 2_000
"""Characters of a formula or a sentence."""
_WINDOW_CHARS = 20_000
"""Characters at the end of a response that are searched without a box.

A flood of opening brackets costs at most the product of the two limits.
"""
_SENTENCE = re.compile(
    r"(?:final answer|the answer|answer|réponse finale|la réponse|die antwort|la respuesta|答案)"
    r"(?: (?:is|ist|est|es|to the problem is|would be))?[ *]{0,9}[:：=是为]?[ *]{0,9}",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\n|(?<!\d)\.(?=\s|$)|\.(?=\s|$)|[。]|, (?:which|because|since|as|so) ")
_FORMULA = re.compile(
    rf"(?<!\\)\$\$?((?:[^$\\]|\\.){{1,{_MAX_FORMULA_CHARS}}})\$\$?"
    rf"|\\\(([^\n]{{1,{_MAX_FORMULA_CHARS}}}?)\\\)|\\\[(.{{1,{_MAX_FORMULA_CHARS}}}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?%?")
_BEFORE_VALUE = re.compile(r"(?:[ *$]|\.(?!\d)|(?<=\.)\.)+")
"""Marks before a value; the point of `.5` belongs to it, and that of `...5` does not."""
_COMMAND = re.compile(r"\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_PROSE = re.compile(r"(?<![a-zA-Z])(?!(?:and|or)(?![a-zA-Z]))[a-zA-Z]{2,} +(?!(?:and|or)(?![a-zA-Z]))[a-zA-Z]{2,}")
_LABEL = re.compile(r"\s*[A-Za-zÀ-ÿ]{3,} ?:")
_BEGINS_WITH_WORDS = re.compile(r"[A-Za-z]{2,} +\S")
_END_OF_TURN = re.compile(r"<\|[a-z_]{1,30}\|>")
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|`{1,2}|~~)(?=[^\s*_`~])(.*[^\s])\1[.]?", re.DOTALL)
_LIST_MARK = re.compile(r"(?:>\s*|(?:[-*+•]|\d{1,2}[.)])\s+(?=[*_`$\\>]))+")
"""A quote, or an item of a list whose content is set apart; `- 58` alone may be a negative number."""
_ITEM = re.compile(r"(?:[-*+•]|\d{1,2}[.)])\s+(?=\S)")
_CODE = re.compile(r"`([^`\n]{1,200})`")
_CODE_AT_END = re.compile(r"`([^`\n]{0,200}\d[^`\n]{0,200})`[\s.*_]*$")
_MAX_ALONE = 256
"""A response no longer than this and without a sentence may be the answer itself."""


def extract_answer(text: str, strictness: Strictness = Strictness.STRICT) -> str | None:
    r"""The final answer in a response; None where there is none.

    That is the content of the last `\boxed{...}` or `\fbox{...}` whose braces balance, together with the boxes that a
    comma, `and` or `or` alone joins to it: `\boxed{1} and \boxed{2}` is one answer of two values. A box may come
    without braces, `\boxed 8`. An empty last box takes the answer back, and so does, in a strict reading, a box that
    never closes, around the last one or behind it. Of nested boxes the
    innermost of the last one counts. Where the model closed a `<think>` block, only what follows it is an answer:
    inside it candidates are still weighed. Linear in the length, whatever the nesting.
    """
    text = _DOUBLED.sub(r"\\", _without_tool_output(after_thoughts(text[-MAX_CHARS:])))
    boxed, is_open = _last_boxes(text), has_open_box(text)
    if boxed is not None and strictness is Strictness.STRICT and _wrote_into_an_open_box(text):
        return None
    if boxed is not None and not (is_open and strictness is Strictness.STRICT):
        return boxed or None
    if is_open:
        return _announced_without_a_box(text) if strictness is Strictness.LENIENT else None
    if bare := _last_match(_BARE_BOX, text):  # a word, for a box with a value is among those above
        return _bare_content(bare) or None
    if (inside := tagged(text)) is not None:
        return inside or None
    return _outside_a_box(text) if strictness is Strictness.LENIENT else None


def after_thoughts(text: str) -> str:
    """The text after the last thinking turn that was closed; all of it where none was."""
    return text.rpartition("</think>")[2]


def from_its_box(text: str) -> str:
    """An answer that came with text around its box: what is in the box. Others stay as they are.

    Empty where a later box was left open.
    """
    text = text[-MAX_CHARS:]
    if not _BOX.search(text):
        return text
    text = _DOUBLED.sub(r"\\", text)
    boxed = _last_boxes(text)
    return "" if boxed and has_open_box(text) else boxed or text


def has_box(text: str) -> bool:
    r"""True if the text holds the command of a box, complete or not."""
    return _BOX.search(text) is not None


def from_its_boxes(reference: str) -> str:
    """A reference that is a whole solution: what is in its boxes. Those close together are parts of one answer."""
    if not _BOX.search(reference):
        return reference
    return _last_boxes(_DOUBLED.sub(r"\\", reference), joins=_joins_in_reference) or reference


def boxes_correct_each_other(reference: str) -> bool:
    """True if words of a correction stand between boxes of different content: which one counts is not said."""
    text = _DOUBLED.sub(r"\\", reference)
    boxes = complete_boxes(text)
    pairs = pairwise(boxes)
    return any(one.content != two.content and CORRECTION.search(text[one.after : two.command]) for one, two in pairs)


def _joins_in_reference(between: str) -> bool:
    """True for a comma, `and` or `or`, with the noun of a value at most: `\\boxed{1} papers and \\boxed{2} bins`."""
    if _joins(between):
        return True
    plain = _DELIMITER.sub(lambda sign: f" {(sign[1] or '').strip()} ", between)
    return len(between) <= _MAX_WORDS_BETWEEN and bool(_LISTED.fullmatch(plain)) and not _CONCLUDES.search(plain)


def _joins(between: str) -> bool:
    if len(between) > _MAX_JOINER:
        return False
    plain = _DELIMITER.sub(lambda sign: (sign[1] or "").strip(), between).lower()
    return _VARIABLE.sub("", plain) in _CONJUNCTIONS


def _last_boxes(text: str, joins: Callable[[str], bool] = _joins) -> str | None:
    """Content of the last complete box, perhaps empty, and of those joined to it; None where no box is complete."""
    boxes = complete_boxes(text)
    if not boxes:
        return None
    first = len(boxes) - 1
    while first and joins(text[boxes[first - 1].after : boxes[first].command]):
        first -= 1
    return ", ".join(dict.fromkeys(box.content for box in boxes[first:]))


def has_open_box(text: str) -> bool:
    """True if a box that begins behind every complete one never closes: a correction that was cut off."""
    boxes, opened = complete_boxes(text), _scan_boxes(text)[1]
    last = boxes[-1].after if boxes else 0
    return bool(opened and opened[-1][0] >= last)


def _wrote_into_an_open_box(text: str) -> bool:
    """True if a box never closes that holds more than another box: which of the two was meant is not said."""
    return any(not _BOX.match(text[start : start + _MAX_JOINER].lstrip()) for _, start, _ in _scan_boxes(text)[1])


class Box(NamedTuple):
    """A complete box of a text."""

    command: int
    """The place of its command."""
    after: int
    """The place behind it."""
    content: str


def complete_boxes(text: str) -> list[Box]:
    """The boxes that hold no other, in order; one without braces counts where a value follows it."""
    braced = [Box(command, end + 1, text[start:end].strip()) for command, start, end in _scan_boxes(text)[0]]
    bare = [
        Box(found.start(), found.end(), _bare_content(found))
        for found in _BARE_BOX.finditer(text)
        if not (found[4] and _MENTION.fullmatch(found[4]))
    ]
    if not bare:
        return braced
    if not braced:
        return bare
    starts = [box.command for box in braced]
    outside = [box for box in bare if not (at := bisect(starts, box.command)) or braced[at - 1].after <= box.command]
    return sorted([*braced, *outside])


def _bare_content(found: re.Match[str]) -> str:
    return (found[1] or found[2] or found[3] or found[4].rstrip(".,;:!?*_`)")).strip()


def _scan_boxes(text: str) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """The complete boxes in braces, and those left open: command, content, and closing brace or the braces open."""
    boxes: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int, int]] = []
    depth = 0
    for mark in _MARK.finditer(text):
        if mark[0][0] == "{":
            depth += len(mark[0])
        elif mark[0][0] == "}":
            left = max(0, depth - len(mark[0]))
            while opened and opened[-1][2] > left:
                command, start, own = opened.pop()
                if not boxes or start > boxes[-1][1]:
                    boxes.append((command, start, mark.start() + depth - own))
            depth = left
        elif mark[0][-1] == "{" and mark[0] != r"\{":
            depth += 1
            opened.append((mark.start(), mark.end(), depth))
    return boxes, opened


def _without_tool_output(text: str) -> str:
    """The text without fenced blocks that are marked as a program or its output: a box in there is not the model's."""
    if "```" not in text and "~~~" not in text:
        return text
    kept: list[str] = []
    mark, is_program = "", False
    for line in text.split("\n"):
        fence = _FENCE.match(line)
        sign, rest = (fence[1], fence[2]) if fence else ("", "")
        if fence and not mark:
            if sign[0] in rest:  # code in a line of text
                kept.append(line)
                continue
            mark, is_program = sign, _is_program(rest)
            kept.append(line if not is_program else "")
        elif fence and sign[0] == mark[0] and len(sign) >= len(mark):
            opens_another = _is_program(rest)
            kept.append("" if opens_another else rest if is_program else line)
            mark, is_program = (sign, True) if opens_another else ("", False)
        elif not is_program:
            kept.append(line)
    return "\n".join(kept)


def _is_program(label: str) -> bool:
    """True if what follows the marks of a fence names a language or an output, and not a kind of writing."""
    if not _FENCE_LABEL.fullmatch(label):
        return False
    return not all(word in _WRITING for word in re.findall(r"[a-z]+", label.lower()))


def tagged(text: str) -> str | None:
    """The content of the last `<answer>` tags, perhaps empty; None without tags."""
    opens = _last_match(_TAG_OPENS, text)
    closes = opens and _TAG_CLOSES.search(text, opens.end())
    return _unwrapped(text[opens.end() : closes.start()]) if opens and closes else None


def _announced_without_a_box(text: str) -> str | None:
    """The answer of a sentence beside a box that never closes; None where the open box alone has it."""
    sentence = _last_match(_SENTENCE, text[-_WINDOW_CHARS:])
    said = _said(text[-_WINDOW_CHARS:][sentence.end() :]) if sentence else ""
    value = announced(said) if said else ""
    return None if not value or _BOX.search(value) or _BOX.search(said.partition(value)[0]) else value


def _outside_a_box(text: str) -> str | None:
    """The answer of a sentence that announces one; or the whole of a short text; or the last formula or number."""
    text = text[-_WINDOW_CHARS:]
    sentence = _last_match(_SENTENCE, text)
    if sentence and (value := announced(_said(text[sentence.end() :]))):
        return value
    alone = _END_OF_TURN.split(text, maxsplit=1)[0].strip()
    if alone and len(alone) <= _MAX_ALONE and "\n" not in alone and not _has_prose(alone):
        return _unwrapped(alone)
    return _last_value(text)


def _said(rest: str) -> str:
    """The text after an announcement; on a line of its own it may be an item of a list: `- 58`."""
    said = rest.lstrip()
    is_new_line = "\n" in rest[: len(rest) - len(said)]
    return (_ITEM.sub("", said) if is_new_line else said)[:_MAX_FORMULA_CHARS]


def announced(said: str) -> str:
    """The answer at the beginning of what follows an announcement such as "the answer is"; empty where none is."""
    if (formula := _FORMULA.match(said)) or (formula := _FORMULA.match(said.lstrip("* "))):
        return _content(formula)
    first = _ENDS.split(said, maxsplit=1)[0].rstrip(" *.$")
    if marks := _BEFORE_VALUE.match(first):
        first = first[marks.end() :]
    if first.count("**") % 2:  # the announcement took the stars that open it
        first = first.replace("**", "", 1)
    if code := _CODE.fullmatch(_without_markdown(first)):
        return code[1].strip()
    if _BEGINS_WITH_WORDS.match(first) and (value := _last_value(first)):
        return value
    return _unwrapped(first)


def _last_value(text: str) -> str | None:
    """The last number, or the formula that holds it or comes after it."""
    formulas = deque((found for found in _FORMULA.finditer(text) if not _has_prose(_content(found))), maxlen=1)
    code = _last_match(_CODE_AT_END, text)
    if code and not _has_prose(code[1]):
        return code[1].strip()
    number = _last_match(_NUMBER, text)
    if formulas and (number is None or number.start() < formulas[0].end()):
        return _content(formulas[0])
    return number[0].rstrip(",") if number else None


def _has_prose(text: str) -> bool:
    """True if two words stand side by side outside of `\\text{...}`, which is how a dollar sign for money shows."""
    plain = _COMMAND.sub(" ", text)
    return bool(_PROSE.search(plain) or _LABEL.match(plain))


def _content(formula: re.Match[str]) -> str:
    return (formula[1] or formula[2] or formula[3]).strip()


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _unwrapped(text: str) -> str:
    """Without the dollars, brackets and marks of markdown that set a formula apart."""
    text = _without_markdown(text)
    formula = _FORMULA.fullmatch(text)
    return _content(formula) if formula else text.rstrip(".").strip()


def _without_markdown(text: str) -> str:
    """The text without emphasis, inline code, and the marks of a quote or a list item around all of it."""
    while True:
        shorter = _LIST_MARK.sub("", text.strip(), count=1) if _LIST_MARK.match(text.strip()) else text.strip()
        if emphasised := _EMPHASIS.fullmatch(shorter):
            shorter = emphasised[2]
        shorter = shorter.strip().strip("*").strip()
        if shorter == text:
            return text
        text = shorter
