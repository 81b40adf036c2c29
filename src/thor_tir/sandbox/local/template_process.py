"""One template process as the event loop sees it: started, asked, and ended without a thread or a blocking wait.

An answer costs the event loop two turns, one to receive it and one to wake its caller, because an engine that
computes in the same loop may take long over each turn.
"""

import asyncio
import json
import marshal
import math
import os
import signal
import socket
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TypeVar

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.jail import launch as launcher
from thor_tir.sandbox.jail import root
from thor_tir.sandbox.jail.program import ProgramRequest
from thor_tir.sandbox.jail.wire import (
    BOUNDS,
    ENDINGS,
    LENGTH,
    NOTE_BYTES,
    REPORT,
    Fault,
    Greeting,
    LastWords,
    Report,
    TemplateSettings,
    find_last_words,
    greeting_or_fault,
)
from thor_tir.sandbox.protocol import Limits

_MARSHAL = 2
"""Version of the format, which every interpreter that programs may run on reads."""
TICKS = 10
"""Waiting is cut into so many timers, so that one long block of the event loop does not look like a silent template."""
ENVIRONMENT = {
    "PATH": os.defpath,
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",  # a process with threads cannot be forked safely
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow, which pandas imports, would start one
    "HOME": root.WORK,
    "TMPDIR": root.WORK,
}
"""All that programs see; nothing is inherited, so no credential of the user is in it."""


Expected = TypeVar("Expected", Greeting, Report)

MESSAGE_BYTES = 65_536
"""More than the JSON of an honest message has."""


class TemplateLost(Exception):
    """A template process died, fell silent or could not do its part; its own words come first in the message."""

    def __init__(self, what: str, said: str = "", words: LastWords | None = None) -> None:
        said = words.reason if words else said
        super().__init__(f"{said} ({what})" if said else what)
        self.words = words


TemplateMessage = Greeting | Fault | Report


class Mailbox(asyncio.Protocol):
    """The messages that a template sends, each handed to the one future that waits for it."""

    def __init__(self) -> None:
        self.stream_bytes = 0
        """The most that stdout or stderr may hold in the next message."""
        self._buffer = bytearray()
        self._is_lost = False
        self._awaited: asyncio.Future[TemplateMessage] | None = None

    def next_message(self, patience_s: float) -> asyncio.Future[TemplateMessage]:
        """A future of the next message; cancelling it loses none. It raises TemplateLost if the connection ends, or
        after `patience_s` in which the event loop could have received something."""
        self._awaited = asyncio.get_running_loop().create_future()
        self._deliver()
        self._tick(self._awaited, patience_s, TICKS)
        return self._awaited

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._deliver()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._deliver()

    def _deliver(self) -> None:
        if self._awaited is None or self._awaited.done():
            return
        try:
            message = self._take()
        except (ValueError, TypeError, KeyError, RecursionError) as fault:
            self._awaited.set_exception(TemplateLost(f"the template process sent nonsense ({type(fault).__name__})"))
            return
        if message is not None:
            self._awaited.set_result(message)
        elif self._is_lost:
            self._awaited.set_exception(TemplateLost("the template process ended"))

    def _take(self) -> TemplateMessage | None:
        """The first whole message."""
        if len(self._buffer) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._buffer)
        if length == 0:
            return self._take_report()
        if length > MESSAGE_BYTES:
            raise ValueError(length)
        end = LENGTH.size + length
        if len(self._buffer) < end:
            return None
        message = greeting_or_fault(bytes(self._buffer[LENGTH.size : end]))
        del self._buffer[:end]
        return message

    def _take_report(self) -> Report | None:
        at = LENGTH.size + REPORT.size
        if len(self._buffer) < at:
            return None
        ending, code, cpu_s, seconds, peak_bytes, *sizes = REPORT.unpack_from(self._buffer, LENGTH.size)
        if ending >= len(ENDINGS) or sizes[0] > NOTE_BYTES or max(sizes[1:]) > self.stream_bytes:
            raise ValueError(ending, sizes)
        if len(self._buffer) < at + sum(sizes):
            return None
        texts = []
        for size in sizes:
            texts.append(self._buffer[at : at + size].decode("utf-8", "backslashreplace"))
            at += size
        del self._buffer[:at]
        note, stdout, stderr = texts
        return Report(
            ending=ENDINGS[ending],
            exit_code=code,
            cpu_s=cpu_s,
            seconds=seconds,
            peak_bytes=peak_bytes,
            note=note,
            stdout=stdout,
            stderr=stderr,
        )

    def _tick(self, awaited: asyncio.Future[TemplateMessage], patience_s: float, left: int) -> None:
        if awaited.done():
            return
        if left == 0:
            awaited.set_exception(TemplateLost(f"the template process did not answer within {patience_s:.1f} s"))
        else:
            asyncio.get_running_loop().call_later(patience_s / TICKS, self._tick, awaited, patience_s, left - 1)


