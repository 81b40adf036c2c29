"""Verdicts without algebra: letter for letter, rational numbers, and lists and quantities made of them."""

from thor_tir.grading.rules.arithmetic import NeedsAlgebra, RationalArithmetic, rational
from thor_tir.grading.rules.canonical import canonical
from thor_tir.grading.rules.input_limits import is_affordable
from thor_tir.grading.rules.matching import same
from thor_tir.verdict import Outcome, Strictness

_MAX_CHARS = 512
"""Characters compared in the caller's own thread, which nothing can stop; the grading process takes the rest."""


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
