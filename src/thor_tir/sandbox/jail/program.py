"""The life of one program's process, from fork to _exit.

It is confined before it sees a program: it says so on a pipe, closes the pipe, and only then reads its request, from
a descriptor that the template itself never reads, so that no program's text is left where a later one could find it.
What it notes about an exception on the shared page can be forged by the program, and so only tells one kind of failure
from another.
"""

import atexit
import builtins
import contextlib
import errno
import gc
import importlib
import io
import json
import linecache
import marshal
import mmap
import os
import random
import sys
import threading
import traceback
import types
from typing import Any, NamedTuple, NoReturn

from thor_tir.sandbox.jail.confinement import FEED_FD, READY_FD, Confinement
from thor_tir.sandbox.jail.wire import LENGTH, NOTE_BYTES, READY

PROGRAM = "main.py"
"""File name of the snippet in its own tracebacks, which show no other file."""
FIRST_SEED = 0
"""The seed that the template has set, so that programs which ask for no other need not."""
_AT_ONCE = 65_536
"""Bytes of a request that are read at once; most are shorter."""
_BAD_SETUP = 125
_SETUP_FAULTS = (OSError, ValueError, TypeError, EOFError, OverflowError)


class ProgramRequest(NamedTuple):
    """A program and what it needs; it comes as a marshalled plain tuple, which one call reads."""

    code: str
    stdin: str
    seed: int
    memory_bytes: int
    cpu_s: int
    told_bytes: int
    """Largest length of a traceback in bytes."""


def become_program(
    confinement: Confinement, descriptors: tuple[int, ...], module: types.ModuleType, note: mmap.mmap
) -> NoReturn:
    """Confine this freshly forked process, run what comes on the feed as `module` and leave. Never returns.

    `descriptors` become stdin, stdout, stderr, READY_FD and FEED_FD.
    """
    leave = os._exit  # bound before the program can replace it
    code = _BAD_SETUP
    try:
        for target, source in enumerate(descriptors):
            os.dup2(source, target)
        confinement.lock()
        os.write(READY_FD, READY)
        os.close(READY_FD)
        program, stdin, seed, memory_bytes, cpu_s, told_bytes = _read_request()
        os.close(FEED_FD)
        confinement.limit(memory_bytes, cpu_s)
        _arrange(program, stdin, seed)
        code = _execute(program, module, note, told_bytes=told_bytes)
    except _SETUP_FAULTS as fault:  # what the program raises ends in _execute
        with contextlib.suppress(OSError):
            os.write(READY_FD, str(fault).encode())
    finally:
        while True:
            leave(code)


def _read_request() -> ProgramRequest:
    data = os.read(FEED_FD, _AT_ONCE)
    length = LENGTH.size + (LENGTH.unpack_from(data)[0] if data else 0)
    while len(data) < length:
        if not (more := os.read(FEED_FD, length - len(data))):
            os._exit(_BAD_SETUP)  # the supervisor is gone
        data += more
    return marshal.loads(data[LENGTH.size :])  # type: ignore[no-any-return]  # the supervisor is trusted


def furnish() -> types.ModuleType:
    """The fresh `__main__`, streams, seeds and arguments that every program finds; made once, in the template."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv[:] = [PROGRAM]
    sys.path.insert(0, "")
    spare = os.dup(2)
    pipe = os.pipe()  # streams look at what they are opened on, and a program's are pipes
    for descriptor in (1, 2):
        os.dup2(pipe[1], descriptor)
    sys.stdin = sys.__stdin__ = _reading()  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _printing_to(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _printing_to(2)  # type: ignore[misc]
    os.dup2(spare, 2)
    for descriptor in (spare, *pipe):
        os.close(descriptor)
    _seed(FIRST_SEED)
    return module


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


def _seed(seed: int) -> None:
    random.seed(seed)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed(seed % 2**32)


def _arrange(code: str, stdin: str, seed: int) -> None:
    """Give a program its standard input, its seed and its source for tracebacks."""
    if stdin:
        _provide_stdin(stdin.encode("utf-8", "surrogatepass"))
        sys.stdin = sys.__stdin__ = _reading()  # type: ignore[misc]
    if seed != FIRST_SEED:
        _seed(seed)
    linecache.cache[PROGRAM] = (len(code), None, [f"{line}\n" for line in code.split("\n")], PROGRAM)
    gc.freeze()  # counts from zero, so that collections come at the same points of every program
    gc.enable()


def _provide_stdin(data: bytes) -> None:
    """Through a pipe if it fits one, else through a file without a name in the working directory."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        is_whole = os.write(writer, data) == len(data)
    except BlockingIOError:
        is_whole = False
    os.close(writer)
    if not is_whole:
        os.close(reader)
        reader = os.open(".", os.O_TMPFILE | os.O_RDWR)
        with open(reader, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(reader, 0, os.SEEK_SET)
    os.dup2(reader, 0)
    os.close(reader)


def _reading() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)), "utf-8")


