r"""One equivalence between answers where no reference says which is right: what a vote counts as one candidate.

Two answers are one candidate if the strict rules of the grader accept each as an answer to the other, so that `1/2`,
`0.5` and `\frac12` vote together and no rounding makes two numbers one. Fast where many agree: equal spellings are
joined first, verdicts are remembered, and algebra is asked, in a grading process, where exact arithmetic cannot tell.
"""

import atexit
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from thor_tir.errors import GraderUnavailable
from thor_tir.grading.grader import Grader
from thor_tir.grading.rules.canonical import bare_letters, canonical, is_affordable
from thor_tir.grading.rules.matching import MAX_QUICK_CHARS, quick_outcome
from thor_tir.grading.types import pair
from thor_tir.verdict import Outcome


def candidates_of(answers: Iterable[str | None]) -> list[int | None]:
    """The number of each answer's candidate; equal answers have one number, and None abstains.

    Numbers depend on the set of answers alone, not on their order.
    """
    given = [(answer or "").strip() for answer in answers]
    spellings = {text: _spelling(text) for text in set(given) if text}
    numbers = _numbered(tuple(sorted(set(spellings.values()))))
    return [numbers[spellings[text]] if text else None for text in given]


@lru_cache(maxsize=8192)
def _spelling(answer: str) -> str:
    """The answer in the one spelling in which most equal answers are equal letter for letter."""
    is_short = len(answer) <= MAX_QUICK_CHARS and is_affordable(answer)
    return (bare_letters(canonical(answer)) or answer) if is_short else answer


@lru_cache(maxsize=1024)
def _numbered(spellings: Sequence[str]) -> dict[str, int]:
    """Each spelling's candidate, which is known by the first of its spellings."""
    first: list[str] = []
    numbers: dict[str, int] = {}
    for spelling in spellings:
        known = next((place for place, other in enumerate(first) if are_equal(other, spelling)), None)
        if known is None:
            known = len(first)
            first.append(spelling)
        numbers[spelling] = known
    return numbers


@lru_cache(maxsize=65_536)
def are_equal(one: str, other: str) -> bool:
    """True if each of two answers is right where the other is the reference."""
    return one == other or (_accepts(one, other) and _accepts(other, one))


def _accepts(reference: str, answer: str) -> bool:
    try:
        quick = quick_outcome(reference, answer)
    except (ArithmeticError, ValueError, LookupError, TypeError):  # as in the grader: a process may stumble and survive
        quick = None
    if quick is not None:
        return quick[0] is Outcome.CORRECT
    try:
        return _grader().begin(pair(reference, answer)).result().verdict.outcome is Outcome.CORRECT
    except GraderUnavailable:
        return False


@cache
def _grader() -> Grader:
    """The one grader of all votes; its process starts with the first pair that needs algebra."""
    grader = Grader()
    atexit.register(grader.close)
    return grader
