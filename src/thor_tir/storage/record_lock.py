"""Files that belong to one process at a time, or to several that share them."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import TextIO

from thor_tir.errors import UsageError
from thor_tir.storage.journal import make_folder


@contextmanager
def held(path: Path, *, is_shared: bool = False, waits: bool = False) -> Iterator[TextIO | None]:
    """Hold a file for this process, at its beginning and written to at its end; None where another process holds it and
    this one does not wait.

    A record lock: network disks have it too, no child inherits it, and the system gives it back when a process dies.
    A process holds a file once: to open and close it again would give it back. Raises UsageError on a disk without such
    locks.
    """
    make_folder(path.parent)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno not in (EACCES, EAGAIN):
                raise UsageError(f"{path} cannot be locked ({error.strerror}); give an --output that can") from error
            yield None
            return
        list(path.parent.iterdir())  # a network disk may remember that a file was not there
        file.seek(0)
        yield file
