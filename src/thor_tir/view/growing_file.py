"""The lines of a file that another process appends to, newest first, each handed out once.

A file of many gigabytes shows its end at once: what was there at the first look is read backwards, as far as the caller
has time; what is appended later is read forwards. A torn last line, which may still grow, is left for later.
"""

from collections.abc import Iterator
from pathlib import Path

CHUNK_BYTES = 2**22
"""Bytes that are read at once; a longer line is read whole."""


class GrowingFile:
    """A JSONL file and how far it was read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inode = -1
        self._head = 0
        self._tail = 0

    @property
    def num_unread(self) -> int:
        """Bytes before the part that was read."""
        return self._head

    def has_begun_anew(self) -> bool:
        """True where the file was replaced, cut, or is looked at for the first time: what was read of it is void."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        if found.st_ino == self._inode and found.st_size >= self._tail:
            return False
        self._inode = found.st_ino
        self._head = self._tail = _end_of_lines(self.path, found.st_size)
        return True

    def appended(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines that are new at the end, each with its place in bytes, oldest first."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._tail)
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    place, self._tail = self._tail, self._tail + len(line)
                    yield place, line
        except FileNotFoundError:
            return

    def earlier(self) -> list[tuple[int, bytes]]:
        """The next lines towards the beginning, newest first; empty where all were read."""
        size = CHUNK_BYTES
        while self._head > 0:
            start = max(0, self._head - size)
            block = self.read(start, self._head - start)
            first = 0 if start == 0 else block.find(b"\n") + 1
            if start > 0 and first in (0, len(block)):
                size *= 2  # one line is longer than that
                continue
            found, place = [], start + first
            for line in block[first:].split(b"\n")[:-1]:
                found.append((place, line + b"\n"))
                place += len(line) + 1
            self._head = start + first
            return found[::-1]
        return []

    def read(self, place: int, length: int) -> bytes:
        """Bytes of the file; fewer where it has become shorter."""
        try:
            with self.path.open("rb") as file:
                file.seek(place)
                return file.read(length)
        except FileNotFoundError:
            return b""


def _end_of_lines(path: Path, size: int) -> int:
    """Place after the last newline."""
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - CHUNK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0
