"""From what a template process saw to what a program did.

Success is exit code 0 within the clock and the output limit, nothing else: wait() and the template's clock say so. The
report, and all output, is the program's own word and can be forged; it only tells one kind of failure from another.
"""

import json
import math
import signal
from typing import Any

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits


def cpu_limit_s(limits: Limits) -> int:
    """CPU time binds only programs with several threads: it comes in whole seconds, and the wall clock ends sooner."""
    return math.ceil(limits.timeout_s) + 1


def interpret(facts: dict[str, Any], limits: Limits, level: str, *, runs: int = 1) -> ExecutionResult:
    """The result of a program of which a template reported `facts` (see `jail/wire.py`)."""
    status, error = _judge(facts, limits)
    return ExecutionResult(
        status=status,
        stdout=facts["stdout"],
        stderr=facts["stderr"],
        error=error,
        exit_code=facts["exit"] if facts["ending"] == "exit" else None,
        seconds=facts["seconds"],
        level=level,
        is_truncated=status is Status.OUTPUT_LIMIT,
        cpu_s=facts["cpu_s"],
        peak_bytes=facts["peak_bytes"],
        runs=runs,
    )


def _judge(facts: dict[str, Any], limits: Limits) -> tuple[Status, str | None]:
    if facts["ending"] != "exit":
        return {"timeout": Status.TIMEOUT, "output": Status.OUTPUT_LIMIT}[facts["ending"]], None
    if facts["exit"] < 0:
        return _judge_signal(-facts["exit"], has_used_cpu=facts["cpu_s"] >= cpu_limit_s(limits))
    if facts["exit"] == 0:
        return (Status.OK if facts["stdout"] else Status.OK_NO_OUTPUT), None
    kind, name = _read_report(facts["report"])
    statuses = {"syntax": Status.SYNTAX, "memory": Status.MEMORY, "denied": Status.DENIED}
    return statuses.get(kind, Status.RUNTIME), name or f"exit code {facts['exit']}"


def _judge_signal(number: int, *, has_used_cpu: bool) -> tuple[Status, str | None]:
    if number in (signal.SIGXCPU, signal.SIGKILL) and has_used_cpu:
        return Status.TIMEOUT, None
    try:
        name = signal.Signals(number).name
    except ValueError:  # a real-time signal
        name = f"signal {number}"
    return (Status.DENIED if number == signal.SIGSYS else Status.RUNTIME), name


def _read_report(report: str) -> tuple[str, str | None]:
    """Kind and exception type as the child wrote them, or nothing where they are not plainly that."""
    try:
        message = json.loads(report)
        kind, name = str(message["kind"]), str(message["name"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "", None
    return kind, name if name.isidentifier() else None
