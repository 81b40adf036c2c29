"""Verdicts of reasoning-gym's own scorers; runs inside the grading process, since they may parse hostile text."""

import re
from collections.abc import Callable, Mapping
from functools import cache

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


_CALL = re.compile(r"(\w*)\s*\(")
_TRIGONOMETRIC = {f"{arc}{name}{h}" for arc in ("", "a") for name in ("sin", "cos", "tan", "cot") for h in ("", "h")}
_MATHS = _TRIGONOMETRIC | {"sqrt", "cbrt", "exp", "log", "ln", "abs", "Abs"}
_MAY_PRECEDE_BRACKET = frozenset("+-*/^%=<>,;:|&~!([{")


def calls_only_maths(answer: str) -> bool:
    """True if every call in the text, read as Python, is of an elementary function.

    Some scorers of `reasoning-gym` pass an answer to `eval` or to sympy's `parse_expr`, which is `eval`. Python cannot
    do harm without a call, and a call needs a bracket after a name or a value. Quotes and comments beside a bracket
    are refused too, because they could hide one.
    """
    if "(" in answer and any(sign in answer for sign in "'\"#\\"):
        return False
    for call in _CALL.finditer(answer):
        before = answer[: call.start()].rstrip()[-1:]
        if call[1] and call[1] not in _MATHS:
            return False
        if not call[1] and before and before not in _MAY_PRECEDE_BRACKET:
            return False
    return True


def gym_outcome(family: str, answer: str, entry: Mapping[str, object]) -> tuple[Outcome, str]:
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
        if float(score(str(entry["answer"]), entry)) < 1:
            return Outcome.UNSCORED, f"reasoning-gym's scorer of {family} refuses its own reference"
        return Outcome.WRONG, f"reasoning-gym's scorer of {family} cannot read it ({type(error).__name__})"
    outcome = Outcome.CORRECT if value >= 1 - 1e-6 else Outcome.WRONG
    return outcome, f"reasoning-gym's scorer of {family} gives {value:g}"


@cache
def _gym_scorer(family: str) -> Callable[[str, Mapping[str, object]], float]:
    from reasoning_gym import get_score_answer_fn

    scorer: Callable[[str, Mapping[str, object]], float] = get_score_answer_fn(family)
    return scorer
