"""How an answer earns a verdict: cheap exact comparisons first, then the bounded process.

A problem of `reasoning-gym` is judged by its family's own scorer, every other one by math-verify. What the model wrote
is never evaluated in this process.
"""

import asyncio
from collections import OrderedDict
from fractions import Fraction
from types import TracebackType
from typing import Self

from thor_tir.grading.extract import extract_answer
from thor_tir.grading.frames import Row
from thor_tir.grading.guard import calls_only_maths, is_affordable
from thor_tir.grading.process import GraderLimits, GraderProcess, ItemLost
from thor_tir.grading.rational import rational
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Verdict

GYM = "reasoning_gym/"
"""Sources that begin with this bring a scorer of their own, named by what follows."""

_ROUNDING = Fraction(1, 10**6)
"""Relative. Only a reference written as a decimal may itself be rounded; an integer or a fraction is meant exactly."""

Key = tuple[str, str, str, str]


class Grader:
    """Judges answers; use it as an async context manager, and within one event loop.

    Its processes start with the first answer that needs one. Verdicts are remembered, since the attempts at one problem
    often end in the same answer; UNSCORED ones are not, for they may be the machine's haste.
    """

    def __init__(
        self, limits: GraderLimits | None = None, *, num_processes: int = 1, num_remembered: int = 65_536
    ) -> None:
        if num_processes < 1:
            raise ValueError(f"num_processes is {num_processes}; grading needs at least one")
        self.processes = tuple(GraderProcess(limits or GraderLimits()) for _ in range(num_processes))
        self.num_remembered = num_remembered
        self._idle: asyncio.LifoQueue[GraderProcess] = asyncio.LifoQueue()
        self._remembered: OrderedDict[Key, tuple[Outcome, str]] = OrderedDict()
        for process in reversed(self.processes):
            self._idle.put_nowait(process)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            await process.kill()

    async def grade(self, problem: Problem, text: str) -> Verdict:
        r"""The verdict on what a model wrote, code and tool output excluded.

        CORRECT or WRONG by the last box in `text` (WRONG without one); UNSCORED where the comparison used up its time
        or memory or the reference cannot be read. Raises GraderUnavailable when the grading process cannot be had.
        """
        answer = extract_answer(text)
        if answer is None:
            return Verdict(outcome=Outcome.WRONG, extracted=None, reason="no answer in a box")
        outcome, reason = quick_outcome(problem, answer) or await self.considered_outcome(problem, answer)
        return Verdict(outcome=outcome, extracted=answer, reason=reason)

    async def considered_outcome(self, problem: Problem, answer: str) -> tuple[Outcome, str]:
        """What the grading process says of an extracted answer, or said before. Raises as `grade` does."""
        key = (problem.source, problem.id, problem.answer, answer)
        if key in self._remembered:
            self._remembered.move_to_end(key)
            return self._remembered[key]
        process = await self._idle.get()
        try:
            judged = await _judge(process, _request(problem, answer))
        finally:
            self._idle.put_nowait(process)
        if judged[0] is not Outcome.UNSCORED:
            self._remembered[key] = judged
            if len(self._remembered) > self.num_remembered:
                self._remembered.popitem(last=False)
        return judged


def quick_outcome(problem: Problem, answer: str) -> tuple[Outcome, str] | None:
    """What can be said without algebra; None where it cannot.

    A reasoning-gym reference is compared as text only, because its scorer may ask for a form (a reduced fraction, a
    clock time) that the value alone does not show.
    """
    if answer == problem.answer.strip():
        return Outcome.CORRECT, "the reference, letter for letter"
    if not is_affordable(answer):
        return Outcome.WRONG, "longer or deeper than any answer"
    if problem.source.startswith(GYM):
        return None if calls_only_maths(answer) else (Outcome.WRONG, "a program instead of an answer")
    return _rational_outcome(problem.answer, answer)


def _rational_outcome(reference: str, answer: str) -> tuple[Outcome, str] | None:
    expected, found = rational(reference), rational(answer)
    if expected is None or found is None:
        return None
    if expected == found:
        return Outcome.CORRECT, "the same number as the reference"
    if "." in reference and abs(expected - found) <= abs(expected) * _ROUNDING:
        return Outcome.CORRECT, "the same number as the rounded reference"
    return Outcome.WRONG, f"{found} is not {expected}"


def _request(problem: Problem, answer: str) -> Row:
    if not problem.source.startswith(GYM):
        return {"kind": "math", "reference": problem.answer, "answer": answer}
    entry = {"question": problem.question, "answer": problem.answer, "metadata": {}, **problem.extra}
    return {"kind": "gym", "family": problem.source.removeprefix(GYM), "answer": answer, "entry": entry}


async def _judge(process: GraderProcess, request: Row) -> tuple[Outcome, str]:
    """A process that dies may have been killed by anyone, so the item gets another; a time-out is its own doing."""
    for attempt in (1, 2):
        try:
            await process.prepare(request["kind"])
            reply = await process.ask(request)
        except ItemLost as lost:
            if lost.timed_out or attempt == 2:
                return Outcome.UNSCORED, f"the grading process was {lost}"
        else:
            return Outcome(reply["outcome"]), reply["reason"]
    raise AssertionError("the second attempt returns")