class TemplateProcess:
    """A template process that is alive, or was until recently. Made by `launch`."""

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes], feed: socket.socket) -> None:
        self._process = process
        self._errors = errors
        self._feed = feed
        self._feeding: asyncio.WriteTransport | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._mailbox = Mailbox()
        self._owed = 0
        self.greeting: Greeting | None = None
        """First message of the template; None until it is ready."""

    async def connect(self, ours: socket.socket, patience_s: float) -> Greeting:
        """Wait until it is ready. Raises TemplateLost."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_connection(lambda: self._mailbox, sock=ours)
        self._feeding, _ = await loop.create_connection(asyncio.Protocol, sock=self._feed)
        self.greeting = _expected(Greeting, await self._receive(patience_s))
        return self.greeting

    async def ask(self, request: ProgramRequest, limits: Limits, patience_s: float) -> Report:
        """Run a program and wait for the report of its end. Raises TemplateLost."""
        if self._feeding is None or self._feeding.is_closing():
            raise TemplateLost("the template process ended")
        self._mailbox.stream_bytes = limits.output_bytes
        program = marshal.dumps(tuple(request), _MARSHAL)
        self._feeding.write(LENGTH.pack(len(program)) + program)
        self._write(BOUNDS.pack(limits.timeout_s, limits.output_bytes))
        self._owed += 1
        answer = await self._receive(patience_s)
        self._owed -= 1
        if isinstance(answer, Fault):
            raise TemplateLost(f"a program could not be started: {answer.reason}")
        return _expected(Report, answer)

    async def abandon(self, patience_s: float) -> bool:
        """Stop the program whose `ask` was cancelled; true if the process can be asked again."""
        if self.greeting is None:
            return False
        if self._owed:
            self.interrupt()
            try:
                await self._receive(patience_s)
            except TemplateLost:
                return False
            self._owed = 0
        return True

    def interrupt(self) -> None:
        """End the program that runs, if one does: its report comes at once."""
        self._write(BOUNDS.pack(0.0, 0))

    async def end(self) -> None:
        """Ask it to leave, then insist; when this returns the process is gone."""
        for transport in (self._transport, self._feeding):
            if transport is not None:
                transport.abort()
        self._feed.close()
        if self._transport is None or not await self._has_left(within_s=1.0):
            self._process.kill()
            while not await self._has_left(within_s=1.0):
                continue
        self._errors.close()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def _receive(self, patience_s: float) -> TemplateMessage:
        try:
            return await self._mailbox.next_message(patience_s)
        except TemplateLost as fault:
            if not await self._has_left(within_s=0.5) or self._errors.closed:
                raise
            self._errors.seek(0)
            said = self._errors.read().decode(errors="replace").strip().splitlines()
            if not said:
                raise TemplateLost(f"{fault}: status {self._process.returncode}") from fault
            raise TemplateLost(str(fault), said[-1], find_last_words(said)) from fault

    async def _has_left(self, *, within_s: float, pause_s: float = 0.005) -> bool:
        for _ in range(math.ceil(within_s / pause_s)):
            if self._process.poll() is not None:
                return True
            await asyncio.sleep(pause_s)
        return self._process.poll() is not None


def _expected(kind: type[Expected], answer: TemplateMessage) -> Expected:
    if not isinstance(answer, kind):
        raise TemplateLost(f"the template process sent a {type(answer).__name__.lower()} out of turn")
    return answer


@dataclass(frozen=True, kw_only=True)
class TemplateSpec:
    """Choices with which a template process is started."""

    python: str
    """Interpreter that is started."""
    modules: tuple[str, ...]
    """Imported before any program runs."""
    level: str
    """Level of confinement."""
    folder_bytes: int
    """Size of a program's folder in bytes."""
    folder_files: int
    """Most files in a program's folder."""
    is_collapsed: bool = True
    """Its memory on huge pages, which makes forks cheaper."""


