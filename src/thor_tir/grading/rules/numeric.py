"""Values of expressions: exact where they are rational, otherwise to 120 digits at points chosen once and for all.

Two expressions that agree to 80 digits at every point are held to be equal, which is Schwartz's and Zippel's test
of identity. Nothing is simplified, so no expression costs more than its own length; numbers too large are refused.
"""

import math
from collections.abc import Mapping
from fractions import Fraction
from hashlib import sha256
from typing import Any

import mpmath
from mpmath.libmp import NoConvergence

from thor_tir.grading.rules.latex_parser import Tree, Unreadable, operations

_MAX_BITS = 200_000
_MAX_EXPONENT = 10**6
_MAX_FACTORIAL = 2_000
DIGITS = 120
"""Decimal digits of every value; comparisons of values must run at this precision too."""
_AGREEMENT = mpmath.mpf(10) ** -80
"""Relative difference up to which two values are one."""
MORE_DIGITS = 400
"""Decimal digits where these leave open whether a difference is rounding or a number of its own."""
_MAX_DIGITS = 20_000
"""Decimal digits that a small number beside a large one may cost."""
_SPARE_DIGITS = 160
_MAX_UNSEEN = 20
"""Orders of magnitude in one expression that the ordinary digits show together."""
_PRODUCTS = frozenset(("num", "sym", "const", "neg", "mul", "div", "pow"))

Number = Any
"""An mpmath real or complex number."""


def exact(tree: Tree) -> Fraction | None:
    """The value of a tree made of rational operations on numbers; None where it is not one, or is too large."""
    kind = tree[0]
    if kind == "num":
        value: Fraction = tree[1]
        return value
    if kind not in ("neg", "add", "mul", "div", "pow", "call"):
        return None
    if kind == "call" and tree[1] not in ("factorial", "binom", "abs", "floor", "ceil"):
        return None
    parts = [exact(child) for child in tree[1:] if isinstance(child, tuple)]
    if any(part is None for part in parts):
        return None
    values = [part for part in parts if part is not None]
    if any(_bits(value) > _MAX_BITS for value in values):
        return None
    return _combined(kind if kind != "call" else tree[1], values)


def _combined(operator: str, values: list[Fraction]) -> Fraction | None:
    first, second = values[0], values[-1]
    if operator == "neg":
        return -first
    if operator == "add":
        return sum(values, Fraction(0))
    if operator == "mul":
        return first * second
    if operator == "div":
        return first / second if second else None
    if operator == "pow":
        return _power(first, second)
    if operator == "abs":
        return abs(first)
    if operator in ("floor", "ceil"):
        return Fraction(math.floor(first) if operator == "floor" else math.ceil(first))
    if first.denominator != 1 or second.denominator != 1 or not 0 <= second <= first <= _MAX_FACTORIAL:
        return None
    return Fraction(math.factorial(int(first)) if operator == "factorial" else math.comb(int(first), int(second)))


def _power(base: Fraction, exponent: Fraction) -> Fraction | None:
    if exponent.denominator != 1:
        root = Fraction(1, exponent.denominator)
        above, below = (_integer_root(part, exponent.denominator) for part in (base.numerator, base.denominator))
        if above is None or below is None or abs(exponent) > 64:
            return None
        return _power(Fraction(above, below), exponent / root)
    if abs(exponent) * _bits(base) > _MAX_BITS or (not base and exponent <= 0):
        return None
    return base ** int(exponent)


def _integer_root(value: int, degree: int) -> int | None:
    if value < 0 or degree > 64 or value.bit_length() > 1000:
        return None
    guess = round(value ** (1 / degree))
    return next((root for root in (guess - 1, guess, guess + 1) if root >= 0 and root**degree == value), None)


def _bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def point(name: str, seed: int) -> Number:
    """The value of a variable at the `seed`-th point; positive for even seeds, negative for odd ones."""
    digest = int.from_bytes(sha256(f"{name} {seed}".encode()).digest()[:6], "big") / 2**48
    return mpmath.mpf(0.3 + 2.2 * digest) * (-1 if seed % 2 else 1)


def far_point(name: str, seed: int) -> Number:
    """The same for expressions that round: near the origin many a step function is zero."""
    return point(name, seed) * 37


class Undecided(Unreadable):
    """The expression has small numbers beside such large ones that no affordable precision shows both."""


class Noise:
    """The largest sum of magnitudes met, which bounds what cancellation may have left of an exact zero."""

    def __init__(self) -> None:
        self.scale: Number = mpmath.mpf(0)
        self.low = self.high = 0

    def meet(self, number: Number) -> None:
        """Keep the binary orders of magnitude of the smallest and the largest value on the way."""
        if number and mpmath.isfinite(number):
            order = int(mpmath.mag(number))
            self.low, self.high = min(self.low, order), max(self.high, order)

    def orders(self) -> int:
        """Decimal orders of magnitude between the smallest and the largest value, one included."""
        return int((self.high - self.low) * 0.30103) + 1


def value(tree: Tree, at: Mapping[str, Number], noise: Noise, digits: int = DIGITS) -> Number:
    """The value of a tree with its variables at a point. Raises Unreadable where there is none or it is too large."""
    with mpmath.workdps(digits):
        try:
            result = _value(tree, at, noise)
        except (ArithmeticError, ValueError, TypeError, NoConvergence) as error:
            raise Unreadable(f"no value: {error}") from error
    if isinstance(result, mpmath.mpc) and mpmath.isnan(result.real):
        raise Unreadable("not a number")
    return result


