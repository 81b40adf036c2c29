"""Text with programs and their outputs in it, taken apart: words, programs, outputs. Spelled again, it is a response.

| programs | outputs | as in |
|---|---|---|
| a Python fence, as `dialect/fences.py` reads it leniently | a fence `output` | NuminaMath-TIR, ToRA |
| `<llm-code>` | `<llm-code-output>` | OpenMathInstruct-1 |
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from thor_tir.dialect.fences import CLOSE, OPEN, Block, blocks, first_block
from thor_tir.dialect.observation import frame
from thor_tir.trajectory import Author


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


_FENCED_OUTPUT = re.compile(r"\s*^[ \t]*`{3,}[ \t]*output[ \t\r]*\n", re.MULTILINE)
_FENCED_END = re.compile(r"^[ \t]*`{3,}[ \t\r]*(?:\n|\Z)", re.MULTILINE)
_LLM_PROGRAM = re.compile(r"<llm-code>[ \t\r]*\n?(.*?)</llm-code>[ \t\r]*\n?", re.DOTALL)
_LLM_OUTPUT = re.compile(r"\s*<llm-code-output>[ \t\r]*\n?")
_LLM_END = re.compile(r"</llm-code-output>[ \t\r]*\n?")
QUOTES = "'''"
"""Stands for a fence within an output, as in the outputs of our own sandbox."""
_LLM_MARK = "<llm-code"
_LONG_MARKS = ("`" * 40, "~" * 40)
"""Lines that close whatever fence is open."""


def pieces(text: str) -> tuple[Piece, ...]:
    """The words, programs and outputs of a text, in order. Raises Unusable where one of them never ends."""
    is_llm = _LLM_MARK in text
    opens, ends = (_LLM_OUTPUT, _LLM_END) if is_llm else (_FENCED_OUTPUT, _FENCED_END)
    found: list[Piece] = []
    place = 0
    while (block := _program(text[place:], is_llm=is_llm)) is not None:
        found += _words(text[place : place + block.start])
        found.append(Piece(Kind.PROGRAM, block.code))
        place += block.end
        if (begin := opens.match(text, place)) is not None:
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
    return tuple(found)


def spelled(parts: Sequence[Piece]) -> list[tuple[str, Author]]:
    """The response in our fences, in runs by one author. A program whose output is not there is the model's text.

    Raises Unusable for a program that would end before its end, and for marks that would be read as others than meant.
    """
    runs: list[tuple[str, Author]] = []
    for part in parts:
        author = Author.ENVIRONMENT if part.kind is Kind.OUTPUT else Author.MODEL
        before = runs[-1][0] if runs else "\n"
        text = _in_fences(part, begins_line=before.endswith("\n"))
        if runs and runs[-1][1] is author:
            runs[-1] = (before + text, author)
        else:
            runs.append((text, author))
    outputs = [part.text.replace(CLOSE, QUOTES) for part in parts if part.kind is Kind.OUTPUT]
    read = pieces("".join(text for text, _ in runs))
    if [part.text for part in read if part.kind is Kind.OUTPUT] != outputs:
        raise Unusable("marks of programs and outputs are mixed up")
    return runs


def _in_fences(part: Piece, *, begins_line: bool) -> str:
    if part.kind is Kind.WORDS:
        return part.text
    if part.kind is Kind.OUTPUT:
        return frame(part.text.replace(CLOSE, QUOTES))
    code = part.text if part.text.endswith("\n") else f"{part.text}\n"
    fenced = f"{OPEN}\n{code}{CLOSE}\n"
    block = first_block(fenced)
    if block is None or block.code != code:
        raise Unusable("a program holds the fence that would end it")
    return fenced if begins_line else f"\n{fenced}"


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
