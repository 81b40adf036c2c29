r"""The answer of a response without a box: between `<answer>` tags, behind "the answer is", or the last thing said.

Only the tags are an unmistakable mark; the rest is guessing, good enough for an evaluation and not for a reward.
"""

import re
from collections import deque

_TAG_OPENS, _TAG_CLOSES = "<answer>", "</answer>"
_MAX_CHARS = 2_000
"""Of a formula or a sentence."""
_WINDOW_CHARS = 20_000
"""Of the response's end; a flood of opening brackets costs at most the product of the two."""
_SENTENCE = re.compile(
    r"(?:final answer|the answer|answer|réponse finale|la réponse|die antwort|la respuesta|答案)"
    r"(?: (?:is|ist|est|es|to the problem is|would be))?[ *]{0,9}[:：=是为]?[ *]{0,9}",
    re.IGNORECASE,
)
_ENDS = re.compile(r"\n|(?<!\d)\.(?=\s|$)|\.(?=\s|$)|[。]|, (?:which|because|since|as|so) ")
_FORMULA = re.compile(
    rf"(?<!\\)\$\$?((?:[^$\\]|\\.){{1,{_MAX_CHARS}}})\$\$?"
    rf"|\\\(([^\n]{{1,{_MAX_CHARS}}}?)\\\)|\\\[(.{{1,{_MAX_CHARS}}}?)\\\]",
    re.DOTALL,
)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?|-?\.\d+")
_COMMAND = re.compile(r"\\(?:text\w*|mbox|mathrm)\s*\{[^{}]*\}|\\[a-zA-Z]+")
_PROSE = re.compile(r"(?<![a-zA-Z])(?!(?:and|or)(?![a-zA-Z]))[a-zA-Z]{2,} +(?!(?:and|or)(?![a-zA-Z]))[a-zA-Z]{2,}")
_LABEL = re.compile(r"\s*[A-Za-zÀ-ÿ]{3,} ?:")
_BEGINS_WITH_WORDS = re.compile(r"[A-Za-z]{2,} +\S")
_END_OF_TURN = re.compile(r"<\|[a-z_]{1,30}\|>")
_MAX_ALONE = 256
"""A response no longer than this and without a sentence may be the answer itself."""


def tagged(text: str) -> str | None:
    """What stands in the last `<answer>` tags, perhaps nothing; None without tags."""
    start = text.rfind(_TAG_OPENS)
    end = text.find(_TAG_CLOSES, start)
    return _unwrapped(text[start + len(_TAG_OPENS) : end]) if start >= 0 and end >= 0 else None


def outside_a_box(text: str) -> str | None:
    """The answer of a sentence that announces one; or the whole of a short text; or the last formula or number."""
    text = text[-_WINDOW_CHARS:]
    sentence = _last_match(_SENTENCE, text)
    if sentence and (announced := _announced(text[sentence.end() :].lstrip()[:_MAX_CHARS])):
        return announced
    alone = _END_OF_TURN.split(text, maxsplit=1)[0].strip()
    if alone and len(alone) <= _MAX_ALONE and "\n" not in alone and not _has_prose(alone):
        return _unwrapped(alone)
    return _last_value(text)


def _announced(said: str) -> str:
    if (formula := _FORMULA.match(said)) or (formula := _FORMULA.match(said.lstrip("* "))):
        return _content(formula)
    first = _ENDS.split(said, maxsplit=1)[0].strip(" *.$")
    if _BEGINS_WITH_WORDS.match(first) and (value := _last_value(first)):
        return value
    return _unwrapped(first)


def _last_value(text: str) -> str | None:
    """The last number, or the formula that holds it or comes after it."""
    formulas = deque((found for found in _FORMULA.finditer(text) if not _has_prose(_content(found))), maxlen=1)
    number = _last_match(_NUMBER, text)
    if formulas and (number is None or number.start() < formulas[0].end()):
        return _content(formulas[0])
    return number[0].rstrip(",") if number else None


def _has_prose(text: str) -> bool:
    """Whether two words stand side by side outside of `\\text{...}`, which is how a dollar sign for money shows."""
    plain = _COMMAND.sub(" ", text)
    return bool(_PROSE.search(plain) or _LABEL.match(plain))


def _content(formula: re.Match[str]) -> str:
    return (formula[1] or formula[2] or formula[3]).strip()


def _last_match(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = deque(pattern.finditer(text), maxlen=1)
    return found[0] if found else None


def _unwrapped(text: str) -> str:
    """Without the dollars, brackets and stars that set a formula apart."""
    text = text.strip().strip("*").strip()
    formula = _FORMULA.fullmatch(text)
    return _content(formula) if formula else text.rstrip(".").strip()
