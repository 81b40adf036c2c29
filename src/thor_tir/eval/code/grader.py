"""Programs as answers: what a model is asked, what of its text is the answer, and how that is graded."""

from collections.abc import Mapping

from thor_tir.eval.code.check import Examiner
from thor_tir.eval.code.extract_program import find_program
from thor_tir.problem import Problem
from thor_tir.problems.code_tasks import CodeTask
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict


def written(trajectory: Trajectory) -> str:
    """Everything that the model wrote, calls in their fences: a program that was run may also be the answer."""
    parts: list[str] = []
    for step in trajectory.steps:
        parts.append(step.thought.text)
        if step.action is not None:
            parts.append("\n```python\n" + step.action.code.strip("\n") + "\n```\n")
    return "".join(parts)


class CodeGrader:
    """Judges the last program of a text by the tests of its task."""

    def __init__(self, tasks: Mapping[str, CodeTask], sandbox: Sandbox) -> None:
        """`tasks` are looked up by the ids of problems."""
        self._tasks = tasks
        self._examiner = Examiner(sandbox)

    async def grade(self, problem: Problem, text: str) -> Verdict:
        """CORRECT where every test passes, WRONG otherwise; `extracted` is the program, or None where there is none.

        Raises SandboxUnavailable for a fault of the machine, UsageError for a task whose own code does not run.
        """
        task = self._tasks[problem.id]
        program = find_program(task, text)
        if program is None:
            return Verdict(outcome=Outcome.WRONG, extracted=None, reason="no program")
        found = await self._examiner.check(task, program)
        outcome = Outcome.CORRECT if found.passed else Outcome.WRONG
        return Verdict(outcome=outcome, extracted=program, reason=found.reason)
