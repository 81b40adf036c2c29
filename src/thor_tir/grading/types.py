"""Records of the grader: submissions, graded submissions, tallies, and the version that names its rules."""

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from thor_tir.problem import Problem
from thor_tir.verdict import Verdict

_LIBRARIES = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime", "mpmath")
_NO_RULES = frozenset({"grader", "judge", "pool", "process", "types", "voting"})
"""Modules that move answers and verdicts about without deciding any."""


class SubmissionKind(StrEnum):
    """The two kinds of text that can be graded."""

    ANSWER = "answer"
    """A final answer, as it stands inside a box."""
    RESPONSE = "response"
    """All that a model wrote, code and tool output excluded; the answer is still to be found in it."""


class GradingRoute(StrEnum):
    """The route by which a verdict came about; a grader counts its statistics by it."""

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
    """The problem whose reference decides."""
    text: str
    """The text to be graded."""
    kind: SubmissionKind = SubmissionKind.RESPONSE
    """The kind of text: a final answer or a whole response."""


def pair(reference: str, answer: str, *, question: str = "") -> Submission:
    """A reference and a final answer that belong to no stored problem. Only a judge reads the question."""
    return Submission(
        problem=Problem(id="", question=question, answer=reference, source=""), text=answer, kind=SubmissionKind.ANSWER
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """A verdict and what it cost."""

    verdict: Verdict
    """The verdict itself."""
    path: GradingRoute
    """The route by which it came about."""
    seconds: float
    """Wall-clock time spent on it, without waiting for a process to be free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The verdicts that came by one route, counted and timed."""

    count: int
    """Verdicts that came by the route."""
    seconds: float
    """Wall-clock seconds they took together."""


@cache
def grader_version() -> str:
    """Versions of the libraries that decide, and twelve digits that change with any of our rules."""
    digest = sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        if path.stem not in _NO_RULES:
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return f"rules {digest.hexdigest()[:12]}; {libraries}"
