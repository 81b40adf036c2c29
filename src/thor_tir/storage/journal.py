"""Records on disk that survive SIGKILL: append-only JSONL journals of finished units, whole files written at once.

A unit (a problem, a trajectory, an optimiser step) is finished when its line is in the journal. A torn last line, the
only damage a kill can do to an append, is cut off when the journal is opened again, so its unit is done once more.

Shards of a run are disjoint parts of its units, each with files of its own in one folder. Several processes may fill
one journal: `shared_journal.py`.
"""

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import EACCES, EDQUOT, ENOSPC
from pathlib import Path
from typing import Any, TextIO

from thor_tir.errors import DiskFull, UsageError

JsonObject = dict[str, Any]
"""A JSON object as it stands in a file or a message: what is in it is known once it has been read into a record."""


@contextmanager
def told_when_full(path: Path) -> Iterator[None]:
    """Raise DiskFull where writing to `path` fails for want of room, however a library wraps or words that."""
    try:
        yield
    except Exception as error:
        if not is_want_of_room(error):
            raise
        raise DiskFull(f"no room is left on the disk that holds {path}: free some space") from error


def is_want_of_room(error: BaseException | None) -> bool:
    """True where a full disk stands behind an error, however far."""
    while error is not None:
        if getattr(error, "errno", None) in (ENOSPC, EDQUOT) or "No space left" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def told_when_refused(path: Path) -> Iterator[None]:
    """Raise UsageError where nothing can be kept at `path`: a file stands in the way, or the rights are missing."""
    try:
        with told_when_full(path):
            yield
    except OSError as error:
        raise UsageError(f"nothing can be written at {path} ({error.strerror}); give another place") from error


def make_folder(folder: Path) -> None:
    """A folder with all above it, if it is not there yet."""
    with told_when_refused(folder):
        folder.mkdir(parents=True, exist_ok=True)


def check_place(path: Path, *, besides: Iterable[Path] = ()) -> None:
    """Make sure, before long work, that a file can be written at its end, which is none of those that are read."""
    if any(path.resolve() == each.resolve() for each in besides):
        raise UsageError(f"{path} is read, so it cannot be written too; give another name")
    make_folder(path.parent)
    with told_when_refused(path):
        if path.is_dir():
            raise UsageError(f"{path} is a folder; give the name of a file to write")
        if not os.access(path.parent, os.W_OK):
            raise PermissionError(EACCES, os.strerror(EACCES))


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    with writing_atomically(path) as file:
        file.write(text)


