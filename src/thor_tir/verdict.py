"""Verdicts on answers: the outcome, its reason, and how strictly it was reached."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """The three outcomes; UNSCORED leaves means and gradients alone: the grader could not tell."""

    CORRECT = "correct"
    WRONG = "wrong"
    UNSCORED = "unscored"


class Strictness(StrEnum):
    """The two readings of an answer; rules and callers share them, so they stand beside the verdict."""

    STRICT = "strict"
    """For rewards: the last box only, no guessing, no partial credit, nothing that a model could exploit."""
    LENIENT = "lenient"
    """For evaluation: answers outside of boxes, and rounding where the reference itself is rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome for one answer, with what a person needs to check it."""

    outcome: Outcome
    """The outcome: correct, wrong or unscored."""
    extracted: str | None
    """The answer found in the text, None where there is none."""
    reason: str
    """The reason, one clause for a person to read."""
    by_judge: bool = False
    """True if a language model decided, where no rule could; such verdicts are counted apart."""
