"""Verdicts without algebra: letter for letter, rational numbers, and lists and quantities made of them."""

from thor_tir.grading.rules.canonical import canonical
from thor_tir.grading.rules.input_limits import is_affordable
from thor_tir.grading.rules.matching import same
from thor_tir.grading.rules.rational import rational
from thor_tir.grading.rules.rounding import accepts_rounded
from thor_tir.verdict import Outcome, Strictness

_MAX_CHARS = 512
"""Of what is compared in the caller's own thread, which nothing can stop; the grading process takes the rest."""


class NeedsAlgebra(Exception):
    """Rational arithmetic cannot tell."""


class RationalArithmetic:
    """Decides between rational numbers, and raises NeedsAlgebra for everything else."""

    def __init__(self, strictness: Strictness) -> None:
        self.strictness = strictness

    def equal(self, gold: str, answer: str) -> bool:
        """Whether the numbers are the same, or the answer rounds to a rounded reference."""
        expected, found = rational(gold), rational(answer)
        if expected is None or found is None:
            raise NeedsAlgebra
        return expected == found or accepts_rounded(gold, answer, (expected, found), self.strictness)

    def proportional(self, gold: str, answer: str, *, is_positive: bool) -> bool:
        """Always beyond it."""
        raise NeedsAlgebra


def quick_outcome(
    reference: str, answer: str, strictness: Strictness = Strictness.STRICT
) -> tuple[Outcome, str] | None:
    """The verdict where exact arithmetic on rational numbers suffices, in microseconds; None where it does not.

    An answer that no parser should be given is WRONG here, unless it is the reference letter for letter.
    """
    if answer.strip() == reference.strip() and answer.strip():
        return Outcome.CORRECT, "the reference, letter for letter"
    if not is_affordable(answer):
        return Outcome.WRONG, "longer or deeper than any answer"
    if max(len(reference), len(answer)) > _MAX_CHARS:
        return None
    try:
        is_same = _is_same(reference, answer, RationalArithmetic(strictness))
    except (NeedsAlgebra, RecursionError):
        return None
    if is_same:
        return Outcome.CORRECT, "equal to the reference by exact arithmetic"
    return Outcome.WRONG, f"{answer.strip()[:80]!r} is not {reference.strip()[:80]!r} by exact arithmetic"


def _is_same(reference: str, answer: str, arithmetic: RationalArithmetic) -> bool:
    if rational(reference) is not None and rational(answer) is not None:
        return arithmetic.equal(reference, answer)
    return same(canonical(reference), canonical(answer), arithmetic)
