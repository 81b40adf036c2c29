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
    earlier: tuple[str, ...] = ()
    """Programs that are run before it, without their output."""
    echoes: bool = False
    """True prints the value of a last line that is an expression."""


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
        request = ProgramRequest(*_read_request())
        os.close(FEED_FD)
        confinement.limit(request.memory_bytes, request.cpu_s)
        _arrange(request.code, request.stdin, request.seed)
        code = _execute(request, module, note)
    except _SETUP_FAULTS as fault:  # what the program raises ends in _execute
        with contextlib.suppress(OSError):
            os.write(READY_FD, str(fault).encode())
    finally:
        while True:
            leave(code)


def _read_request() -> tuple[Any, ...]:
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


def _execute(request: ProgramRequest, module: types.ModuleType, note: mmap.mmap) -> int:
    """Run the program as `__main__`; returns the exit code that the interpreter would give."""
    told_bytes, earlier = request.told_bytes, request.earlier
    try:
        parts = _compiled(request.code, echoes=request.echoes)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as fault:  # also NUL and surrogates
        _note(note, fault, "syntax")
        _tell(fault, told_bytes, is_located=False)
        return 1
    del request
    try:
        if earlier:
            _recall(earlier, module)
        for part in parts:
            exec(part, module.__dict__)
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


def _compiled(code: str, *, echoes: bool) -> list[types.CodeType]:
    """The program in one part, or with a last line that prints its value in a second one."""
    if not echoes:
        return [compile(code, PROGRAM, "exec", dont_inherit=True)]
    import ast

    tree = ast.parse(code, PROGRAM)
    last = [ast.Interactive([tree.body.pop()])] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    body = compile(tree, PROGRAM, "exec", dont_inherit=True)
    return [body, *(compile(part, PROGRAM, "single", dont_inherit=True) for part in last)]


def _recall(earlier: tuple[str, ...], module: types.ModuleType) -> None:
    """Run the earlier programs again, as they ran before: what they print goes nowhere, an exit ends that one alone."""
    streams = (1, 2)
    spare = [os.dup(stream) for stream in streams]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream)
    os.close(nowhere)
    try:
        for number, code in enumerate(earlier, 1):
            with contextlib.suppress(SystemExit):
                exec(compile(code, f"earlier{number}.py", "exec", dont_inherit=True), module.__dict__)
    finally:
        for printed in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):  # the program may have put any object there
                printed.flush()
        for stream, kept in zip(streams, spare, strict=True):
            os.dup2(kept, stream)
            os.close(kept)


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