def _printing_to(descriptor: int) -> io.TextIOWrapper:
    """A text stream flushed at every line, so that a program that is stopped keeps what it printed."""
    raw = io.BufferedWriter(io.FileIO(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _execute(code: str, module: types.ModuleType, note: mmap.mmap, *, told_bytes: int) -> int:
    """Run the program as `__main__`; returns the exit code that the interpreter would give."""
    try:
        compiled = compile(code, PROGRAM, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as fault:  # also NUL and surrogates
        _note(note, fault, "syntax")
        _tell(fault, told_bytes, is_located=False)
        return 1
    del code
    try:
        exec(compiled, module.__dict__)
    except SystemExit as leaving:
        return _leave(leaving, note)
    except MemoryError as fault:
        _note_exhaustion(note)
        module.__dict__.clear()  # room for the traceback
        _tell(fault, told_bytes)
    except BaseException as fault:  # whatever ends a program is data, KeyboardInterrupt included
        _note(note, fault, "denied" if isinstance(fault, PermissionError) else "exception")
        _tell(fault, told_bytes)
    else:
        return _wind_up()
    _wind_up()
    return 1


def _leave(leaving: SystemExit, note: mmap.mmap) -> int:
    """The exit code of sys.exit(argument): a number as it is, None as 0, anything else printed and 1."""
    argument = leaving.code
    code = 0 if argument is None else argument & 0xFF if isinstance(argument, int) else 1
    if code:
        _note(note, leaving, "exception")
    if argument is not None and not isinstance(argument, int):
        _write_error(str(argument) if type(argument) is str else repr(type(argument)))
    return _wind_up() or code


def _wind_up() -> int:
    """Do as the interpreter does at the end: wait for threads, run the exit hooks, flush.

    Returns 0, or the interpreter's 120 if buffered output could not be written; a stream that the program closed is
    fine.
    """
    try:
        if len(threading._active) + len(threading._limbo) > 1:  # type: ignore[attr-defined]
            threading._shutdown()  # type: ignore[attr-defined]  # the only call that also ends idle thread pools
        atexit._run_exitfuncs()
    except BaseException:  # of the program's hooks and threads; the interpreter ignores these too
        pass
    code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            if not stream.closed:
                stream.flush()
        except BaseException:  # the program may have put any object there
            code = 120
    return code


def _note(note: mmap.mmap, fault: BaseException, kind: str) -> None:
    with contextlib.suppress(BaseException):  # the program may have given its class any name
        name = PermissionError.__name__ if kind == "denied" else type(fault).__name__
        text = json.dumps({"kind": kind, "name": name[:200]}).encode()[:NOTE_BYTES]
        note[: len(text)] = text


def _note_exhaustion(note: mmap.mmap, text: bytes = b'{"kind": "memory", "name": "MemoryError"}') -> None:
    """As _note, but without asking for memory."""
    note[: len(text)] = text


def _tell(fault: BaseException, limit: int, *, is_located: bool = True) -> None:
    """Write the traceback to stderr, with the program's own lines only, and the end of it if it is long."""
    try:
        report = traceback.TracebackException.from_exception(fault)
        _hide_other_files(report)
        text = "".join(report.format() if is_located else report.format_exception_only())
    except BaseException:  # no memory left, or an exception whose own methods fail
        text = f"{type(fault)!r}\n"
    _write_error(text[-limit:])


def _write_error(text: str) -> None:
    with contextlib.suppress(BaseException):  # the program may have closed the descriptor or replaced its streams
        sys.stderr.flush()
    with contextlib.suppress(BaseException):
        os.write(2, text.rstrip("\n").encode(errors="backslashreplace") + b"\n")


def _hide_other_files(report: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [report]
    while pending:
        if (link := pending.pop()) is not None:
            link.stack = traceback.StackSummary.from_list([at for at in link.stack if at.filename == PROGRAM])
            pending += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
