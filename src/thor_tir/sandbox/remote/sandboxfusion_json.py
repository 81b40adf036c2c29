"""The JSON of SandboxFusion's `POST /run_code` and our own nouns, both ways, shared by client and server. Pure.

The format is that of github.com/bytedance/SandboxFusion (`sandbox/server/sandbox_api.py`). A server of ours adds to it:
requests may carry `seed` and `output_bytes`; replies carry `level` and, under `thor`, what the format cannot say. A
foreign server ignores the former and lacks the latter, and then stderr, which a program can forge, tells one kind of
failure from another. Success is never read from output.
"""

import json
import math
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits, Snippet
from thor_tir.storage.journal import JsonObject

LEVEL_HEADER = "x-thor-sandbox-level"
"""Our server's replies name in it how programs are confined."""
TOKEN_VARIABLE = "THOR_SANDBOX_TOKEN"
"""Environment variable with the word that client and server share."""
FOREIGN_OUTPUT_BYTES = 2**20
"""A foreign server keeps that much of each stream and does not say that it cut the rest."""
DEADLOCK_BYTES = 120_000
"""From here on a foreign time-out may be the server's: old runners let a full pipe block the program."""

_MIB = 2**20
_EXCEPTION = re.compile(r"([A-Za-z_][\w.]*)(?::|$)")
_COMPILE_ERRORS = frozenset({"SyntaxError", "IndentationError", "TabError"})
_CODE_OF = {Status.MEMORY: -signal.SIGKILL, Status.OUTPUT_LIMIT: -signal.SIGXFSZ, Status.DENIED: -signal.SIGSYS}
"""Return codes for programs that the sandbox ended: the format knows no other word for their fate."""


class MalformedRequest(ValueError):
    """The body of a request is not what the format says, or asks for what this server does not do."""


class BadReply(ValueError):
    """A reply that says nothing about the program: the service failed, or is no sandbox."""


@dataclass(frozen=True, kw_only=True)
class RequestRules:
    """Limits that a server gives a request: its defaults, and the most that may be asked for."""

    default: Limits = field(default_factory=Limits)
    """For what a request leaves open."""
    most: Limits = field(default_factory=lambda: Limits(timeout_s=60.0, memory_bytes=4 * 2**30, output_bytes=2**23))
    """Higher wishes are lowered to these."""


def encode(value: object) -> bytes:
    """ASCII, so that any string can be sent, lone surrogates included."""
    return json.dumps(value, allow_nan=False).encode("ascii")


def decode(text: bytes) -> object:
    """Raises ValueError for anything that is not plain JSON: NaN, too deep, too long a number, not UTF-8."""
    try:
        value: object = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def request_to_json(code: str, limits: Limits, *, stdin: str, seed: int) -> JsonObject:
    """The body that asks for one run."""
    return {
        "code": code,
        "language": "python",
        "run_timeout": limits.timeout_s,
        "memory_limit_MB": math.ceil(limits.memory_bytes / _MIB),
        "stdin": stdin or None,
        "seed": seed,
        "output_bytes": limits.output_bytes,
    }


def request_from_json(body: object, rules: RequestRules) -> Snippet:
    """The program that a request asks to run. Raises MalformedRequest with one sentence."""
    if not isinstance(body, dict):
        raise MalformedRequest("the body must be a JSON object")
    if body.get("language") != "python":
        raise MalformedRequest(
            f"language must be 'python', the only one that runs here; found {body.get('language')!r}"
        )
    for name in ("files", "fetch_files", "args"):
        if body.get(name):
            raise MalformedRequest(
                f"{name} must be empty: programs here see no files and no arguments but their own code"
            )
    code, stdin = body.get("code"), body.get("stdin")
    if not isinstance(code, str):
        raise MalformedRequest("code must be a string")
    if not isinstance(stdin, str | None):
        raise MalformedRequest("stdin must be a string or null")
    seed = _wish(body, "seed", 0)
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise MalformedRequest(f"seed must be a whole number from 0 to 2**32 - 1, found {seed!r}")
    return Snippet(code=code, limits=_limits(body, rules), stdin=stdin or "", seed=seed)


