"""Programs within a text: a line that opens a fence for Python, lines of code, and a line that closes it.

`exact` reads a line that is exactly ```` ```python ```` and one that is exactly ```` ``` ````, and nothing else.
`blanks` also accepts blanks and a carriage return behind either fence. `lenient` reads fences as chat models write
them: ```` ```py ````, `~~~Python`, indented, behind the mark of a list's item or of a quote. In all of them a closing
fence with which the text ends closes the program, where its author ended it there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import Literal

from thor_tir.trajectory import PYTHON

OPEN, CLOSE = "```python", "```"
FenceReading = Literal["exact", "blanks", "lenient"]
STOPS: Mapping[FenceReading, tuple[str, ...]] = {
    "exact": (f"\n{CLOSE}\n",),
    "blanks": (f"\n{CLOSE}\n", f"\n{CLOSE} \n", f"\n{CLOSE}  \n", f"\n{CLOSE}\r\n"),
    "lenient": (f"{CLOSE}\n", f"{CLOSE} \n", f"{CLOSE}  \n", f"{CLOSE}\r\n"),
}
"""Texts that end a completion, since a program can be complete after each; at most four, as many as servers take."""

_BLANKS = " \t\r"
_LANGUAGE = re.compile(r"(?:i?python|py)[0-9.]*")
_OPENING = re.compile(r"([ \t]*(?:>[ \t]?)*)((?:\d{1,9}[.)]|[-*+])[ \t]+)?(`{3,}|~{3,})[ \t]*([^`]*)")
"""Quote marks, the mark of a list's item, the fence, and the words behind it."""
_QUOTED = re.compile(r"[ \t]*(?:>[ \t]?)+")
_CLOSING = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t\r]*")
_CODE_INDENT = 4
"""A fence this much deeper than the opening one is part of the code, of a docstring for example (CommonMark)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A closed call within a text."""

    start: int
    """Offset of the opening fence's line."""
    end: int
    """Offset after the closing fence's newline, or after the fence where the text ends with it."""
    code: str
    """The lines between the fences, each with its newline; for calls of other tools see `Action`."""
    tool: str = PYTHON
    """Name of the tool that is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fence:
    """An opening fence."""

    mark: str = CLOSE
    """Characters of the fence."""
    indent: int = 0
    """Width of what stands before it."""
    is_quoted: bool = False
    """True behind a quote's mark, which its lines then bear, too."""


def first_block(text: str, reading: FenceReading = "exact", *, has_ended: bool = False) -> Block | None:
    """The first closed program of a text; `has_ended` says that its author ended it after the last character."""
    return next(blocks(text, reading, has_ended=has_ended), None)


def blocks(text: str, reading: FenceReading = "exact", *, has_ended: bool = False) -> Iterator[Block]:
    """All closed programs of a text, in order. A line counts once its newline is there, or the text has ended."""
    *whole, rest = text.split("\n")
    begun: _Fence | None = None
    start = offset = 0
    code: list[str] = []
    for number, line in enumerate([*whole, rest] if has_ended and rest else whole):
        begin, offset = offset, min(offset + len(line) + 1, len(text))
        if begun is not None and begun.is_quoted:
            line = _QUOTED.sub("", line, count=1)
        if begun is None:
            begun = _opening(line, reading) if number < len(whole) else None
            start, code = begin, []
        elif _closes(line, begun, reading):
            yield Block(start=start, end=offset, code=_code(code, begun, reading))
            begun = None
        else:
            code.append(line)


def fenced(code: str, tool: str = PYTHON) -> str:
    """A call as people read it, whatever its spelling: between fences that name the tool."""
    body = code.strip("\n")
    return f"{CLOSE}{tool or 'call'}\n{body}\n{CLOSE}"


def _opening(line: str, reading: FenceReading) -> _Fence | None:
    if reading != "lenient":
        return _Fence() if (line if reading == "exact" else line.rstrip(_BLANKS)) == OPEN else None
    found = _OPENING.fullmatch(line)
    if found is None:
        return None
    before, item, mark, info = found.groups()
    language = info.strip().strip("{}").lstrip(".").lower().split(maxsplit=1)
    if not language or not _LANGUAGE.fullmatch(language[0].rstrip("},:")):
        return None
    is_quoted = ">" in before
    indent = 0 if is_quoted else len((before + (item or "")).expandtabs())
    return _Fence(mark=mark, indent=indent, is_quoted=is_quoted)


def _closes(line: str, begun: _Fence, reading: FenceReading) -> bool:
    if reading != "lenient":
        return (line if reading == "exact" else line.rstrip(_BLANKS)) == CLOSE
    found = _CLOSING.fullmatch(line)
    if found is None:
        return False
    indent, mark = found.groups()
    is_deeper = len(indent.expandtabs()) >= begun.indent + _CODE_INDENT
    return mark.startswith(begun.mark) and not is_deeper


def _code(lines: list[str], begun: _Fence, reading: FenceReading) -> str:
    if reading != "lenient":
        return "".join(f"{line}\n" for line in lines)
    return dedent("".join(f"{line.removesuffix(chr(13))}\n" for line in lines))
