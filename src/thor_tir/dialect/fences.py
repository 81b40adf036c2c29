"""The strict fence parser: a program starts after a line that is exactly ```` ```python ```` and ends before a line
that is exactly ```` ``` ````. Nothing else opens or closes one: no bare word `python`, no indented or annotated fence.
"""

from dataclasses import dataclass

OPEN, CLOSE = "```python", "```"
STOP = f"\n{CLOSE}\n"
"""What ends a completion: the earliest text after which a program can be complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A closed program within a text."""

    start: int
    """Offset of the opening fence's first character."""
    end: int
    """Offset after the closing fence's newline."""
    code: str
    """The lines between the fences, each with its newline."""


class FenceParser:
    """Reads text piece by piece and finds the first closed program.

    A line counts once its newline has been read, so the result does not depend on how the text is cut into pieces.
    """

    def __init__(self) -> None:
        self.block: Block | None = None
        """The first closed program, None until its closing line is complete."""
        self._line = ""
        self._offset = 0
        self._start: int | None = None
        self._code: list[str] = []

    @property
    def is_open(self) -> bool:
        """True if a program has been opened and not yet closed."""
        return self.block is None and self._start is not None

    def feed(self, piece: str) -> None:
        """Read more text; text after the first closed program is ignored."""
        *whole, rest = piece.split("\n")
        for line in whole:
            self._end_line(self._line + line)
            self._line = ""
        self._line += rest

    def _end_line(self, line: str) -> None:
        start, self._offset = self._offset, self._offset + len(line) + 1
        if self.block is not None:
            return
        if self._start is None:
            if line == OPEN:
                self._start = start
        elif line == CLOSE:
            self.block = Block(start=self._start, end=self._offset, code="".join(self._code))
        else:
            self._code.append(line + "\n")


def first_block(text: str) -> Block | None:
    """The first closed program of a whole text."""
    parser = FenceParser()
    parser.feed(text)
    return parser.block
