"""One of several disjoint parts of a run, and who may write into its folder.

Any number of processes may fill one folder, each its own shard and its own files; what counts is their union.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from thor_tir.errors import UsageError
from thor_tir.storage.journal import make_folder

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
        """Whether this is everything."""
        return self.count == 1

    def owns(self, position: int) -> bool:
        """Whether the problem at a position of its set is this shard's; all its samples then are."""
        return position % self.count == self.index - 1

    def file(self, folder: Path, name: str) -> Path:
        """The journal `<name>.jsonl` of this shard: `<name>.2-of-4.jsonl` where it is not everything."""
        part = "" if self.is_whole else f".{self.index}-of-{self.count}"
        return folder / f"{name}{part}.jsonl"

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
