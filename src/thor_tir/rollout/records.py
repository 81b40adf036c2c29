"""One attempt that is wanted, one that was made, and how the latter stands in a journal."""

from dataclasses import dataclass
from typing import Any

from thor_tir.problem import Problem
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """One attempt that is wanted."""

    id: str
    """Unique within the run; the key of the journal."""
    problem: Problem
    """Problem that is attempted."""
    seed: int
    """Seed of the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that was made, with its verdict."""

    problem: Problem
    """Problem that was attempted."""
    trajectory: Trajectory
    """Trajectory that was sampled."""
    verdict: Verdict
    """Verdict on its answer."""

    @property
    def is_correct(self) -> bool:
        """Whether the grader accepted the answer."""
        return self.verdict.outcome is Outcome.CORRECT


def written_text(trajectory: Trajectory) -> str:
    """Text that is graded of a trajectory unless somebody says otherwise: all that the model wrote outside of code."""
    return trajectory.response_text


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """As it stands in journals."""
    verdict = attempt.verdict
    return {
        "problem_id": attempt.problem.id,
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
        "by_judge": verdict.by_judge,
        "trajectory": trajectory_to_json(attempt.trajectory),
    }


def attempt_from_json(row: dict[str, Any], problem: Problem) -> Attempt:
    """The attempt a journal's row stands for. Raises ValueError for a damaged row."""
    if row.get("problem_id") != problem.id:
        raise ValueError(f"row {row.get('key')} is about problem {row.get('problem_id')}, not {problem.id}")
    verdict = Verdict(
        outcome=Outcome(row["outcome"]),
        extracted=row["extracted"],
        reason=row["reason"],
        by_judge=row["by_judge"],
    )
    return Attempt(problem=problem, trajectory=trajectory_from_json(row["trajectory"]), verdict=verdict)
