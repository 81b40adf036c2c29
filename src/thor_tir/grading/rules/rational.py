"""Numbers that need no algebra to compare: most answers end here, within microseconds and without another process."""

import re
from fractions import Fraction

_MAX_DIGITS = 256
_MAX_EXPONENT = 300
_DECORATION = re.compile(r"\\left|\\right|\\[,!;:$ ]|[\s~$]+")
GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?")
"""A number with thousands separators."""
_SPACED_LIST = re.compile(r"(?<!\\),\s")
_FRACTION = re.compile(r"([+-]?)\\[dt]?frac(?:\{([^{}]+)\}\{([^{}]+)\}|(\d)(\d))")
_MIXED = re.compile(r"([+-]?)(\d+)(?:\\[dt]?frac\{(\d+)\}\{(\d+)\}|\\[dt]?frac(\d)(\d))")
_SPACED_MIXED = re.compile(r"\s*([+-]?)(\d+)\s+(\d+)\s*/\s*(\d+)\s*")
_TEN = r"(?:\\times|\\cdot|\*|x)10(?:\^|\*\*)(?:\{([+-]?\d{1,3})\}|([+-]?\d{1,3}))"
_PLAIN = re.compile(rf"([+-]?)(\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d{{1,3}})|{_TEN})?")
_OVERLINED = re.compile(r"([+-]?)(\d*)\.(\d*)(?:\\overline\{(\d+)\}|\((\d+)\))")
_ELLIPSIS = re.compile(r"([+-]?)(\d*)\.(\d+?)(?:\\[lc]?dots|\.\.\.)")


def rational(text: str) -> Fraction | None:
    r"""The exact value of an integer, a decimal, `a/b`, `\frac{a}{b}`, `1\frac{2}{3}` or `a \times 10^{n}`.

    None for anything else. Spaces, dollar signs, thousands separators (`1,234`) and the typographic minus are read
    through. Percent signs, units and whatever else needs judgement are left to the costlier comparison.
    """
    if len(text) > _MAX_DIGITS:
        return None
    if _SPACED_LIST.search(text):
        return None
    text = text.replace("−", "-")
    if spaced := _SPACED_MIXED.fullmatch(text):
        return _mixed(spaced[1], spaced[2], spaced[3], spaced[4])
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
