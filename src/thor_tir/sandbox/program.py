"""The life of one program's process, from fork to _exit.

It writes to its report pipe twice: a first word before any snippet code exists, which can be trusted, and at the end
the type of the exception that ended it, which the snippet can forge and which therefore only describes a failure.
"""

import atexit
import builtins
import contextlib
import gc
import io
import json
import linecache
import os
import random
import sys
import threading
import traceback
import types
from typing import Any, NoReturn

from thor_tir.sandbox.confinement import REPORT_FD, Confinement, Denied, confine_program, connect

READY = b"ready\n"
"""First word of a process that is confined as promised; any other first word is a fault of the machine."""
PROGRAM = "main.py"
"""File name of the snippet in its own tracebacks, which show no other file."""


def become_program(
    request: dict[str, Any], folder: str, confinement: Confinement, descriptors: list[int], *, template: int
) -> NoReturn:
    """Confine this freshly forked process, run the snippet in it and leave. Never returns."""
    leave = os._exit  # bound before the snippet can replace it
    code = 125
    try:
        connect(descriptors)
        confine_program(request, folder, confinement, template=template)
        module = _furnish(request["code"])
        os.write(REPORT_FD, READY)
        code = _execute(request["code"], module, traceback_bytes=request["output_bytes"] // 2)
    except (OSError, ValueError, OverflowError) as fault:  # of the set-up: what the snippet raises ends in _execute
        os.write(REPORT_FD, str(fault).encode())
    finally:
        while True:
            leave(code)


def _furnish(code: str) -> types.ModuleType:
    """The fresh `__main__`, streams, seeds and arguments that a program finds when it starts."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv[:] = [PROGRAM]
    sys.path.insert(0, "")
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0, "rb", closefd=False), "utf-8")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _printing_to(1)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _printing_to(2)  # type: ignore[misc]
    random.seed(0)
    if numpy_random := sys.modules.get("numpy.random"):
        numpy_random.seed(0)
    linecache.cache[PROGRAM] = (len(code), None, [f"{line}\n" for line in code.split("\n")], PROGRAM)
    gc.enable()
    return module


def _printing_to(descriptor: int) -> io.TextIOWrapper:
    """A text stream flushed at every line, so that a program that is stopped keeps what it printed."""
    raw = io.BufferedWriter(io.FileIO(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)


def _execute(code: str, module: types.ModuleType, *, traceback_bytes: int) -> int:
    """Run the snippet as `__main__`; returns the exit code that the interpreter would give."""
    try:
        compiled = compile(code, PROGRAM, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as fault:  # also NUL and surrogates
        _report(fault, "syntax")
        _tell(fault, traceback_bytes, is_located=False)
        return 1
    try:
        exec(compiled, module.__dict__)
    except SystemExit as leaving:
        return _leave(leaving)
    except MemoryError as fault:
        _report_exhaustion()
        module.__dict__.clear()  # room for the traceback
        _tell(fault, traceback_bytes)
    except BaseException as fault:  # whatever ends a program is data, KeyboardInterrupt included
        _report(fault, "denied" if isinstance(fault, Denied) else "exception")
        _tell(fault, traceback_bytes)
    else:
        return _wind_up()
    _wind_up()
    return 1


def _leave(leaving: SystemExit) -> int:
    """The exit code of sys.exit(argument): a number as it is, None as 0, anything else printed and 1."""
    argument = leaving.code
    code = 0 if argument is None else argument & 0xFF if isinstance(argument, int) else 1
    if code:
        _report(leaving, "exception")
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


def _report(fault: BaseException, kind: str) -> None:
    with contextlib.suppress(BaseException):  # the program may have closed the descriptor or given its class any name
        name = PermissionError.__name__ if kind == "denied" else type(fault).__name__
        os.write(REPORT_FD, json.dumps({"kind": kind, "name": name[:200]}).encode())


def _report_exhaustion(message: bytes = b'{"kind": "memory", "name": "MemoryError"}') -> None:
    """As _report, but without asking for memory."""
    with contextlib.suppress(OSError):
        os.write(REPORT_FD, message)


def _tell(fault: BaseException, limit: int, *, is_located: bool = True) -> None:
    """Write the traceback to stderr, with the snippet's own lines only, and the end of it if it is long."""
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
        os.write(2, text.rstrip("\n").encode(errors="backslashreplace") + b"\n")


def _hide_other_files(told: traceback.TracebackException) -> None:
    pending: list[traceback.TracebackException | None] = [told]
    while pending:
        if (link := pending.pop()) is not None:
            link.stack = traceback.StackSummary.from_list([at for at in link.stack if at.filename == PROGRAM])
            pending += [link.__cause__, link.__context__, *(getattr(link, "exceptions", None) or ())]