def _limits(body: Mapping[str, Any], rules: RequestRules) -> Limits:
    timeout_s = _wish(body, "run_timeout", 10.0)  # the format's own default
    megabytes = _wish(body, "memory_limit_MB", -1)
    output_bytes = _wish(body, "output_bytes", rules.default.output_bytes)
    if timeout_s <= 0:
        raise MalformedRequest(f"run_timeout must be above 0, found {timeout_s}")
    if output_bytes < 1:
        raise MalformedRequest(f"output_bytes must be at least 1, found {output_bytes}")
    wanted_bytes = rules.default.memory_bytes if megabytes <= 0 else max(1, int(min(megabytes, 2**30) * _MIB))
    return Limits(
        timeout_s=min(timeout_s, rules.most.timeout_s),
        memory_bytes=min(wanted_bytes, rules.most.memory_bytes),
        output_bytes=int(min(output_bytes, rules.most.output_bytes)),
    )


def _wish(body: Mapping[str, Any], name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedRequest(f"{name} must be a number, found {str(value)[:40]!r}")
    return value


def reply_to_json(result: ExecutionResult) -> JsonObject:
    """The reply about a program that was run."""
    run = {
        "status": "TimeLimitExceeded" if result.status is Status.TIMEOUT else "Finished",
        "execution_time": result.seconds,
        "return_code": _return_code(result),
        "stdout": result.stdout,
        "stderr": result.stderr,
    }
    extra = {
        "status": result.status.value,
        "error": result.error,
        "exit_code": result.exit_code,
        "is_truncated": result.is_truncated,
        "cpu_s": result.cpu_s,
        "peak_bytes": result.peak_bytes,
        "queue_s": result.queue_s,
        "runs": result.runs,
    }
    status = "Success" if result.ran else "Failed"
    return {**_EMPTY_REPLY, "status": status, "run_result": run, "level": result.level, "thor": extra}


def fault_to_json(sentence: str) -> JsonObject:
    """The reply when the machine failed: the service answers, the program was not judged."""
    return {**_EMPTY_REPLY, "status": "SandboxError", "message": sentence}


_EMPTY_REPLY: Mapping[str, Any] = {
    "status": "",
    "message": "",
    "compile_result": None,
    "run_result": None,
    "executor_pod_name": None,
    "files": {},
}


def _return_code(result: ExecutionResult) -> int | None:
    """Never 0 for a failure; null for a time-out, where the format has no code."""
    if result.ran or result.status is Status.TIMEOUT:
        return None if result.status is Status.TIMEOUT else 0
    if result.status in _CODE_OF:
        return int(_CODE_OF[result.status])
    if result.exit_code:
        return result.exit_code
    name = result.error or ""
    return -int(signal.Signals[name]) if name in signal.Signals.__members__ else 1


def reply_from_json(reply: object, limits: Limits) -> ExecutionResult:
    """The result that a reply holds; `level` is empty where the server does not say.

    Raises BadReply when it says nothing about the program, contradicts itself or has a field of a wrong type.
    """
    record = _record(reply, "the reply")
    status = record.get("status")
    if status == "SandboxError":
        raise BadReply(f"SandboxError {_text(record, 'message')[:200]!r}")
    if status not in ("Success", "Failed"):
        raise BadReply(f"status is {str(status)[:40]!r}, not Success, Failed or SandboxError")
    run = _Run.read(_record(record.get("run_result"), "run_result"))
    if (status == "Success") != run.is_fine:
        raise BadReply(f"{status} contradicts {run.status} with return code {run.return_code}")
    if record.get("thor") is None:
        return _judge(run, limits, _text(record, "level"))
    return _own_result(_record(record["thor"], "thor"), run, _text(record, "level"))


@dataclass(frozen=True, kw_only=True)
class _Run:
    """`run_result` with its types checked."""

    status: str
    """Status as the server spells it."""
    seconds: float
    """Duration of the program in seconds."""
    return_code: int | None
    """Exit code; None where there is none."""
    stdout: str
    """Standard output."""
    stderr: str
    """Standard error."""

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> "_Run":
        status = record.get("status")
        if status not in ("Finished", "TimeLimitExceeded"):
            raise BadReply(f"run_result.status is {str(status)[:40]!r}")
        return cls(
            status=status,
            seconds=_number(record, "execution_time"),
            return_code=_whole(record, "return_code"),
            stdout=_text(record, "stdout"),
            stderr=_text(record, "stderr"),
        )

    @property
    def is_fine(self) -> bool:
        return self.status == "Finished" and not self.return_code


def _own_result(record: Mapping[str, Any], run: _Run, level: str) -> ExecutionResult:
    """The result that a server of our own reports exactly."""
    try:
        status = Status(str(record.get("status")))
    except ValueError as error:
        raise BadReply(f"thor.status is {str(record.get('status'))[:40]!r}") from error
    error_name, is_truncated = record.get("error"), record.get("is_truncated", False)
    if not isinstance(error_name, str | None) or not isinstance(is_truncated, bool):
        raise BadReply("thor.error or thor.is_truncated has a wrong type")
    result = ExecutionResult(
        status=status,
        stdout=run.stdout,
        stderr=run.stderr,
        error=error_name,
        exit_code=_whole(record, "exit_code"),
        seconds=run.seconds,
        level=level,
        is_truncated=is_truncated,
        cpu_s=_number(record, "cpu_s"),
        peak_bytes=_whole(record, "peak_bytes") or 0,
        queue_s=_number(record, "queue_s"),
        runs=_whole(record, "runs") or 1,
    )
    if result.ran != run.is_fine:
        raise BadReply(f"thor.status {status} contradicts {run.status} with return code {run.return_code}")
    return result


def _judge(run: _Run, limits: Limits, level: str) -> ExecutionResult:
    """The result of a foreign server: exit code and clock show success; stderr only separates kinds of failure."""
    most = min(limits.output_bytes, FOREIGN_OUTPUT_BYTES - 1)
    stdout, stderr = _cut(run.stdout, most), _cut(run.stderr, most)
    is_cut = (stdout, stderr) != (run.stdout, run.stderr)
    status, error = (Status.OUTPUT_LIMIT, None) if is_cut else _fate(run)
    return ExecutionResult(
        status=status,
        stdout=stdout,
        stderr=stderr,
        error=error,
        exit_code=None if is_cut else run.return_code,
        seconds=run.seconds,
        level=level,
        is_truncated=is_cut,
    )


def _cut(text: str, most: int) -> str:
    """The beginning of a text, at most so many bytes of UTF-8, whole characters."""
    if len(text) <= most // 4:
        return text
    data = text.encode("utf-8", errors="surrogatepass")
    return text if len(data) <= most else data[:most].decode("utf-8", errors="ignore")


def _fate(run: _Run) -> tuple[Status, str | None]:
    if run.status == "TimeLimitExceeded":
        return Status.TIMEOUT, None
    if run.is_fine:
        return (Status.OK if run.stdout else Status.OK_NO_OUTPUT), None
    code = run.return_code or 0
    number = -code if code < 0 else code - 128  # negative from a process, above 128 from a shell around it
    if number in signal.valid_signals():
        return _fate_by_signal(number)
    name, is_compiled = exception_in(run.stderr)
    if name == "MemoryError":
        return Status.MEMORY, name
    if name in _COMPILE_ERRORS and not is_compiled:
        return Status.SYNTAX, name
    return Status.RUNTIME, name or f"exit code {code}"


def _fate_by_signal(number: int) -> tuple[Status, str | None]:
    fates = {signal.SIGKILL: Status.MEMORY, signal.SIGXCPU: Status.TIMEOUT, signal.SIGSYS: Status.DENIED}
    try:
        named = signal.Signals(number)
    except ValueError:  # a real-time signal
        return Status.RUNTIME, f"signal {number}"
    return fates.get(named, Status.RUNTIME), None if named is signal.SIGXCPU else named.name


def exception_in(stderr: str) -> tuple[str | None, bool]:
    """Type of the exception that the last traceback ends with, and whether the program had begun to run."""
    lines = stderr.splitlines()
    heads = [i for i, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    starts = heads or [i for i, line in enumerate(lines) if line.startswith('  File "')]
    if not starts:
        return None, True
    ends = (line for line in lines[starts[-1] + 1 :] if line and not line[0].isspace())
    found = _EXCEPTION.match(next(ends, ""))
    return (found[1].rpartition(".")[2] if found else None), bool(heads)


def _record(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadReply(f"{name} is {type(value).__name__}, not an object")
    return value


def _text(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if not isinstance(value, str | None):
        raise BadReply(f"{name} is {type(value).__name__}, not a string")
    return value or ""


def _number(record: Mapping[str, Any], name: str) -> float:
    value = record.get(name)
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise BadReply(f"{name} is {str(value)[:40]!r}, not a duration")
    return float(value)


def _whole(record: Mapping[str, Any], name: str) -> int | None:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | None) or (value is not None and abs(value) > 2**53):
        raise BadReply(f"{name} is {str(value)[:40]!r}, not a whole number")
    return value