def _value(tree: Tree, at: Mapping[str, Number], noise: Noise) -> Number:
    result = _own_value(tree, at, noise)
    noise.meet(result)
    return result


def _own_value(tree: Tree, at: Mapping[str, Number], noise: Noise) -> Number:
    kind = tree[0]
    if kind == "num":
        return mpmath.mpf(tree[1].numerator) / tree[1].denominator
    if kind == "sym":
        return at[tree[1]]
    if kind == "const":
        return {"pi": mpmath.pi, "e": mpmath.e, "i": mpmath.mpc(0, 1), "inf": mpmath.inf}[tree[1]] * 1
    parts = [_value(child, at, noise) for child in tree[1:] if isinstance(child, tuple)]
    if kind == "neg":
        return -parts[0]
    if kind == "add":
        noise.scale = max(noise.scale, sum(abs(part) for part in parts))
        return sum(parts, mpmath.mpf(0))
    if kind == "mul":
        return parts[0] * parts[1]
    if kind == "div":
        return parts[0] / parts[1]
    if kind == "pow":
        return _real_power(*parts)
    if kind == "opaque":
        return mpmath.cos(parts[0] * parts[1] + 1) + parts[1] * parts[0]
    return _called(tree[1], parts, noise)


def _real_power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > _MAX_EXPONENT and base not in (0, 1):
        raise Unreadable("an exponent too large")
    if base == 0 and (isinstance(exponent, mpmath.mpc) or exponent <= 0):
        raise Unreadable("no power of zero")
    odd_root = 1 / exponent if exponent else mpmath.mpf(0)
    if isinstance(base, mpmath.mpf) and base < 0 and isinstance(odd_root, mpmath.mpf):
        degree = int(mpmath.nint(odd_root))
        if degree % 2 and abs(odd_root - degree) < mpmath.mpf(10) ** -30:
            return -((-base) ** exponent)
    return mpmath.power(base, exponent)


def _called(name: str, parts: list[Number], noise: Noise) -> Number:
    if name in ("factorial", "binom"):
        if any(abs(part) > _MAX_FACTORIAL for part in parts):
            raise Unreadable("a factorial too large")
        if mpmath.mp.dps > MORE_DIGITS and not all(mpmath.isint(part) for part in parts):
            raise Unreadable("a gamma function of too many digits")
        return mpmath.factorial(parts[0]) if name == "factorial" else mpmath.binomial(*parts)
    if name == "abs":
        return abs(parts[0])
    if name in ("floor", "ceil"):
        nearest = mpmath.nint(parts[0])
        if abs(parts[0] - nearest) <= max(1, abs(nearest)) * mpmath.mpf(10) ** (20 - mpmath.mp.dps):
            return nearest  # three times a third is one, although rounding leaves less
        return mpmath.floor(parts[0]) if name == "floor" else mpmath.ceil(parts[0])
    if name in ("sin", "cos", "tan", "cot", "sec", "csc", "cis"):
        if abs(parts[0]) > _MAX_EXPONENT:
            raise Unreadable("an angle too large")
        noise.scale = max(noise.scale, abs(parts[0]))
    if name == "ln":
        noise.scale = max(noise.scale, mpmath.mpf(1))
    return getattr(mpmath, "expj" if name == "cis" else name)(parts[0])


def same_value(one: Tree, other: Tree, at: Mapping[str, Number]) -> tuple[bool, Number, Number]:
    """True if two trees have one value at a point, and the two values.

    No absolute tolerance decides: where the values differ by no more than what cancellation may have left, or where
    something large may hide something small, as in `e^{2024}-1`, both are computed again with more digits. Raises
    Unreadable where either has no value.
    """
    noise = Noise()
    left, right = value(one, at, noise), value(other, at, noise)
    is_close = _is_relatively_equal(left, right)
    if not is_close and not agree(left, right, noise):
        return False, left, right
    orders = noise.orders()
    if one == other or (is_close and orders <= _MAX_UNSEEN):
        return True, left, right
    digits = min(_MAX_DIGITS, max(MORE_DIGITS, 3 * orders + _SPARE_DIGITS + 80))
    if digits < orders + _SPARE_DIGITS + 80:
        if is_close and operations(one) | operations(other) <= _PRODUCTS:
            return True, left, right
        raise Undecided("a small number beside one too large")
    noise = Noise()
    with mpmath.workdps(digits):
        finer = value(one, at, noise, digits), value(other, at, noise, digits)
        shown = mpmath.mpf(10) ** (orders + _SPARE_DIGITS - digits)
        is_same = agree(*finer, noise, digits) or bool(abs(finer[0] - finer[1]) <= max(map(abs, finer)) * shown)
    return is_same, left, right


def agree(one: Number, other: Number, noise: Noise, digits: int = DIGITS) -> bool:
    """True if two values are the same up to rounding, relative to them and to what was cancelled on the way."""
    if mpmath.isinf(one) or mpmath.isinf(other):
        return bool(one == other)
    is_close = digits == DIGITS and _is_relatively_equal(one, other)
    return is_close or bool(abs(one - other) <= noise.scale * mpmath.mpf(10) ** (6 - digits))


def _is_relatively_equal(one: Number, other: Number) -> bool:
    if mpmath.isinf(one) or mpmath.isinf(other):
        return bool(one == other)
    return bool(abs(one - other) <= max(abs(one), abs(other)) * _AGREEMENT)


def is_real(number: Number) -> bool:
    """True if the imaginary part is nothing but rounding."""
    return bool(abs(mpmath.im(number)) <= abs(number) * mpmath.mpf(10) ** -25)