def launch(recipe: TemplateSpec) -> tuple[TemplateProcess, socket.socket]:
    """Start a template process; the socket is this side's end. Raises TemplateLost."""
    (ours, control), (food, feed) = socket.socketpair(), socket.socketpair()
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
    here = Path(__file__).parents[1]
    settings = TemplateSettings(
        control=control.fileno(),
        feed=feed.fileno(),
        modules=recipe.modules,
        level=recipe.level,
        folder_bytes=recipe.folder_bytes,
        folder_files=recipe.folder_files,
        is_collapsed=recipe.is_collapsed,
    )
    packages = {"thor_tir": str(here.parent), "thor_tir.sandbox": str(here)}
    argument = json.dumps({"packages": packages, **asdict(settings)})
    with control, feed:
        try:
            process = subprocess.Popen(
                [recipe.python, "-s", "-P", "-B", "-c", launcher.BOOTSTRAP, argument],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=ENVIRONMENT,
                pass_fds=[control.fileno(), feed.fileno()],
                start_new_session=True,  # Ctrl-C in the terminal is for the parent to act on
            )
        except OSError as fault:
            for end in (ours, food, errors):
                end.close()
            raise TemplateLost(str(fault)) from fault
    ours.setblocking(False)
    food.setblocking(False)
    return TemplateProcess(process, errors, food), ours


def cpu_limit_s(limits: Limits) -> int:
    """CPU time binds only programs with several threads: it comes in whole seconds, and the wall clock ends sooner."""
    return math.ceil(limits.timeout_s) + 1


def interpret(report: Report, limits: Limits, level: str, *, runs: int = 1) -> ExecutionResult:
    """Result of a program whose end a template reported."""
    status, error = _judge(report, limits)
    return ExecutionResult(
        status=status,
        stdout=report.stdout,
        stderr=report.stderr,
        error=error,
        exit_code=report.exit_code if report.ending == "exit" else None,
        seconds=report.seconds,
        level=level,
        is_truncated=status is Status.OUTPUT_LIMIT,
        cpu_s=report.cpu_s,
        peak_bytes=report.peak_bytes,
        runs=runs,
    )


def _judge(report: Report, limits: Limits) -> tuple[Status, str | None]:
    if report.ending != "exit":
        return {"timeout": Status.TIMEOUT, "output": Status.OUTPUT_LIMIT}[report.ending], None
    if report.exit_code < 0:
        return _judge_signal(-report.exit_code, has_used_cpu=report.cpu_s >= cpu_limit_s(limits))
    if report.exit_code == 0:
        return (Status.OK if report.stdout else Status.OK_NO_OUTPUT), None
    kind, name = _read_note(report.note)
    statuses = {"syntax": Status.SYNTAX, "memory": Status.MEMORY, "denied": Status.DENIED}
    return statuses.get(kind, Status.RUNTIME), name or f"exit code {report.exit_code}"


def _judge_signal(number: int, *, has_used_cpu: bool) -> tuple[Status, str | None]:
    if number in (signal.SIGXCPU, signal.SIGKILL) and has_used_cpu:
        return Status.TIMEOUT, None
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    return (Status.DENIED if number == signal.SIGSYS else Status.RUNTIME), name


def _read_note(note: str) -> tuple[str, str | None]:
    """Kind and exception type as the child wrote them, or nothing where they are not plainly that."""
    try:
        message = json.loads(note)
        kind, name = str(message["kind"]), str(message["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", None
    return kind, name if name.isidentifier() else None
