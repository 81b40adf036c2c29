"""One grading process seen from outside: started, asked one thing at a time, killed when it overstays.

Blocking, with a deadline on every wait; `pool.py` gives each process a thread. The thread that starts a process must
outlive it: Linux ends the process with the thread that started it, so that none is left behind when ours is killed.
Messages between the two are a length in four big-endian bytes, then that many bytes of JSON.
"""

import contextlib
import json
import os
import select
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from time import monotonic
from typing import IO, BinaryIO, Literal, TypedDict, final

from thor_tir.errors import GraderUnavailable

QuestionKind = Literal["math", "gym"]
"""The two kinds of questions: by our rules, or by the scorer of a family of reasoning-gym."""


class MathQuestion(TypedDict):
    """A pair for our rules."""

    kind: Literal["math"]
    """Kind of the question."""
    reference: str
    """The reference answer."""
    answer: str
    """The answer to be compared with it."""
    strictness: str
    """Reading of both, by its value."""


class GymQuestion(TypedDict):
    """An answer for the scorer of a family."""

    kind: Literal["gym"]
    """Kind of the question."""
    family: str
    """Family of reasoning-gym."""
    answer: str
    """The answer to be scored."""
    entry: dict[str, object]
    """Question, answer and metadata, as the family's scorer reads them."""


GradingQuestion = MathQuestion | GymQuestion


class PrepareRequest(TypedDict):
    """Import what a kind of question needs."""

    do: Literal["prepare"]
    """Kind of the request."""
    kind: QuestionKind
    """Kind of the questions to come."""
    memory_bytes: int
    """Address space allowed on top of what the imports hold."""


class JudgeRequest(TypedDict):
    """Answer a question within bounds."""

    do: Literal["judge"]
    """Kind of the request."""
    question: GradingQuestion
    """The question."""
    alarm_s: float
    """Seconds after which the process gives up by itself."""
    cpu_s: int
    """Seconds of processor time after which the system ends it."""


@final
class JudgeReply(TypedDict):
    """The reply to a question."""

    outcome: str
    """The outcome, by its value."""
    reason: str
    """The reason, one clause for a person to read."""
    was_cut: bool
    """True if a limit ended the comparison."""
    resident_bytes: int
    """Memory that the process holds afterwards."""


@final
class ReadyReply(TypedDict):
    """The reply to a preparation."""

    ready: QuestionKind
    """Kind of the questions that can be asked now."""


@final
class PastReference(TypedDict):
    """Message before a reply: the reference has been read, so later faults are the answer's."""

    past: Literal["reference"]
    """Always the reference."""


WorkerRequest = PrepareRequest | JudgeRequest
WorkerReply = JudgeReply | ReadyReply | PastReference

HEADER = struct.Struct(">I")
"""The length of a frame's JSON, in bytes."""

_START_S = 120.0
"""Imports on a loaded machine; no answer's limit counts while they last."""
_MAX_ITEMS = 2_000
_MAX_RESIDENT_BYTES = 400 * 2**20
"""A process that served more, or grew beyond this, is replaced: sympy's caches and interned symbols only grow."""


@dataclass(frozen=True, kw_only=True)
class GraderLimits:
    """Limits on the verdict on one answer."""

    timeout_s: float = 5.0
    """Wall-clock seconds for a verdict. An alarm inside the process rings at 60 %, at 80 % the process is killed."""
    memory_bytes: int = 640 * 2**20
    """Address space on top of what the imported libraries hold; together they stay below 1 GB."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.memory_bytes <= 0:
            raise ValueError(f"timeout_s and memory_bytes must be positive, found {self}")

    @property
    def process_s(self) -> float:
        """Time after which the process is killed from outside, in seconds."""
        return 0.8 * self.timeout_s

    @property
    def alarm_s(self) -> float:
        """Time after which the process gives up by itself, which spares the next answer a new process."""
        return 0.6 * self.timeout_s


def encode_message(message: WorkerRequest | WorkerReply) -> bytes:
    """A message as it travels through the pipe, either way."""
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


def read_request(stream: BinaryIO) -> WorkerRequest | None:
    """The next request of a blocking stream, or None when the other side has gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    request: WorkerRequest = json.loads(stream.read(HEADER.unpack(header)[0]))
    return request


