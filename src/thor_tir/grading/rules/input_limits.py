"""Cheap looks at an answer before anything costly or trusting reads it. What is refused here is a wrong answer."""

import re

MAX_CHARS = 4096
"""Characters of an answer; none is longer."""
_MAX_NESTING = 64
_MAX_DIGITS_IN_A_ROW = 256

_DIGITS = re.compile(r"\d+")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_UNEVALUATED = re.compile(r"\\(?:sum|prod|i{1,3}nt|oint|lim|bigcup|bigcap)(?![a-zA-Z])")
_POWER_TOWER = re.compile(r"\^\s*\{?(?:[^{}a-zA-Z\\]|\\pi|e)*\^")
_LARGE_BINOMIAL = re.compile(r"\\binom\s*\{[^{}]*(?:\^|\d{5})")
_FACTORIAL = re.compile(r"\d{5,}\)?\s*!|!\s*!|!\s*\)\s*!")
_LARGE_POWER = re.compile(r"\^\s*\{?\s*\(?[+-]?\d{4,}")
_MAX_COMMANDS = 256
_MAX_CELLS = 256
_CALL = re.compile(r"(\w*)\s*\(")
_TRIGONOMETRIC = {f"{arc}{name}{h}" for arc in ("", "a") for name in ("sin", "cos", "tan", "cot") for h in ("", "h")}
_MATHS = _TRIGONOMETRIC | {"sqrt", "cbrt", "exp", "log", "ln", "abs", "Abs"}
_MAY_PRECEDE_BRACKET = frozenset("+-*/^%=<>,;:|&~!([{")


def is_affordable(answer: str) -> bool:
    """True if an answer's length, nesting and numbers leave a parser any hope; true of every answer worth parsing."""
    if len(answer) > MAX_CHARS or any(len(run) > _MAX_DIGITS_IN_A_ROW for run in _DIGITS.findall(answer)):
        return False
    depth = 0
    for character in answer:
        depth += (character in "([{") - (character in ")]}")
        if depth > _MAX_NESTING:
            return False
    return True


def is_parsable(answer: str) -> bool:
    """True if a computer algebra system may be given the canonical answer: no towers, no sums left to do, no flood.

    The limits follow those of inspect_ai's mathematics scorer.
    """
    if len(_COMMAND.findall(answer)) > _MAX_COMMANDS or answer.count("&") > _MAX_CELLS:
        return False
    costly = (_UNEVALUATED, _POWER_TOWER, _FACTORIAL, _LARGE_POWER, _LARGE_BINOMIAL)
    return not any(pattern.search(answer) for pattern in costly)


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
