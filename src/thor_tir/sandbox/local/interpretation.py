"""From what a template process saw to what a program did.

Success is exit code 0 within the clock and the output limit, nothing else: wait() and the template's clock say so. The
report, and all output, is the program's own word and can be forged; it only tells one kind of failure from another.
"""

import json
import math
import signal

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.jail.wire import Report
from thor_tir.sandbox.protocol import Limits


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
