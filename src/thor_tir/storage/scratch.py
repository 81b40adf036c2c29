"""Temporary folders that do not outlive their owner for long: whoever makes one removes those of dead processes."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCK = ".lock"
_OURS: set[Path] = set()
"""Folders of this process, whose locks are not looked at."""


class Scratch:
    """A temporary folder that is locked for as long as this process lives, and removed by `cleanup`."""

    def __init__(self, prefix: str, parent: Path | None = None) -> None:
        parent = (parent or Path(tempfile.gettempdir())).resolve()
        remove_dead(prefix, parent)
        self._folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        _OURS.add(self.path)
        self._lock = _locked(self.path)

    def cleanup(self) -> None:
        """Remove the folder. Doing so again does nothing."""
        self._folder.cleanup()
        self._lock.close()
        _OURS.discard(self.path)


def remove_dead(prefix: str, parent: Path) -> None:
    """Remove the folders whose owners have ended without doing so, as a killed process does.

    Folders without a lock are left alone: their owner is about to lock them, or their disk knows no locks.
    """
    for folder in parent.glob(f"{prefix}*"):
        if folder not in _OURS:
            with suppress(OSError), _free(folder / _LOCK):  # another user's, or one that goes right now
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _free(lock: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises OSError while its owner does."""
    with lock.open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _locked(folder: Path) -> IO[str]:
    """The lock of a folder, which appears there once it is held."""
    draft = folder / f"{_LOCK}.draft"
    file = draft.open("w")
    with suppress(OSError):  # a disk without locks
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.rename(folder / _LOCK)
    return file
