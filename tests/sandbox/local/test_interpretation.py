"""From bare facts to a result, without running anything."""

import signal
from dataclasses import replace
from typing import Any

import pytest

from thor_tir.execution import Status
from thor_tir.sandbox.jail.wire import Report
from thor_tir.sandbox.local.template_process import interpret
from thor_tir.sandbox.protocol import Limits

LIMITS = Limits(timeout_s=5.0)


ENDED = Report(ending="exit", exit_code=0, cpu_s=0.1, peak_bytes=0, seconds=0.2, note="", stdout="", stderr="")


def report(**changes: Any) -> Report:
    return replace(ENDED, **changes)


@pytest.mark.parametrize(
    ("seen", "status", "error"),
    [
        (report(stdout="\n"), Status.OK, None),
        (report(stderr="a warning"), Status.OK_NO_OUTPUT, None),
        (report(note='{"kind": "memory", "name": "MemoryError"}'), Status.OK_NO_OUTPUT, None),  # exit code 0 is 0
        (report(exit_code=1, note='{"kind": "exception", "name": "KeyError"}'), Status.RUNTIME, "KeyError"),
        (report(exit_code=1, note='{"kind": "ok", "name": "KeyError"}'), Status.RUNTIME, "KeyError"),
        (report(exit_code=1, note='{"kind": "memory", "name": "two words"}'), Status.MEMORY, "exit code 1"),
        (report(exit_code=1, note="[]"), Status.RUNTIME, "exit code 1"),
        (report(exit_code=1, note="[" * 100_000), Status.RUNTIME, "exit code 1"),
        (report(exit_code=-signal.SIGSEGV), Status.RUNTIME, "SIGSEGV"),
        (report(exit_code=-signal.SIGSYS), Status.DENIED, "SIGSYS"),
        (report(exit_code=-signal.SIGKILL), Status.RUNTIME, "SIGKILL"),
        (
            report(exit_code=-signal.SIGKILL, cpu_s=6.0),
            Status.TIMEOUT,
            None,
        ),  # the CPU limit is the 5 s, rounded up, and 1
        (report(exit_code=-signal.SIGXCPU, cpu_s=6.0), Status.TIMEOUT, None),
        (report(exit_code=-signal.SIGXCPU, cpu_s=0.1), Status.RUNTIME, "SIGXCPU"),  # sent by the program itself
        (report(exit_code=-40), Status.RUNTIME, "signal 40"),
        (report(exit_code=-9, ending="timeout"), Status.TIMEOUT, None),
        (report(exit_code=0, ending="timeout", stdout="done"), Status.TIMEOUT, None),  # at the very moment it ended
        (report(exit_code=0, ending="output"), Status.OUTPUT_LIMIT, None),
    ],
)
def test_the_exit_code_and_the_clock_decide_and_the_report_only_names_a_failure(
    seen: Report, status: Status, error: str | None
) -> None:
    result = interpret(seen, LIMITS, "process")
    assert (result.status, result.error) == (status, error)


def test_the_exit_code_is_that_of_the_program_and_none_where_it_did_not_end_itself() -> None:
    seen = [
        report(exit_code=3),
        report(exit_code=-11),
        report(exit_code=-9, ending="timeout"),
        report(exit_code=0, ending="output"),
    ]
    assert [interpret(each, LIMITS, "process").exit_code for each in seen] == [3, -11, None, None]