class ItemLost(Exception):
    """No reply to one request: the process died or was killed over it."""

    def __init__(self, reason: str, *, timed_out: bool, is_answers_fault: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out
        self.is_answers_fault = is_answers_fault
        """The process had read the reference and, where it ran out of time, spent that time computing."""


class GraderProcess:
    """One worker process. Used by one thread at a time, but for `stop`."""

    def __init__(self, limits: GraderLimits) -> None:
        """Start it, without waiting. Raises GraderUnavailable."""
        self.limits = limits
        self.num_items = 0
        self._resident_bytes = 0
        self._is_past_reference = False
        self._prepared: list[QuestionKind] = []
        self._num_unconfirmed = 0
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - a file, since no process reads along
        self._process = _spawn(self._stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to, self._from = self._process.stdin.fileno(), self._process.stdout.fileno()
        for descriptor in (self._to, self._from):
            os.set_blocking(descriptor, False)

    @property
    def pid(self) -> int:
        """The id of the running process."""
        return self._process.pid

    @property
    def is_worn(self) -> bool:
        """True if it has served long enough, or grown too large, and should be replaced."""
        return self.num_items >= _MAX_ITEMS or self._resident_bytes > _MAX_RESIDENT_BYTES

    def load_libraries(self, kind: QuestionKind) -> None:
        """Have it import what requests of `kind` ("math" or "gym") need; returns at once."""
        if kind in self._prepared:
            return
        request: PrepareRequest = {"do": "prepare", "kind": kind, "memory_bytes": self.limits.memory_bytes}
        self._prepared.append(kind)
        self._num_unconfirmed += 1
        with contextlib.suppress(EOFError, ConnectionError, TimeoutError):  # `await_ready` meets the same, says why
            self._send(encode_message(request), monotonic() + _START_S)

    def await_ready(self) -> None:
        """Wait for what was prepared. Raises GraderUnavailable, with the process's last words."""
        deadline = monotonic() + _START_S
        while self._num_unconfirmed:
            try:
                self._receive_frame(deadline)
            except TimeoutError as error:
                self.kill()
                raise GraderUnavailable(f"the grading process does not start within {_START_S:g} s") from error
            except (EOFError, ConnectionError) as error:
                raise GraderUnavailable(
                    f"the grading process does not start: died without a reply ({self.kill()})"
                ) from error
            self._num_unconfirmed -= 1

    def ask(self, question: GradingQuestion, limit_s: float) -> JudgeReply:
        """The reply to one question of a prepared kind. Raises ItemLost, the process being gone then."""
        self.num_items += 1
        self._is_past_reference = False
        alarm_s = min(self.limits.alarm_s, 0.75 * limit_s)
        request: JudgeRequest = {"do": "judge", "question": question, "alarm_s": alarm_s, "cpu_s": int(limit_s) + 2}
        used_s = _cpu_seconds(self.pid)
        try:
            return self._round_trip(encode_message(request), monotonic() + limit_s)
        except TimeoutError as error:
            is_busy = _cpu_seconds(self.pid) - used_s >= 0.4 * limit_s
            self.kill()
            raise ItemLost(
                f"killed after {limit_s:.1f} s without a reply",
                timed_out=True,
                is_answers_fault=self._is_past_reference and is_busy,
            ) from error
        except (EOFError, ConnectionError) as error:
            reason = f"died without a reply ({self.kill()})"
            raise ItemLost(reason, timed_out=False, is_answers_fault=self._is_past_reference) from error

    def stop(self) -> None:
        """End it from any thread; whoever waits for its reply learns that it died."""
        self._process.kill()

    def kill(self) -> str:
        """End it, wait until it is gone, close what connects us, and return its last line on stderr."""
        if self._stderr.closed:
            return "killed before"
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        with self._stderr:
            self._stderr.seek(0)
            lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "nothing on stderr"

    def _round_trip(self, blob: bytes, deadline: float) -> JudgeReply:
        self._send(blob, deadline)
        while True:
            reply = self._receive_frame(deadline)
            if "outcome" in reply:
                self._resident_bytes = reply["resident_bytes"]
                return reply
            self._is_past_reference = True

    def _receive_frame(self, deadline: float) -> WorkerReply:
        (size,) = HEADER.unpack(self._receive(HEADER.size, deadline))
        reply: WorkerReply = json.loads(self._receive(size, deadline))
        return reply

    def _send(self, blob: bytes, deadline: float) -> None:
        rest = memoryview(blob)
        while rest:
            _await(self._to, select.POLLOUT, deadline)
            rest = rest[os.write(self._to, rest[: select.PIPE_BUF]) :]

    def _receive(self, size: int, deadline: float) -> bytes:
        blob = b""
        while len(blob) < size:
            _await(self._from, select.POLLIN, deadline)
            if not (more := os.read(self._from, size - len(blob))):
                raise EOFError
            blob += more
        return blob


def _await(descriptor: int, event: int, deadline: float) -> None:
    """Wait until a pipe can be used. Raises TimeoutError. `poll`, since `select` ends at descriptor 1023."""
    waiter = select.poll()
    waiter.register(descriptor, event)
    if not waiter.poll(max(0.0, deadline - monotonic()) * 1000):
        raise TimeoutError


def _cpu_seconds(pid: int) -> float:
    """Processor time a process has used; infinity where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return float("inf")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _spawn(stderr: IO[bytes]) -> "subprocess.Popen[bytes]":
    # A fresh interpreter, never a fork: the parent may hold an accelerator, threads and gigabytes. `-P` keeps the
    # working directory, where a model's programs may have written, out of the import path.
    environment = os.environ | {"SYMPY_GROUND_TYPES": "python", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = (sys.executable, "-P", "-W", "ignore", "-m", "thor_tir.grading.workers.worker")
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=stderr, env=environment, start_new_session=True, bufsize=0
        )
    except OSError as error:
        stderr.close()
        raise GraderUnavailable(f"the grading process cannot be started: {error}") from error
