"""Points at which two functions are compared: near the origin, far from it, and on both sides of every kink."""

import itertools
from collections.abc import Iterator, Mapping
from fractions import Fraction

import mpmath
from mpmath.libmp import NoConvergence

from thor_tir.grading.rules.latex_parser import Tree, operations
from thor_tir.grading.rules.numeric import Number, far_point, point

SEEDS = (0, 2, 4, 1, 3)
_KINK_SEEDS = range(5, 15)
_STEP_SEEDS = 80
"""Points for functions with steps, which agree at most of them though they differ."""
_FACTORS = (7, 61, 523)
"""Multiples of the points near the origin, which reach beyond a thousand."""
_STEP_FACTORS = (500, 40_000)
_INTEGERS = (0, 1, 2, 3, 5, 8, 10, 12, 30, 100, 250, 599, 1000, 4321)
_HIGH_POWER = 20
_MAX_DEGREE = 8
_ANGLES = frozenset(("sin", "cos", "tan", "cot", "sec", "csc", "cis"))

Place = Mapping[str, Number]


def near_points(names: frozenset[str], *, has_steps: bool) -> Iterator[tuple[int, Place]]:
    """Seeds and points, negative for odd seeds; at the others even values that are not real must agree."""
    place, seeds = (far_point, range(_STEP_SEEDS)) if has_steps else (point, SEEDS)
    return ((seed, {name: place(name, seed) for name in names}) for seed in seeds)


def further_points(expected: Tree, found: Tree, names: frozenset[str]) -> Iterator[Place]:
    """Points of both signs at which the functions need not be defined, but must agree where they are real."""
    named = operations(expected) | operations(found)
    if named & {"factorial", "binom"}:
        for number in _INTEGERS[:8]:
            yield {name: mpmath.mpf(number + 3 * at) for at, name in enumerate(sorted(names))}
        return
    for factor, seed in itertools.product(_FACTORS, (0, 1)):
        yield {name: point(name, seed) * factor for name in names}
    powers = [power for tree in (expected, found) for power in _powers(tree)]
    if any(
        power[2][0] == "num" and abs(power[2][1]) > _HIGH_POWER for power in powers
    ):  # where no term outgrows others
        for nearness, sign in itertools.product((-0.4, -0.0007, 0.0011, 0.00003), (1, -1)):
            yield {name: sign * (1 + nearness * abs(point(name, 0)) / 2) for name in names}
    if named & {"floor", "ceil"}:
        for factor, seed in itertools.product(_STEP_FACTORS, range(8)):
            yield {name: point(name, seed) * factor for name in names}
        if not named & _ANGLES:
            for number, sign in itertools.product(_INTEGERS, (1, -1)):
                yield {name: mpmath.mpf(sign * (number + 3 * at)) for at, name in enumerate(sorted(names))}
    kinks = [kink for tree in (expected, found) for kink in _kinks(tree)]
    if kinks and len(names) > 1:
        for seed in _KINK_SEEDS:
            yield {name: point(name, seed) * (1 + seed % 3) for name in names}
    if kinks and len(names) == 1:
        (name,) = names
        for number in _between(sorted(zero for kink in kinks for zero in _zeros(kink))):
            yield {name: number}


def _powers(tree: Tree) -> Iterator[Tree]:
    if tree[0] == "pow":
        yield tree
    for child in tree[1:]:
        if isinstance(child, tuple):
            yield from _powers(child)


def _kinks(tree: Tree) -> Iterator[Tree]:
    """Arguments of absolute values and of roots, at whose zeros a function may change its rule."""
    if tree[:2] == ("call", "abs"):
        yield tree[2]
    elif tree[0] == "pow" and (tree[2][0] == "div" or (tree[2][0] == "num" and tree[2][1].denominator > 1)):
        yield tree[1]
    for child in tree[1:]:
        if isinstance(child, tuple):
            yield from _kinks(child)


def _between(zeros: list[float]) -> list[Number]:
    if not zeros:
        return []
    middles = [(low + high) / 2 for low, high in itertools.pairwise(zeros) if high - low > 1e-3]
    return [mpmath.mpf(number) for number in (zeros[0] - 1.3, *middles, zeros[-1] + 1.3)]


def _zeros(tree: Tree) -> list[float]:
    """Real zeros of a polynomial of low degree, or of what stands inside its even powers; none of anything else."""
    coefficients = _polynomial(tree)
    while coefficients and not coefficients[-1]:
        coefficients.pop()
    if coefficients is None or len(coefficients) < 2:
        return []
    try:
        with mpmath.workdps(30):
            numbers = [mpmath.mpf(number.numerator) / number.denominator for number in reversed(coefficients)]
            roots = mpmath.polyroots(numbers, maxsteps=200, extraprec=60, error=False)
    except NoConvergence:
        return []
    return [float(mpmath.re(root)) for root in roots if abs(mpmath.im(root)) < 1e-3 and abs(root) < 1e9]


def _polynomial(tree: Tree) -> list[Fraction] | None:
    """Coefficients in ascending order of a polynomial in one variable."""
    kind = tree[0]
    if kind == "num":
        return [tree[1]]
    if kind == "sym":
        return [Fraction(0), Fraction(1)]
    if kind not in ("neg", "add", "mul", "div", "pow"):
        return None
    parts = [_polynomial(child) for child in tree[1:]]
    if any(part is None or len(part) > _MAX_DEGREE + 1 for part in parts):
        return None
    first, *others = [part for part in parts if part is not None]
    if kind == "neg":
        return [-number for number in first]
    if kind == "add":
        return [sum(column, Fraction(0)) for column in itertools.zip_longest(first, *others, fillvalue=Fraction(0))]
    second = others[0]
    if kind == "mul":
        return _product(first, second)
    if len(second) != 1:
        return None
    if kind == "div":
        return [number / second[0] for number in first] if second[0] else None
    if second[0].denominator != 1 or not 0 <= second[0] <= _MAX_DEGREE:
        return None
    result = [Fraction(1)]
    for _ in range(int(second[0])):
        result = _product(result, first)
    return result if len(result) <= _MAX_DEGREE + 1 else None


def _product(one: list[Fraction], other: list[Fraction]) -> list[Fraction]:
    result = [Fraction(0)] * (len(one) + len(other) - 1)
    for (i, a), (j, b) in itertools.product(enumerate(one), enumerate(other)):
        result[i + j] += a * b
    return result


def substituted(tree: Tree, at: Mapping[str, Fraction]) -> Tree:
    """The tree with numbers in place of its variables."""
    if tree[0] == "sym":
        return ("num", at[tree[1]])
    return (tree[0], *(substituted(child, at) if isinstance(child, tuple) else child for child in tree[1:]))
