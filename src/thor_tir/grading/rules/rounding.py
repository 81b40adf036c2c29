"""When a decimal may stand for another number: a rounded reference, or an answer printed by a program."""

import re
from fractions import Fraction

from thor_tir.verdict import Strictness

_DECIMAL = re.compile(r"[+-]?(\d+)?(?:\.(\d+))?(?:(?:[eE]|\s*\*\s*10\s*\^\s*\{?)([+-]?\d+)\}?)?")
_PRINTED_DIGITS = 14
_PRINTED_ERROR = Fraction(1, 10**13)
_LONG_DIGITS = 10
_LONG_ERROR = Fraction(1, 10**9)


def accepts_rounded(gold: str, answer: str, values: tuple[Fraction, Fraction], strictness: Strictness) -> bool:
    """Whether an answer of another value is meant by the reference all the same.

    `values` are exact, or exact to 40 digits. A reference with a decimal point accepts what rounds to its last digit,
    from three significant digits on, or from two of a power of ten in a lenient reading. A decimal answer counts as an
    exact reference only with the digits that a program prints.
    """
    expected, found = values
    shape, own = _DECIMAL.fullmatch(gold.strip(" $")), _DECIMAL.fullmatch(answer.strip(" $"))
    if own and own[2] is not None and _within(expected, found, _PRINTED_ERROR):
        return _significant(own) >= _PRINTED_DIGITS
    if not shape or shape[2] is None:
        return False
    unit = Fraction(10) ** (int(shape[3] or 0) - len(shape[2]))
    needed = 2 if strictness is Strictness.LENIENT and shape[3] else 3
    return _significant(shape) >= needed and abs(expected - found) <= unit / 2


def is_long_decimal(answer: str) -> bool:
    """Whether the answer is a decimal of so many digits that it is no estimate."""
    own = _DECIMAL.fullmatch(answer.strip())
    return bool(own and own[2] is not None and _significant(own) >= _LONG_DIGITS)


def is_close(expected: Fraction, found: Fraction) -> bool:
    """Within what such a decimal may be off an irrational reference."""
    return _within(expected, found, _LONG_ERROR)


def _within(expected: Fraction, found: Fraction, error: Fraction) -> bool:
    return abs(expected - found) <= abs(expected) * error


def _significant(decimal: re.Match[str]) -> int:
    return len(((decimal[1] or "") + (decimal[2] or "")).lstrip("0"))
