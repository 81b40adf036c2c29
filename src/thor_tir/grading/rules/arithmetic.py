"""Arithmetic that the rules of form rely on: exact rational numbers, rounding, and the protocol of both.

Most answers are numbers that need no algebra and end here, within microseconds and without another process.
"""

import re
from fractions import Fraction
from typing import Protocol

from thor_tir.verdict import Strictness

_MAX_DIGITS = 256
_MAX_EXPONENT = 300
_DECORATION = re.compile(r"\\left|\\right|\\[,!;:$ ]|[\s~$]+")
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
"""A number with thousands separators."""
_NARROW = r"(?: |~|\u202f|\u2009|\xa0|\\[ ,;]|\\thinspace(?![a-z]))"
_NARROW_GROUPS = re.compile(rf"(?<![\d.,\\])[1-9]\d{{0,2}}(?:{_NARROW}\d{{3}})+(?!\d)")
_NOT_A_DIGIT = re.compile(r"\D")
_APART = re.compile(r"[\d.,](?:\\left|\\right|\\[,;:$ ]|[\s~$])+[\d.,]")
"""Two numbers with a blank between them; thousands that a narrow blank divides are joined before."""
_SPACED_LIST = re.compile(r"(?<!\\),\s")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac(?:\{([^{}]+)\}\{([^{}]+)\}|(\d)(\d))")
_MIXED = re.compile(r"([+-]?)(\d+)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d))")
_SPACED_MIXED = re.compile(r"\s*([+-]?)(\d+)\s+(\d+)\s*/\s*(\d+)\s*")
_TEN = r"(?:\\times|\\cdot|\*|x)10(?:\^|\*\*)(?:\{([+-]?\d{1,3})\}|([+-]?\d{1,3}))"
_PLAIN = re.compile(rf"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{{1,3}})|{_TEN})?")
_POWER_OF_TEN = re.compile(rf"\s*{_TEN}\s*$".replace("10", r"\s*10\s*"))
_OVERLINED = re.compile(r"([+-]?)(\d*)\.(\d*)(?:\\overline\{(\d+)\}|\((\d+)\))")
_ELLIPSIS = re.compile(r"([+-]?)(\d*)\.(\d+?)(?:\\[lc]?dots|\.\.\.)")

_DECIMAL = re.compile(r"[+-]?(\d+)?(?:\.(\d+))?(?:(?:[eE]|\s*\*\s*10\s*\^\s*\{?)([+-]?\d+)\}?)?")
_PRINTED_DIGITS = 14
_PRINTED_ERROR = Fraction(1, 10**13)
_LARGEST_NOISE = Fraction(1, 1000)
_LONG_DIGITS = 10
_LONG_ERROR = Fraction(1, 10**9)


class Arithmetic(Protocol):
    """Decides once the form has been taken apart. Its methods may raise to say that they cannot."""

    strictness: Strictness
    """Reading that decides how much is allowed for."""

    def equal(self, gold: str, answer: str) -> bool:
        """True if two expressions have the same value, the rounding of the reference allowed for."""
        ...

    def proportional(self, gold: str, answer: str, *, is_positive: bool) -> bool:
        """True if one expression is the other times a number other than zero, or a positive one."""
        ...


class NeedsAlgebra(Exception):
    """Rational arithmetic cannot tell."""


class RationalArithmetic:
    """Decides between rational numbers, and raises NeedsAlgebra for everything else."""

    def __init__(self, strictness: Strictness) -> None:
        self.strictness = strictness

    def equal(self, gold: str, answer: str) -> bool:
        """True if the numbers are the same, or the answer rounds to a rounded reference."""
        expected, found = rational(gold), rational(answer)
        if expected is None or found is None:
            raise NeedsAlgebra
        return expected == found or accepts_rounded(gold, answer, (expected, found), self.strictness)

    def proportional(self, gold: str, answer: str, *, is_positive: bool) -> bool:
        """Always beyond it."""
        raise NeedsAlgebra


def joined_thousands(text: str) -> str:
    r"""The text with `1\,234\,567` and `1 234 567` as `1234567`; no other digits are joined across a blank."""
    return _NARROW_GROUPS.sub(lambda groups: _NOT_A_DIGIT.sub("", groups[0]), text)


