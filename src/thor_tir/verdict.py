"""What grading an answer yielded."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """UNSCORED leaves means and gradients alone: the grader could not tell."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNSCORED = "unscored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one answer, with what a person needs to check it."""

    outcome: Outcome
    extracted: str | None
    """The answer found in the text, None where there is none."""
    reason: str
    by_judge: bool = False
    """Whether a language model decided, where no rule could; such verdicts are counted apart."""
