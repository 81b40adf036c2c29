"""What a grader is given and what it gives back, besides the verdict itself."""

from dataclasses import dataclass
from enum import StrEnum

from thor_tir.problem import Problem
from thor_tir.verdict import Verdict


class SubmissionKind(StrEnum):
    """What the text of a submission is."""

    ANSWER = "answer"
    """A final answer, as it stands inside a box."""
    RESPONSE = "response"
    """All that a model wrote, code and tool output excluded; the answer is still to be found in it."""


class GradingRoute(StrEnum):
    """How a verdict came about; what a grader's statistics are counted by."""

    QUICK = "quick"
    """Without algebra, in the caller's thread."""
    CACHED = "cached"
    """Known from an identical pair, or shared with one under way."""
    ALGEBRA = "algebra"
    """By a grading process."""
    KILLED = "killed"
    """By a grading process that met a limit."""
    JUDGE = "judge"
    """By a language model, where everything else left it unscored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One text to be graded against one problem's reference."""

    problem: Problem
    text: str
    kind: SubmissionKind = SubmissionKind.RESPONSE


def pair(reference: str, answer: str, *, question: str = "") -> Submission:
    """A reference and a final answer that belong to no stored problem. Only a judge reads the question."""
    return Submission(
        problem=Problem(id="", question=question, answer=reference, source=""), text=answer, kind=SubmissionKind.ANSWER
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A verdict and what it cost."""

    verdict: Verdict
    path: GradingRoute
    seconds: float
    """Wall-clock time spent on it, without waiting for a process to be free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many verdicts came by one path, and what they took together."""

    count: int
    seconds: float
