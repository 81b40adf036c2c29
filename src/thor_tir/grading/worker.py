"""The grader's own process: judges one answer at a time, under limits, and answers over a pipe.

Run as `python -m thor_tir.grading.worker`. It reads frames from stdin and writes one frame for each to the descriptor
that was stdout. It imports neither torch nor anything else of a training process, so it can be killed and started again
at any time. It is not a sandbox: it bounds time and memory, and `guard.py` keeps away what a scorer might execute.
"""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from math_verify import parse, verify

from thor_tir.grading.frames import Row, frame, read_frame
from thor_tir.verdict import Outcome

_UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What scorers raise on text they cannot read. Anything else ends the process, and the parent says so."""


class _TookTooLong(BaseException):
    """Raised by the alarm. Not an Exception: the libraries below catch those and would call the answer wrong."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """One limit over everything inside, where math-verify's own alarms would each start anew for every candidate."""

    def ring(_signal: int, _frame: object) -> None:
        raise _TookTooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def math_outcome(reference: str, answer: str) -> tuple[Outcome, str]:
    """Whether math-verify holds the answer to equal the reference, both read as the content of a box."""
    gold = _parse(reference)
    if not gold:
        return Outcome.UNSCORED, f"the reference {reference!r} cannot be read"
    if verify(gold, _parse(answer), timeout_seconds=None):
        return Outcome.CORRECT, "equal to the reference by math-verify"
    return Outcome.WRONG, "not equal to the reference by math-verify"


def _parse(text: str) -> list[Any]:
    parsed: list[Any] = parse(rf"\boxed{{{text}}}", extraction_mode="first_match", parsing_timeout=None)
    return parsed


def gym_outcome(family: str, answer: str, entry: Row) -> tuple[Outcome, str]:
    """What the reasoning-gym family's own scorer says. Its partial credit is not correct.

    A scorer that cannot read the answer makes it wrong, provided that the scorer accepts its own reference.
    """
    try:
        score = _gym_scorer(family)
    except ValueError as error:
        return Outcome.UNSCORED, f"reasoning-gym has no scorer of its own for {family!r}: {error}"
    try:
        value = float(score(answer, entry))
    except _UNREADABLE as error:
        if float(score(entry["answer"], entry)) < 1:
            return Outcome.UNSCORED, f"reasoning-gym's scorer of {family} refuses its own reference"
        return Outcome.WRONG, f"reasoning-gym's scorer of {family} cannot read it ({type(error).__name__})"
    outcome = Outcome.CORRECT if value >= 1 - 1e-6 else Outcome.WRONG
    return outcome, f"reasoning-gym's scorer of {family} gives {value:g}"


@cache
def _gym_scorer(family: str) -> Callable[[str, Row], float]:
    from reasoning_gym import get_score_answer_fn

    scorer: Callable[[str, Row], float] = get_score_answer_fn(family)
    return scorer


def judge(request: Row) -> Row:
    """The reply to one request: an outcome and its reason."""
    try:
        with _alarm(request["alarm_s"]):
            if request["kind"] == "gym":
                outcome, reason = gym_outcome(request["family"], request["answer"], request["entry"])
            else:
                outcome, reason = math_outcome(request["reference"], request["answer"])
    except _TookTooLong:
        outcome, reason = Outcome.UNSCORED, f"the comparison took longer than {request['alarm_s']:g} s"
    except MemoryError:
        outcome, reason = Outcome.UNSCORED, "the comparison needed more memory than it may have"
    return {"outcome": outcome, "reason": reason}


def prepare(request: Row) -> Row:
    """Import what a kind of request needs, before any limit on time or memory counts."""
    _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
    _limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
    if request["kind"] == "gym":
        import reasoning_gym  # noqa: F401
    else:
        math_outcome(r"\frac{1}{2}", "x^2+1")
    _limit(resource.RLIMIT_AS, _address_space() + request["memory_bytes"])
    _fall_silent()
    return {"ready": request["kind"]}


def _fall_silent() -> None:
    """Whatever scorers print would fill a pipe that nobody reads once this process has started well."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _limit(what: int, soft: int) -> None:
    """Lower or raise the soft limit, as far as the hard limit of the parent allows."""
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(what, (soft, hard))


def _address_space() -> int:
    """Bytes mapped now; 0 where the system has no /proc, which leaves the bare allowance."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """Serve until stdin ends, with stdout kept free of whatever a library prints."""
    _die_with_parent()
    _limit(resource.RLIMIT_CORE, 0)
    logging.disable()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    while (request := read_frame(sys.stdin.buffer)) is not None:
        if request["do"] == "prepare":
            reply = prepare(request)
        else:
            used = resource.getrusage(resource.RUSAGE_SELF)
            _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + request["cpu_s"])
            reply = judge(request)
        replies.write(frame(reply))
        replies.flush()


if __name__ == "__main__":
    main()
