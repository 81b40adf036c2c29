"""Stand-ins for what the filter of calls refuses: wake-up sockets of asyncio, starts of processes, shared memory.

They let programs that need none of it run, and say to the others why they cannot.
"""

import contextlib
import errno
import importlib
import mmap
import os
import threading
from typing import Any, NoReturn


class _PipeEnd:
    """One end of the pipe that wakes an event loop of asyncio, which would open a pair of sockets for it."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def recv(self, count: int) -> bytes:
        return os.read(self._descriptor, count)

    def send(self, data: bytes) -> int:
        return os.write(self._descriptor, data)

    def close(self) -> None:
        os.close(self._descriptor)


def _make_pipe(loop: Any) -> None:
    """Stand in for BaseSelectorEventLoop._make_self_pipe."""
    reader, writer = os.pipe()
    loop._ssock, loop._csock = _PipeEnd(reader), _PipeEnd(writer)
    loop._internal_fds += 1
    loop._add_reader(reader, loop._read_from_self)


def provide_asyncio() -> None:
    """Let event loops run without a socket, which the filter of calls refuses."""
    from asyncio import selector_events

    selector_events.BaseSelectorEventLoop._make_self_pipe = _make_pipe  # type: ignore[attr-defined]


def _refuse(*_: object, **__: object) -> NoReturn:
    raise PermissionError(errno.EPERM, "processes are not allowed here: a program runs in one process, with threads")


class _ThreadSemaphore:
    """The lock of multiprocessing among the threads of one process; a real one is a file in a folder that is not there.

    Pools of threads, queues and locks need it before any process is started.
    """

    SEM_VALUE_MAX = 2**31 - 1
    _RECURSIVE = 0
    handle, name = 0, None

    def __init__(self, kind: int, value: int, maxvalue: int, name: str | None = None, unlink: bool = True) -> None:
        self.kind, self.maxvalue = kind, maxvalue
        self._value, self._taken, self._owner = value, 0, 0
        self._changed = threading.Condition()

    def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
        with self._changed:
            if not (self.kind == self._RECURSIVE and self._is_mine()):
                if not self._changed.wait_for(lambda: self._value > 0, timeout if block else 0):
                    return False
                self._value -= 1
            self._taken, self._owner = self._taken + 1, threading.get_ident()
            return True

    def release(self) -> None:
        with self._changed:
            if self.kind == self._RECURSIVE and not self._is_mine():
                raise AssertionError("attempt to release recursive lock not owned by thread")
            if self.kind != self._RECURSIVE and self._value >= self.maxvalue:
                raise ValueError("semaphore or lock released too many times")
            self._taken -= 1
            if self.kind != self._RECURSIVE or self._taken == 0:
                self._value += 1
                self._changed.notify()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _count(self) -> int:
        return self._taken

    def _is_mine(self) -> bool:
        return self._taken > 0 and self._owner == threading.get_ident()

    def _get_value(self) -> int:
        return self._value

    def _is_zero(self) -> bool:
        return self._value == 0

    def _after_fork(self) -> None:
        return


class _ThreadArena:
    """Memory of the shared values and arrays of multiprocessing; a real one is a file in a folder that is not there."""

    def __init__(self, size: int) -> None:
        self.size, self.fd = size, -1
        self.buffer = mmap.mmap(-1, size)


_PROCESS_CALLS = ("fork", "forkpty", "posix_spawn", "posix_spawnp", "execv", "execve", "system")


def refuse_processes() -> None:
    """Have all that starts processes say why it cannot; it is the filter of calls that keeps programs from it."""
    import _posixsubprocess
    import posix
    import subprocess
    from asyncio import unix_events
    from multiprocessing import heap

    for module in (os, posix):
        for name in _PROCESS_CALLS:
            setattr(module, name, _refuse)
    _posixsubprocess.fork_exec = subprocess._fork_exec = _refuse  # type: ignore[attr-defined]
    unix_events._UnixSubprocessTransport._start = _refuse  # type: ignore[attr-defined]
    importlib.import_module("_multiprocessing").SemLock = _ThreadSemaphore  # type: ignore[attr-defined]
    heap.Arena = _ThreadArena  # type: ignore[assignment,misc]
    with contextlib.suppress(ImportError):
        importlib.import_module("_posixshmem").shm_open = _refuse  # type: ignore[attr-defined]
