"""Text with programs and their outputs in it, taken apart: words, programs, outputs.

| programs | outputs | as in |
|---|---|---|
| a Python fence, as `dialect/fences.py` reads it leniently | a fence `output` | NuminaMath-TIR, ToRA |
| `<llm-code>` | `<llm-code-output>` | OpenMathInstruct-1 |
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from thor_tir.dialect.fences import CLOSE, OPEN, Block, blocks, first_block
from thor_tir.dialect.observation import frame


class Unusable(ValueError):
    """A row that cannot be trained on; the message is the reason, in the same words for every row of its kind."""


class Kind(StrEnum):
    """Kind of a part of a response."""

    WORDS = "words"
    PROGRAM = "program"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a response."""

    kind: Kind
    """Words and programs are the model's, outputs the environment's."""
    text: str
    """Text of it, without marks."""


_FENCED_OUTPUT = re.compile(r"\s*^[ \t]*(`{3,}|~{3,})[ \t]*output[ \t\r]*\n", re.MULTILINE | re.IGNORECASE)
_LLM_PROGRAM = re.compile(r"<llm-code>[ \t\r]*\n?(.*?)</llm-code>[ \t\r]*\n?", re.DOTALL)
_LLM_OUTPUT = re.compile(r"\s*<llm-code-output>[ \t\r]*\n?")
_LLM_END = re.compile(r"</llm-code-output>[ \t\r]*\n?")
QUOTES = "'''"
"""Stands for a fence within an output, as in the outputs of our own sandbox."""
_LLM_MARK = "<llm-code"
_UNREAD_OUTPUT = re.compile(r"<(interpreter|output|code_output|execution_results?|tool_response)>.*?</\1>", re.DOTALL)
"""Outputs between marks of data sets that are not read: learnt as the model's words, it would make them up."""
_LONG_MARKS = ("`" * 40, "~" * 40)
"""Lines that close whatever fence is open."""


def pieces(text: str) -> tuple[Piece, ...]:
    """The words, programs and outputs of a text, in order. Raises Unusable where one of them never ends."""
    is_llm = _LLM_MARK in text
    opens = _LLM_OUTPUT if is_llm else _FENCED_OUTPUT
    found: list[Piece] = []
    place = 0
    while (block := _program(text[place:], is_llm=is_llm)) is not None:
        found += _words(text[place : place + block.start])
        found.append(Piece(Kind.PROGRAM, block.code))
        place += block.end
        if (begin := opens.match(text, place)) is not None:
            ends = _LLM_END if is_llm else _end_of(begin[1])
            if (end := ends.search(text, begin.end())) is None:
                raise Unusable("an output never ends")
            found.append(Piece(Kind.OUTPUT, text[begin.end() : end.start()].removesuffix("\n")))
            place = end.end()
    rest = text[place:]
    if _LLM_MARK in rest or _is_unclosed(rest):
        raise Unusable("a program never ends")
    found += _words(rest)
    if any(opens.search(piece.text) for piece in found if piece.kind is Kind.WORDS):
        raise Unusable("an output follows no program")
    if unread := next((m for p in found if p.kind is Kind.WORDS if (m := _UNREAD_OUTPUT.search(p.text))), None):
        raise Unusable(f"an output stands between marks that are not read here: <{unread[1]}>")
    return tuple(found)


def settled(parts: Sequence[Piece]) -> tuple[Piece, ...]:
    """The response as it can be spelled: a program begins on a line of its own and ends with a line break, one whose
    output is not there is words, and an output closes no fence.

    Raises Unusable for what would be read as something else than it is.
    """
    found: list[Piece] = []
    behind = [*(part.kind for part in parts[1:]), None]
    for part, following in zip(parts, behind, strict=False):
        text = part.text
        if part.kind is Kind.OUTPUT:
            found.append(Piece(Kind.OUTPUT, text.replace(CLOSE, QUOTES)))
            continue
        is_call = part.kind is Kind.PROGRAM
        if is_call:
            text = text if text.endswith("\n") else f"{text}\n"
            if found and found[-1].kind is Kind.WORDS and not found[-1].text.endswith("\n"):
                found[-1] = Piece(Kind.WORDS, f"{found[-1].text}\n")
            is_call = following is Kind.OUTPUT
            text = text if is_call else _fenced(text)
        if not is_call and found and found[-1].kind is Kind.WORDS:
            found[-1] = Piece(Kind.WORDS, found[-1].text + text)
        else:
            found.append(Piece(Kind.PROGRAM if is_call else Kind.WORDS, text))
    whole = tuple(found)
    if [part for part in pieces(text_of(whole)) if part.kind is Kind.OUTPUT] != [
        p for p in whole if p.kind is Kind.OUTPUT
    ]:
        raise Unusable("marks of programs and outputs are mixed up")
    return whole


def text_of(parts: Sequence[Piece]) -> str:
    """The response as one text, in our fences. Raises Unusable for a program that would end before its end."""
    spell: Mapping[Kind, Callable[[str], str]] = {Kind.WORDS: str, Kind.PROGRAM: _fenced, Kind.OUTPUT: frame}
    return "".join(spell[part.kind](part.text) for part in parts)


def _fenced(code: str) -> str:
    text = f"{OPEN}\n{code}{CLOSE}\n"
    block = first_block(text)
    if block is None or block.code != code:
        raise Unusable("a program holds the fence that would end it")
    return text


def _end_of(fence: str) -> re.Pattern[str]:
    """The line that closes a fence: the same marks, and as many at least."""
    return re.compile(rf"^[ \t]*{re.escape(fence)}{re.escape(fence[0])}*[ \t\r]*(?:\n|\Z)", re.MULTILINE)


def _words(text: str) -> Iterable[Piece]:
    return (Piece(Kind.WORDS, text),) if text else ()


def _program(text: str, *, is_llm: bool) -> Block | None:
    """The first program of a text."""
    if not is_llm:
        return first_block(text, "lenient", has_ended=True)
    found = _LLM_PROGRAM.search(text)
    return None if found is None else Block(start=found.start(), end=found.end(), code=found[1])


def _is_unclosed(text: str) -> bool:
    """True where a closing line more would end one more program."""
    whole = sum(1 for _ in blocks(text, "lenient", has_ended=True))
    return any(sum(1 for _ in blocks(f"{text}\n{mark}\n", "lenient")) > whole for mark in _LONG_MARKS)
