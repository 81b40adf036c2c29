r"""One equivalence between answers where no reference says which is right: what a vote counts as one candidate.

Two answers are equal if the strict rules of the grader accept each as an answer to the other, so that `1/2`, `0.5` and
`\frac12` vote together; a decimal of full precision is also equal to the exact value that it was computed from, and no
coarser rounding makes two numbers one. An answer that leaves something out (`10` beside `10%`, `3:45` beside `3:45 pm`)
joins the fuller one if only one such candidate is there. Fast where many agree: equal spellings are
joined first, verdicts are remembered, and algebra is asked, in a grading process, where exact arithmetic cannot tell.
"""

import atexit
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache

from thor_tir.errors import GraderUnavailable
from thor_tir.grading.grader import Grader
from thor_tir.grading.rules.canonical import canonical, is_affordable
from thor_tir.grading.rules.matching import MAX_QUICK_CHARS, quick_outcome
from thor_tir.grading.rules.quantity import quantity
from thor_tir.grading.types import pair
from thor_tir.verdict import Outcome

_FULL_DIGITS = 15
_DECIMAL = re.compile(r"[+-]?\d*\.\d+")
_MORE = re.compile(r"=|_|\d:\d\d\s*(?:\\text\s*\{)?\s*[ap]\.?\s*m", re.IGNORECASE)


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
    return (canonical(answer) or answer) if is_short else answer


@lru_cache(maxsize=1024)
def _numbered(spellings: Sequence[str]) -> dict[str, int]:
    """Each spelling's candidate. Full and bare answers are grouped apart; then a bare group joins its only match."""
    full = _connected([spelling for spelling in spellings if _says_more(spelling)])
    bare = _connected([spelling for spelling in spellings if not _says_more(spelling)])
    matches = [
        (left, right)
        for left, some in enumerate(bare)
        for right, others in enumerate(full)
        if any(are_equal(one, other) for one in some for other in others)
    ]
    lefts, rights = Counter(left for left, _ in matches), Counter(right for _, right in matches)
    joined = {left: right for left, right in matches if lefts[left] == rights[right] == 1}
    groups = [full[right] + bare[left] for left, right in joined.items()]
    groups += [group for place, group in enumerate(full) if place not in joined.values()]
    groups += [group for place, group in enumerate(bare) if place not in joined]
    return {spelling: number for number, group in enumerate(sorted(map(sorted, groups))) for spelling in group}


def _connected(spellings: Sequence[str]) -> list[list[str]]:
    """The spellings in groups that chains of equal ones hold together, whatever their order."""
    groups: list[list[str]] = []
    for spelling in spellings:
        near = [group for group in groups if any(are_equal(other, spelling) for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([*(other for group in near for other in group), spelling])
    return groups


@lru_cache(maxsize=8192)
def _says_more(spelling: str) -> bool:
    """True if an answer says more than a value: a unit, a percent sign, half of the day, a base, a name."""
    return bool(_MORE.search(spelling)) or not quantity(spelling).is_bare


@lru_cache(maxsize=65_536)
def are_equal(one: str, other: str) -> bool:
    """True if each is right where the other is the reference; for decimals of full precision one direction will do."""
    if one == other:
        return True
    accepted = _accepts(one, other)
    is_rounded = not (_says_more(one) or _says_more(other)) and (_is_full_decimal(one) or _is_full_decimal(other))
    return (accepted or _accepts(other, one)) if is_rounded else accepted and _accepts(other, one)


def _is_full_decimal(text: str) -> bool:
    """True of a decimal of the digits that floating point has, whose last one is rounded."""
    return bool(_DECIMAL.fullmatch(text)) and len(text.strip("+-0.").replace(".", "")) >= _FULL_DIGITS


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
