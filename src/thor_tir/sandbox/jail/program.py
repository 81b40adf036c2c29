"""The life of one program's process, from fork to _exit.

It is confined before it sees a program: it says so on a pipe, closes the pipe, and only then reads its request, from
a descriptor that the template itself never reads, so that no program's text is left where a later one could find it.
What it notes about an exception on the shared page can be forged by the program, and so only tells one kind of failure
from another.
"""

import atexit
import builtins
import contextlib
import gc
import io
import json
import linecache
import mmap
import os
import random
import struct
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from thor_tir.sandbox.jail.confinement import FEED_FD, READY_FD, Confinement

READY = b"+"
"""First word on the ready pipe of a process that is confined as promised; anything else is a fault of the machine."""
LENGTH = struct.Struct("!I")
PROGRAM = "main.py"
"""File name of the snippet in its own tracebacks, which show no other file."""
NOTE_BYTES = 512
"""Size of what may stand on the shared page."""
_BAD_SETUP = 125


def become_program(confinement: Confinement, descriptors: tuple[int, int, int, int], note: mmap.mmap) -> NoReturn:
    """Confine this freshly forked process, run what comes on the feed and leave. Never returns.

    `descriptors` become stdout, stderr, READY_FD and FEED_FD.
    """
    leave = os._exit  # bound before the program can replace it
    code = _BAD_SETUP
    try:
        _connect(confinement.null, descriptors)
        confinement.lock()
        os.write(READY_FD, READY)
        os.close(READY_FD)
        request = _read_request()
        os.close(FEED_FD)
        confinement.limit(request["memory_bytes"], request["cpu_s"])
        module = _furnish(request)
        code = _execute(request["code"], module, note, told_bytes=request["told_bytes"])
    except (OSError, ValueError, OverflowError) as fault:  # of the set-up: what the program raises ends in _execute
        with contextlib.suppress(OSError):
            os.write(READY_FD, str(fault).encode())
    finally:
        while True:
            leave(code)


def _connect(null: int, descriptors: tuple[int, int, int, int]) -> None:
    for target, source in enumerate((null, *descriptors)):
        os.dup2(source, target)


def _read_request() -> dict[str, Any]:
    (length,) = LENGTH.unpack(_exactly(LENGTH.size))
    request: dict[str, Any] = json.loads(_exactly(length))
    return request


def _exactly(count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        if not (part := os.read(FEED_FD, count - len(parts))):
            os._exit(_BAD_SETUP)  # the supervisor is gone
        parts += part
    return bytes(parts)


def _furnish(request: dict[str, Any]) -> types.ModuleType:
    """The fresh `__main__`, streams, seeds and arguments that a program finds when it starts."""
    code, seed = request["code"], request["seed"]
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv[:] = [PROGRAM]
    sys.path.insert(0, "")
    if request["stdin"]:
        _provide_stdin(request["stdin"].encode("utf-8", "surrogatepass"))
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "rb", closefd=False)), "utf-8")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _printing_to(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _printing_to(2)  # type: ignore[misc]
    random.seed(seed)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed(seed % 2**32)
    linecache.cache[PROGRAM] = (len(code), None, [f"{line}\n" for line in code.split("\n")], PROGRAM)
    gc.enable()
    return module


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
    """What the interpreter does at the end: wait for threads, run the exit hooks, flush.

    Returns 0, or the interpreter's 120 if buffered output could not be written; a stream that the program closed is
    fine.
    """
    with contextlib.suppress(BaseException):  # hooks and threads of the program; the interpreter ignores these too
        threading._shutdown()  # type: ignore[attr-defined]  # the only call that also ends idle thread pools
        atexit._run_exitfuncs()
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
        told = traceback.TracebackException.from_exception(fault)
        _hide_other_files(told)
        text = "".join(told.format() if is_located else told.format_exception_only())
    except BaseException:  # no memory left, or an exception whose own methods fail
        text = f"{type(fault)!r}\n"
    _write_error(text[-limit:])


def _write_error(text: str) -> None:
    with contextlib.suppress(BaseException):  # the program may have closed the descriptor or replaced its streams
        sys.stderr.flush()
    with contextlib.suppress(BaseException):
        os.write(2, text.rstrip("\n").encode(errors="backslashreplace") + b"\n")


def _hide_other_files(told: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        if (link := pending.pop()) is not None:
            link.stack = traceback.StackSummary.from_list([at for at in link.stack if at.filename == PROGRAM])
            pending += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