@contextmanager
def writing_atomically(path: Path) -> Iterator[TextIO]:
    """A file to be written piece by piece: a temporary neighbour, renamed over the old one at the end.

    Whatever is raised within leaves the old file as it was and no temporary one.
    """
    check_place(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told_when_full(path), draft.open("w", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def line_of(row: Mapping[str, Any]) -> str:
    """A row as a line of JSON. Half a surrogate pair, which JSON may spell and UTF-8 cannot hold, stays escaped."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(row)
    return line + "\n"


_COMMITTED = b', "commits": true}\n'
"""End of the last line of each commit in a journal that holds its lines."""


_KEY = re.compile(rb'\{"key": "([ !#-\[\]-~]+)"[,}]')
"""Beginning of a line as journals write it: a key in ASCII is found without reading the rest."""


Brief = Callable[[JsonObject], JsonObject]
"""Function from a row to the part of it that stays in memory."""


Parse = Callable[[bytes], JsonObject]
"""Function from a line to its row."""


def whole(row: JsonObject) -> JsonObject:
    """The row itself: all of it stays in memory."""
    return row


class Journal:
    """Finished units of work, one JSON object a line, each under a key that is unique within the file.

    With `hold=True` lines gather in memory until `commit()`, and what a kill left of an unfinished commit is cut off.
    Deterministic runs use it: a batch whose tokens depend on its composition in the last bit is then either wholly on
    disk or done again as the same batch.

    Of a row that is on disk only its place is in memory, and reading it reads the file. `brief` says what of a row is
    kept in memory instead, where that is asked for again and again; reading a unit then gives that.
    """

    def __init__(
        self,
        path: Path,
        *,
        hold: bool = False,
        is_ours: bool = True,
        brief: Brief | None = None,
        parse: Parse = json.loads,
    ) -> None:
        """Open and repair a journal. One that is not ours is only read: what is added stays in memory.

        `parse` reads a line; it raises ValueError for one that is damaged.
        """
        self.path = path
        self.hold = hold
        self.is_ours = is_ours
        self._brief = brief
        self._parse = parse
        self._held: list[JsonObject] = []
        self._rows: dict[str, JsonObject | int] = {}
        """Rows by key, or the places of their lines in the file, in bytes."""
        if not is_ours:
            if path.exists():
                self._recover()
            return
        check_place(path)
        if path.exists():
            self._recover()
        with told_when_refused(path):
            path.touch()

    def _recover(self) -> None:
        pending: dict[str, JsonObject | int] = {}
        read = end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # torn by a kill
                found = _KEY.match(line) if self._brief is None and line.endswith(b"}\n") else None
                if found is not None:
                    pending[found[1].decode("ascii")] = read
                else:
                    row = self._parsed(line, f"line {number}")
                    pending[row["key"]] = read if self._brief is None else self._brief(row)
                read += len(line)
                if not self.hold or line.endswith(_COMMITTED):  # a kill may come between two pages of a long write
                    end = read
                    self._rows |= pending
                    pending.clear()
        if end < self.path.stat().st_size and self.is_ours:
            os.truncate(self.path, end)

    def _parsed(self, line: bytes, name: str) -> JsonObject:
        try:
            row = self._parse(line)
            row.pop("commits", None)
            hash(row["key"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{self.path}, {name} is damaged; delete that line or the file") from error
        return row

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> JsonObject:
        found = self._rows[key]
        if not isinstance(found, int):
            return found
        with self.path.open("rb") as file:
            file.seek(found)
            return self._parsed(file.readline(), f"the line of {key}")

    def __iter__(self) -> Iterator[JsonObject]:
        return map(self.__getitem__, list(self._rows))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def keys(self) -> Iterable[str]:
        """Keys of all units, in their order."""
        return self._rows.keys()

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Record a finished unit. A key that is already there is our mistake: work would have been done twice."""
        assert key not in self._rows, f"{key} is already in {self.path}"
        entry = {"key": key, **row}
        self._rows[key] = entry if self._brief is None else self._brief(entry)
        if self.is_ours:
            self._held.append(entry)
        if not self.hold:
            self.commit()

    def know(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over rows of another journal, which keeps them on disk."""
        for row in rows:
            self._rows.setdefault(row["key"], dict(row))

    def commit(self) -> None:
        """Hand all gathered lines to the operating system in one write."""
        if not self._held:
            return
        if self.hold:
            self._held[-1] = {**self._held[-1], "commits": True}
        lines = [line_of(row).encode() for row in self._held]
        with told_when_full(self.path), self.path.open("ab") as file:  # open only while it is written
            place = file.tell()
            file.write(b"".join(lines))
        if self._brief is None:
            for row, line in zip(self._held, lines, strict=True):
                self._rows[row["key"]] = place
                place += len(line)
        self._held.clear()

    def close(self) -> None:
        """Commit nothing more: what is held and uncommitted is forgotten, as after a kill."""
        self._held.clear()


class RowsOfFiles(Mapping[str, JsonObject]):
    """The rows of several journals by key, read when they are asked for; of two with one key the first counts."""

    def __init__(self, paths: Iterable[Path], parse: Parse = json.loads) -> None:
        """Open files that others may write: a torn end is no row."""
        self._journals: dict[str, Journal] = {}
        for path in paths:
            journal = Journal(path, is_ours=False, parse=parse)
            for key in journal.keys:
                self._journals.setdefault(key, journal)

    def __getitem__(self, key: str) -> JsonObject:
        return self._journals[key][key]

    def __contains__(self, key: object) -> bool:
        return key in self._journals

    def __iter__(self) -> Iterator[str]:
        return iter(self._journals)

    def __len__(self) -> int:
        return len(self._journals)


SHARD_LOCK = ".shards"
"""Files that say who writes, and nothing else, begin with this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of several disjoint parts of the problems."""

    index: int
    """From 1 to `count`."""
    count: int
    """Number of all parts."""

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"a shard is i/n with i from 1 to n, found {self.index}/{self.count}")

    @property
    def is_whole(self) -> bool:
        """True where this is everything."""
        return self.count == 1

    def owns(self, position: int) -> bool:
        """True where the problem at a position of its set is this shard's; all its samples then are."""
        return position % self.count == self.index - 1

    def file(self, folder: Path, name: str) -> Path:
        """The journal `<name>.jsonl` of this shard: `<name>.2-of-4.jsonl` where it is not everything."""
        part = "" if self.is_whole else f".{self.index}-of-{self.count}"
        return folder / f"{name}{part}.jsonl"

    def check_division(self, folder: Path, name: str) -> None:
        """Raise UsageError where that journal was begun in another number of parts, so that units would be repeated."""
        mine = {replace(self, index=index).file(folder, name) for index in range(1, self.count + 1)}
        if others := sorted({*folder.glob(f"{name}.jsonl"), *folder.glob(f"{name}.*-of-*.jsonl")} - mine):
            raise UsageError(
                f"{others[0]} belongs to a run in another number of parts than {self.count}: go on with as many "
                "(--processes, --shard), or give another --output"
            )

    @contextmanager
    def writing(self, folder: Path) -> Iterator[None]:
        """Hold the right to add to this shard's files: one process for each shard, or one alone for everything.

        Raises UsageError where another process holds it. The operating system gives it back when a process dies.
        """
        make_folder(folder)
        with (
            _locked(folder / SHARD_LOCK, shared=not self.is_whole),
            _locked(folder / f"{SHARD_LOCK}.{self.index}-of-{self.count}", shared=False),
        ):
            yield


WHOLE = Shard(index=1, count=1)


def shard_of(text: str) -> Shard:
    """`2/4` as typed; empty for everything. Raises UsageError for anything else."""
    if not text:
        return WHOLE
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal()):
        raise UsageError(f"--shard is i/n, for example 2/4, found {text!r}")
    return Shard(index=int(index), count=int(count))


@contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    with path.open("a") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"another process adds attempts to {path.parent}; wait for it, or take a --shard that nobody has"
            ) from error
        yield
