"""Verdicts of reasoning-gym's own scorers; runs inside the grading process, since they may parse hostile text."""

from collections.abc import Callable
from functools import cache

from thor_tir.grading.workers.ipc import IpcRow
from thor_tir.verdict import Outcome

UNREADABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    PermissionError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors of readers of mathematics on text they cannot read. Anything else ends the process; the parent says so."""


def gym_outcome(family: str, answer: str, entry: IpcRow) -> tuple[Outcome, str]:
    """The verdict of the reasoning-gym family's own scorer. Its partial credit is not correct.

    A scorer that cannot read the answer makes it wrong, provided that the scorer accepts its own reference.
    """
    try:
        score = _gym_scorer(family)
    except ValueError as error:
        return Outcome.UNSCORED, f"reasoning-gym has no scorer of its own for {family!r}: {error}"
    try:
        value = float(score(answer, entry))
    except UNREADABLE as error:
        if float(score(entry["answer"], entry)) < 1:
            return Outcome.UNSCORED, f"reasoning-gym's scorer of {family} refuses its own reference"
        return Outcome.WRONG, f"reasoning-gym's scorer of {family} cannot read it ({type(error).__name__})"
    outcome = Outcome.CORRECT if value >= 1 - 1e-6 else Outcome.WRONG
    return outcome, f"reasoning-gym's scorer of {family} gives {value:g}"


@cache
def _gym_scorer(family: str) -> Callable[[str, IpcRow], float]:
    from reasoning_gym import get_score_answer_fn

    scorer: Callable[[str, IpcRow], float] = get_score_answer_fn(family)
    return scorer
