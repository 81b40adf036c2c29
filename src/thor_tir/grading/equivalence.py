"""How an answer earns a verdict: the grader as the rest of the package uses it, from asyncio.

The work is done by `blocking.py`; nothing here waits inside the event loop, and one grader may serve several loops.
"""

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self

from thor_tir.grading.blocking import BlockingGrader, Judge
from thor_tir.grading.strictness import Strictness
from thor_tir.grading.submission import Graded, GradingRoute, Submission, Tally, pair
from thor_tir.grading.workers.process import GraderLimits
from thor_tir.problem import Problem
from thor_tir.verdict import Verdict


class Grader:
    """Judges answers; an async context manager.

    A problem of `reasoning-gym` is judged by its family's own scorer, every other one by our rules and math-verify.
    """

    def __init__(
        self,
        limits: GraderLimits | None = None,
        *,
        num_processes: int = 1,
        strictness: Strictness = Strictness.STRICT,
        judge: Judge | None = None,
    ) -> None:
        """A judge is for lenient grading only. Raises ValueError with a strict one, or without processes."""
        self.blocking = BlockingGrader(limits, num_processes=num_processes, strictness=strictness, judge=judge)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.blocking.close)

    @property
    def stats(self) -> Mapping[GradingRoute, Tally]:
        """How many verdicts came by which path so far, and the seconds they took."""
        return self.blocking.stats

    def warm(self) -> None:
        """Start the grading processes in the background, so that the first answer need not wait for them."""
        self.blocking.warm()

    async def grade(self, problem: Problem, text: str) -> Verdict:
        r"""The verdict on what a model wrote, code and tool output excluded.

        CORRECT or WRONG by the last box in `text` (WRONG without one); UNSCORED where the reference cannot be read or
        the machine was too slow. An answer whose comparison uses up its time or memory is WRONG if the reference alone
        does not. Raises GraderUnavailable when a grading process cannot be had.
        """
        return (await self._graded(Submission(problem=problem, text=text))).verdict

    async def grade_answer(self, reference: str, answer: str) -> Verdict:
        """The verdict on a final answer, as it stands inside a box. Raises as `grade` does."""
        return (await self._graded(pair(reference, answer))).verdict

    async def grade_batch(self, submissions: Iterable[Submission]) -> list[Graded]:
        """Verdicts in order, what each cost included. Raises as `grade` does."""
        given = list(submissions)
        return await asyncio.to_thread(lambda: list(self.blocking.grade_batch(given)))

    async def _graded(self, submission: Submission) -> Graded:
        future = self.blocking.begin(submission)
        return future.result() if future.done() else await asyncio.wrap_future(future)