def rational(text: str) -> Fraction | None:
    r"""The exact value of an integer, a decimal, `a/b`, `\frac{a}{b}`, `1\frac{2}{3}` or `a \times 10^{n}`.

    None for anything else. Spaces, dollar signs, thousands separators (`1,234`) and the typographic minus are read
    through, but no digits are joined across a blank (see `joined_thousands`). Percent signs, units and whatever else
    needs judgement are left to the costlier comparison.
    """
    if len(text) > _MAX_DIGITS:
        return None
    if _SPACED_LIST.search(text):
        return None
    text = text.replace("−", "-")
    if spaced := _SPACED_MIXED.fullmatch(text):
        return _mixed(spaced[1], spaced[2], spaced[3], spaced[4])
    if _APART.search(text):
        return None
    text = _DECORATION.sub("", text)
    if repeating := _repeating(text):
        return repeating
    text = text.removesuffix(".")
    if mixed := _MIXED.fullmatch(text):
        return _mixed(mixed[1], mixed[2], mixed[3] or mixed[5], mixed[4] or mixed[6])
    if fraction := _FRACTION.fullmatch(text):
        sign, above, below = fraction[1], fraction[2] or fraction[4], fraction[3] or fraction[5]
        value = _quotient(_number(above), _number(below))
        return -value if value is not None and sign == "-" else value
    above, slash, below = text.partition("/")
    return _quotient(_number(above), _number(below)) if slash else _number(above)


def _mixed(sign: str, whole: str, above: str, below: str) -> Fraction | None:
    """`1 4/5`; None for an improper fraction, which multiplies."""
    if not whole.isascii() or not above.isascii() or not below.isascii() or not 0 < int(above) < int(below):
        return None
    value = int(whole) + Fraction(int(above), int(below))
    return -value if sign == "-" else value


def _repeating(text: str) -> Fraction | None:
    r"""`0.1\overline{6}`, `0.(3)`, and `0.333...` where the period shows three times, or twice if it is longer."""
    if not text.isascii():
        return None
    if found := _OVERLINED.fullmatch(text):
        sign, whole, head, period = found[1], found[2], found[3], found[4] or found[5]
    elif found := _ELLIPSIS.fullmatch(text):
        sign, whole = found[1], found[2]
        head, period = _period(found[3])
    else:
        return None
    if not period:
        return None
    scale = 10 ** len(head)
    value = Fraction(int(whole + head or "0") if whole + head else 0, scale)
    value += Fraction(int(period), scale * (10 ** len(period) - 1))
    return -value if sign == "-" else value


def _period(digits: str) -> tuple[str, str]:
    for length in range(1, 1 + len(digits) // 2):
        period = digits[-length:]
        times = 3 if length == 1 else 2
        if digits.endswith(period * times):
            head = digits[: -length * times]
            while head.endswith(period):
                head = head[:-length]
            return head, period
    return digits, ""


def _quotient(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return above / below if above is not None and below else None


def _number(text: str) -> Fraction | None:
    if GROUPED.fullmatch(text):
        text = text.replace(",", "")
    if not (match := _PLAIN.fullmatch(text)) or not text.isascii():
        return None
    exponent = int(match[3] or match[4] or match[5] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(match[2].removesuffix(".")) * Fraction(10) ** exponent
    return -value if match[1] == "-" else value


def accepts_rounded(gold: str, answer: str, values: tuple[Fraction, Fraction], strictness: Strictness) -> bool:
    """True if an answer of another value is meant by the reference all the same.

    `values` are exact, or exact to 120 digits. A reference with a decimal point accepts what rounds to its last digit,
    from three significant digits on, or from two of a power of ten in a lenient reading. A decimal answer counts as an
    exact reference only with the digits that a program prints, and in a strict reading never as a whole number.
    """
    expected, found = values
    shape, own = _DECIMAL.fullmatch(_plain_power(gold)), _DECIMAL.fullmatch(_plain_power(answer))
    if own and own[2] is not None and _within(expected, found, _PRINTED_ERROR):
        is_noise = expected.denominator > 1 or (
            strictness is Strictness.LENIENT and abs(expected - found) < _LARGEST_NOISE
        )
        return is_noise and _significant(own) >= _PRINTED_DIGITS
    if not shape or shape[2] is None:
        return False
    unit = Fraction(10) ** (int(shape[3] or 0) - len(shape[2]))
    needed = 2 if strictness is Strictness.LENIENT and shape[3] else 3
    return _significant(shape) >= needed and abs(expected - found) <= unit / 2


def _plain_power(text: str) -> str:
    r"""The text with a power of ten as `e-1`, however it multiplies: `6.7 \times 10^{-1}`."""
    return _POWER_OF_TEN.sub(r"e\1\2", text.strip(" $"))


def is_long_decimal(answer: str) -> bool:
    """True if the answer is a decimal of so many digits that it is no estimate."""
    own = _DECIMAL.fullmatch(_plain_power(answer))
    return bool(own and own[2] is not None and _significant(own) >= _LONG_DIGITS)


def is_close(expected: Fraction, found: Fraction) -> bool:
    """Within what such a decimal may be off an irrational reference."""
    return _within(expected, found, _LONG_ERROR)


def _within(expected: Fraction, found: Fraction, error: Fraction) -> bool:
    return abs(expected - found) <= abs(expected) * error


def _significant(decimal: re.Match[str]) -> int:
    return len(((decimal[1] or "") + (decimal[2] or "")).lstrip("0"))
