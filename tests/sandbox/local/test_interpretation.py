"""From bare facts to a result, without running anything."""

import signal
from typing import Any

import pytest

from thor_tir.execution import Status
from thor_tir.sandbox.local.interpretation import interpret
from thor_tir.sandbox.protocol import Limits

LIMITS = Limits(timeout_s=5.0)


def facts(**changes: Any) -> dict[str, Any]:
    ended = {
        "ending": "exit",
        "exit": 0,
        "cpu_s": 0.1,
        "peak_bytes": 0,
        "seconds": 0.2,
        "report": "",
        "stdout": "",
        "stderr": "",
    }
    return ended | changes


@pytest.mark.parametrize(
    ("seen", "status", "error"),
    [
        (facts(stdout="\n"), Status.OK, None),
        (facts(stderr="a warning"), Status.OK_NO_OUTPUT, None),
        (facts(report='{"kind": "memory", "name": "MemoryError"}'), Status.OK_NO_OUTPUT, None),  # exit code 0 is 0
        (facts(exit=1, report='{"kind": "exception", "name": "KeyError"}'), Status.RUNTIME, "KeyError"),
        (facts(exit=1, report='{"kind": "ok", "name": "KeyError"}'), Status.RUNTIME, "KeyError"),
        (facts(exit=1, report='{"kind": "memory", "name": "two words"}'), Status.MEMORY, "exit code 1"),
        (facts(exit=1, report="[]"), Status.RUNTIME, "exit code 1"),
        (facts(exit=1, report="[" * 100_000), Status.RUNTIME, "exit code 1"),
        (facts(exit=-signal.SIGSEGV), Status.RUNTIME, "SIGSEGV"),
        (facts(exit=-signal.SIGSYS), Status.DENIED, "SIGSYS"),
        (facts(exit=-signal.SIGKILL), Status.RUNTIME, "SIGKILL"),
        (facts(exit=-signal.SIGKILL, cpu_s=6.0), Status.TIMEOUT, None),  # the CPU limit is the 5 s, rounded up, and 1
        (facts(exit=-signal.SIGXCPU, cpu_s=6.0), Status.TIMEOUT, None),
        (facts(exit=-signal.SIGXCPU, cpu_s=0.1), Status.RUNTIME, "SIGXCPU"),  # sent by the program itself
        (facts(exit=-40), Status.RUNTIME, "signal 40"),
        (facts(exit=-9, ending="timeout"), Status.TIMEOUT, None),
        (facts(exit=0, ending="timeout", stdout="done"), Status.TIMEOUT, None),  # at the very moment it ended
        (facts(exit=0, ending="output"), Status.OUTPUT_LIMIT, None),
    ],
)
def test_the_exit_code_and_the_clock_decide_and_the_report_only_names_a_failure(
    seen: dict[str, Any], status: Status, error: str | None
) -> None:
    result = interpret(seen, LIMITS, "process")
    assert (result.status, result.error) == (status, error)


def test_the_exit_code_is_that_of_the_program_and_none_where_it_did_not_end_itself() -> None:
    seen = [facts(exit=3), facts(exit=-11), facts(exit=-9, ending="timeout"), facts(exit=0, ending="output")]
    assert [interpret(each, LIMITS, "process").exit_code for each in seen] == [3, -11, None, None]
