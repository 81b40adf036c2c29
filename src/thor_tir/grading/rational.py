"""Numbers that need no algebra to compare: most answers end here, within microseconds and without another process."""

import re
from fractions import Fraction

_MAX_DIGITS = 256
_MAX_EXPONENT = 300
_DECORATION = re.compile(r"\\left|\\right|\\[,!;:$ ]|[\s~$]+")
_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac\{([^{}]+)\}\{([^{}]+)\}")
_PLAIN = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{1,3})|\\times10\^\{?([+-]?\d{1,3})\}?)?")


def rational(text: str) -> Fraction | None:
    r"""The exact value of an integer, a decimal, `a/b`, `\frac{a}{b}` or `a \times 10^{n}`; None for anything else.

    Spaces, dollar signs, thousands separators (`1,234`) and the typographic minus are read through. Percent signs,
    units and whatever else needs judgement are left to the costlier comparison.
    """
    if len(text) > _MAX_DIGITS:
        return None
    text = _DECORATION.sub("", text.replace("−", "-")).removesuffix(".")
    if fraction := _FRACTION.fullmatch(text):
        sign, above, below = fraction.groups()
        value = _quotient(_number(above), _number(below))
        return -value if value is not None and sign == "-" else value
    above, slash, below = text.partition("/")
    return _quotient(_number(above), _number(below)) if slash else _number(above)


def _quotient(above: Fraction | None, below: Fraction | None) -> Fraction | None:
    return above / below if above is not None and below else None


def _number(text: str) -> Fraction | None:
    sign = text[:1] if text[:1] in ("+", "-") else ""
    if _GROUPED.fullmatch(text[len(sign) :]):
        text = text.replace(",", "")
    if not (match := _PLAIN.fullmatch(text)) or not text.isascii():
        return None
    exponent = int(match[3] or match[4] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        return None
    value = Fraction(match[2].removesuffix(".")) * Fraction(10) ** exponent
    return -value if match[1] == "-" else value
