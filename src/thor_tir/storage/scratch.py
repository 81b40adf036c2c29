"""Temporary folders that do not outlive their owners for long: whoever makes one removes those of dead processes."""

import asyncio
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO

_LOCK = ".lock"
_OURS: set[Path] = set()
"""Folders of this process, whose locks are not looked at."""
_LOOK_S = 0.02
"""Time between two tries to get a turn, in seconds."""


class Scratch:
    """A temporary folder that is locked for as long as this process lives, and removed by `cleanup`.

    One with a name is shared by the processes of this user on this machine that give the same name, and goes with the
    last of them. Where the disk knows no locks, each has one of its own.
    """

    def __init__(self, prefix: str, parent: Path | None = None, *, name: str = "") -> None:
        parent = (parent or Path(tempfile.gettempdir())).resolve()
        remove_dead(prefix, parent)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        lock = _joined(parent / f"{prefix}{name}") if name else None
        if lock is not None:
            self.path, self._lock = parent / f"{prefix}{name}", lock
        else:
            self._folder = tempfile.TemporaryDirectory(prefix=prefix, dir=parent, ignore_cleanup_errors=True)
            self.path = Path(self._folder.name)
            self._lock = _locked(self.path)
        _OURS.add(self.path)

    def cleanup(self) -> None:
        """Remove the folder, unless others use it. Doing so again does nothing."""
        if self._folder is not None:
            self._folder.cleanup()
        elif not self._lock.closed:
            with suppress(OSError):  # another process uses it
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_lock_of(self.path, self._lock):
                    shutil.rmtree(self.path, ignore_errors=True)
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


@asynccontextmanager
async def in_turn(lock: Path, *, is_shared: bool = False) -> AsyncIterator[None]:
    """Work that one process of this machine does at a time, by a file that it locks; all do at once what is shared.

    Disks without locks let all.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    with lock.open("a") as file:
        while True:
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_LOOK_S)
                continue
            except OSError:
                pass
            yield
            return


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


def _joined(folder: Path) -> IO[str] | None:
    """A shared hold of a folder's lock; None where it is not this user's alone, or the disk knows no locks."""
    while True:
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                return None  # somebody else waits for what we put there
            file = (folder / _LOCK).open("a")
        except FileNotFoundError:  # the last one before us has just removed it
            continue
        except OSError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH)
        except OSError:
            file.close()
            return None
        if _is_lock_of(folder, file):
            return file
        file.close()


def _is_lock_of(folder: Path, file: IO[str]) -> bool:
    """False for the lock of a folder that was removed, though another may stand in its place."""
    try:
        return os.path.samestat((folder / _LOCK).stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
