r"""The comparison inside the grading process: our rules with algebra, then math-verify for what they cannot read.

Expressions are compared by value, at fixed points and to 80 digits, so nothing is simplified and nothing of the answer
is executed. math-verify sees only what our parser refuses (sums, integrals, limits, unusual commands), and what it then
holds equal must still pass `objection`.
"""

import itertools
import re
from collections.abc import Mapping
from fractions import Fraction
from itertools import permutations
from typing import Any

import mpmath

from thor_tir.grading.rules.arithmetic import accepts_rounded, is_close, is_long_decimal, rational
from thor_tir.grading.rules.canonical import canonical, is_affordable, squeezed
from thor_tir.grading.rules.latex_parser import NumbersCollide, Tree, Unreadable, operations, parse_expression, symbols
from thor_tir.grading.rules.matching import same
from thor_tir.grading.rules.numeric import DIGITS, Noise, Undecided, agree, exact, is_real, point, same_value, value
from thor_tir.grading.rules.points import further_points, near_points, substituted
from thor_tir.grading.rules.structure import chain, split_at
from thor_tir.verdict import Outcome, Strictness

_CONSTANTS = frozenset(("C", "C_0", "C_1", "C_2", "C_3", "C_4", "c_1", "c_2", "c_3", "c_4"))
"""Names of a reference's constants of integration; answers may say `A`, `B`, `K` or `c` as well."""
_ANYTHING = _CONSTANTS | frozenset(("c", "K", "k", "A", "B", "D"))
_ARGUMENTS = frozenset(("x", "y", "z", "t", "u", "s", "r", "theta"))
"""Variables of functions with such constants: `A + B + C` is no antiderivative."""
_COMMON_LOG = re.compile(r"\\log ?_ ?\{? ?10 ?\}?")
_BARE_LOG = re.compile(r"\\log(?![a-zA-Z]| ?_)")
_MAX_CONSTANTS = 4

_NAMES = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]")
_NOT_VARIABLES = frozenset((r"\frac", r"\sqrt", r"\text", r"\begin", r"\end", r"\pi", "e", "i", r"\infty", r"\,"))
_BASED = re.compile(r"\d_\{?\w*")
_NUMBER_BEHIND_UNIT = re.compile(r"\\text\{[^{}]*\}(?:\^\{?\d\}?)? ?\d|\\text\{ ?\d")
_NUMBERS = re.compile(r"\d+(?:\.\d+)?")
_WORD_OF_POINTS = re.compile(r"[A-Z]{3,}")
"""An angle, a triangle or an arrangement, which no product is: the order of its letters counts."""
_COMMAS = frozenset((",", ";", "and", "or"))
_UNWORKED = frozenset(("factorial", "binom", "add", "floor", "ceil"))
_MAX_POWER = 10**6

_COMMAND = re.compile(r"\\[a-zA-Z]+")
_UNEVALUATED = re.compile(r"\\(?:sum|prod|i{1,3}nt|oint|lim|bigcup|bigcap)(?![a-zA-Z])")
_POWER_TOWER = re.compile(r"\^\s*\{?(?:[^{}a-zA-Z\\]|\\pi|e)*\^")
_LARGE_BINOMIAL = re.compile(r"\\binom\s*\{[^{}]*(?:\^|\d{5})")
_FACTORIAL = re.compile(r"\d{5,}\)?\s*!|!\s*!|!\s*\)\s*!")
_LARGE_POWER = re.compile(r"\^\s*\{?\s*\(?[+-]?\d{4,}")
_MAX_COMMANDS = 256
_MAX_CELLS = 256


def algebraic_outcome(reference: str, answer: str, strictness: Strictness = Strictness.STRICT) -> tuple[Outcome, str]:
    """The verdict, with a reason that names the rule. UNSCORED only where the reference cannot be read."""
    if not is_affordable(answer):
        return Outcome.WRONG, "longer or deeper than any answer"
    gold, found = canonical(reference), canonical(answer)
    try:
        with mpmath.workdps(DIGITS):
            is_same = same(gold, found, Algebra(strictness))
        if not is_same:
            return Outcome.WRONG, "not equal to the reference by value"
    except NumbersCollide as error:
        return Outcome.WRONG, str(error)
    except (Unreadable, RecursionError):
        return _by_math_verify(reference, answer, (gold, found), strictness)
    if strictness is Strictness.STRICT and (complaint := unworked(gold, found)):
        return Outcome.WRONG, complaint
    return Outcome.CORRECT, "equal to the reference by value"


class Algebra:
    """Decides between expressions by their values; raises Unreadable where it cannot read one."""

    def __init__(self, strictness: Strictness) -> None:
        self.strictness = strictness

    def equal(self, gold: str, answer: str) -> bool:
        """True if the values agree wherever both are defined, the variables being the same in letter and case."""
        if all(_WORD_OF_POINTS.fullmatch(text) for text in (gold, answer)):
            return gold == answer
        expected, found = (_read(text) for text in _same_logarithms(gold, answer))
        one, other = exact(expected), exact(found)
        if one is not None and other is not None:
            return one == other or accepts_rounded(gold, answer, (one, other), self.strictness)
        names, other_names = symbols(expected), symbols(found)
        if not names and not other_names:
            return self._equal_numbers(gold, answer, expected, found)
        if names == other_names and _identical(expected, found):
            return True
        own, other_own = names & _CONSTANTS, other_names & _ANYTHING
        if not own or not other_own or not names & _ARGUMENTS or not _is_linear(expected, own):
            return False
        return any(_identical(expected, _renamed(found, names)) for names in _renamings(names, other_names)) or (
            len(own) == 1 and _differ_by_constant(expected, found)
        )

    def proportional(self, gold: str, answer: str, *, is_positive: bool) -> bool:
        """True if the quotient of the two is one number at every point; equations with other variables never are."""
        expected, found = _read(gold), _read(answer)
        names = symbols(expected)
        if not names or names != symbols(found):
            return False
        quotients = []
        near = [at for _, at in near_points(names, has_steps=False)]
        for place, at in enumerate(itertools.chain(near, further_points(expected, found, names))):
            noise = Noise()
            try:
                one, other = value(expected, at, noise), value(found, at, noise)
            except Unreadable:
                if place < len(near):
                    raise
                continue
            if min(abs(one), abs(other)) <= noise.scale * mpmath.mpf(10) ** (6 - DIGITS):
                if place < len(near):
                    return False
                continue
            if place < len(near) or (is_real(one) and is_real(other)):
                quotients.append(one / other)
        first = quotients[0]
        is_constant = all(abs(quotient - first) <= abs(first) * mpmath.mpf(10) ** -60 for quotient in quotients)
        if not is_constant or (is_positive and not (is_real(first) and bool(mpmath.re(first) > 0))):
            return False
        one_place, other_place = ({name: Fraction(float(at[name])) for name in names} for at in near[:2])
        crossed = [
            ("mul", substituted(expected, at), substituted(found, elsewhere))
            for at, elsewhere in ((one_place, other_place), (other_place, one_place))
        ]
        return same_value(crossed[0], crossed[1], {})[0]

    def _equal_numbers(self, gold: str, answer: str, expected: Tree, found: Tree) -> bool:
        try:
            is_same, one, other = same_value(expected, found, {})
        except Undecided:
            return False
        if is_same:
            return True
        if not (is_real(one) and is_real(other) and mpmath.isfinite(one) and mpmath.isfinite(other)):
            return False
        values = (_fraction(mpmath.re(one)), _fraction(mpmath.re(other)))
        if is_long_decimal(answer) and exact(expected) is None and is_close(*values):
            return True
        return accepts_rounded(gold, answer, values, self.strictness)


def _same_logarithms(gold: str, answer: str) -> tuple[str, str]:
    r"""`\log` is the natural logarithm, unless the other side says `\log_{10}`: `\log 2` and `\log_{10} 2` agree."""
    if _COMMON_LOG.search(gold) is None and _COMMON_LOG.search(answer) is None:
        return gold, answer
    return _BARE_LOG.sub(r"\\log_{10} ", gold), _BARE_LOG.sub(r"\\log_{10} ", answer)


def _read(text: str) -> Tree:
    number = rational(text)
    return ("num", number) if number is not None else parse_expression(text)


def _fraction(number: Any) -> Fraction:
    if abs(number) > mpmath.mpf(10) ** 1000 or 0 < abs(number) < mpmath.mpf(10) ** -1000:
        raise Unreadable("beyond every decimal")
    mantissa, exponent = int(number.man), int(number.exp)
    sign = -1 if number < 0 else 1
    return sign * abs(mantissa) * Fraction(2) ** exponent


def _identical(expected: Tree, found: Tree) -> bool:
    """Agreement at every point; where a real variable leaves the real numbers, at negative ones, nothing is said."""
    names = symbols(expected)
    is_complex = "const" in operations(expected) and _has_i(expected)
    has_steps = bool((operations(expected) | operations(found)) & {"floor", "ceil"})
    num_compared = 0
    reason = Unreadable("no point in common")
    for seed, at in near_points(names, has_steps=has_steps):
        try:
            is_same, one, other = same_value(expected, found, at)
        except Unreadable as error:
            reason = error
            continue
        if seed % 2 and not is_complex and not (is_real(one) and is_real(other)):
            continue
        if not is_same:
            return False
        num_compared += 1
    for at in further_points(expected, found, names):
        try:
            is_same, one, other = same_value(expected, found, at)
        except Unreadable:
            continue
        if is_real(one) and is_real(other):
            if not is_same:
                return False
            num_compared += 1
    if not num_compared:
        raise reason
    return True


def _has_i(tree: Tree) -> bool:
    return tree == ("const", "i") or any(_has_i(child) for child in tree[1:] if isinstance(child, tuple))


def _renamings(names: frozenset[str], other: frozenset[str]) -> list[Mapping[str, str]]:
    """Ways to call the answer's constants of integration as the reference does; none if other letters differ."""
    wanted, own = sorted(names & _ANYTHING), sorted(other & _ANYTHING)
    if names - _ANYTHING != other - _ANYTHING or len(wanted) != len(own) or not 0 < len(own) <= _MAX_CONSTANTS:
        return []
    return [dict(zip(own, order, strict=True)) for order in permutations(wanted)]


def _renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    if tree[0] == "sym":
        return ("sym", names.get(tree[1], tree[1]))
    return (tree[0], *(_renamed(child, names) if isinstance(child, tuple) else child for child in tree[1:]))


def _is_linear(tree: Tree, constants: frozenset[str]) -> bool:
    """True if equal steps of a constant are equal steps of the value; the capacity in `e^{-t/(RC)}` is no constant."""
    at, noise = {name: point(name, 0) for name in symbols(tree)}, Noise()
    for name in constants:
        try:
            low, middle, high = (value(tree, {**at, name: mpmath.mpf(step)}, noise) for step in (0, 1, 2))
        except Unreadable:
            return False
        if not agree(high - middle, middle - low, noise):
            return False
    return True


def _differ_by_constant(expected: Tree, found: Tree) -> bool:
    """Antiderivatives: each side has a constant of its own, and what else they differ by is a constant too."""
    (own,) = symbols(expected) & _CONSTANTS
    variables = symbols(expected) - {own}
    others = symbols(found) - variables
    if len(others) != 1 or not others <= _ANYTHING:
        return False
    (other,) = others
    differences: list[Any] = []
    sizes: list[Any] = []
    noise = Noise()
    for seed in (0, 2, 4):
        at = {name: point(name, seed) for name in variables}
        sides = []
        for tree, constant in ((expected, own), (found, other)):
            base = value(tree, {**at, constant: mpmath.mpf(0)}, noise)
            if not agree(value(tree, {**at, constant: mpmath.mpf(1)}, noise) - base, mpmath.mpf(1), noise):
                return False
            sides.append(base)
        differences.append(sides[0] - sides[1])
        sizes += map(abs, sides)
    # Antiderivatives as small as the noise of their terms cannot be distinguished, so they are not the same.
    if max(sizes) <= noise.scale * mpmath.mpf(10) ** (66 - DIGITS):
        return False
    return all(abs(difference - differences[0]) <= max(sizes) * mpmath.mpf(10) ** -60 for difference in differences)


def _by_math_verify(
    reference: str, answer: str, canonical_pair: tuple[str, str], strictness: Strictness
) -> tuple[Outcome, str]:
    from math_verify import parse, verify

    gold, found = canonical_pair
    if not is_parsable(found):
        return Outcome.WRONG, "an unevaluated or too costly expression other than the reference"
    expected, parsed = (
        parse(rf"\boxed{{{text}}}", extraction_mode="first_match", parsing_timeout=None) for text in (reference, answer)
    )
    if not expected:
        return Outcome.UNSCORED, f"the reference {reference[:80]!r} cannot be read"
    if not verify(expected, parsed, timeout_seconds=None):
        return Outcome.WRONG, "not equal to the reference by math-verify"
    complaint = (
        objection(gold, found)
        or _apart(expected, parsed)
        or (unworked(gold, found) if strictness is Strictness.STRICT else None)
    )
    if complaint:
        return Outcome.WRONG, complaint
    return Outcome.CORRECT, "equal to the reference by math-verify"


def _apart(expected: list[Any], parsed: list[Any]) -> str | None:
    """Why two numbers that math-verify rounds to the same are not; it compares to six decimals, whatever their size."""
    from sympy import Basic, Expr

    one, other = (next((part for part in parts if isinstance(part, Basic)), None) for parts in (expected, parsed))
    if not (isinstance(one, Expr) and isinstance(other, Expr) and one.is_number and other.is_number) or one == other:
        return None
    left, right = one.evalf(DIGITS), other.evalf(DIGITS)
    if not abs(left - right) <= max(abs(left), abs(right)) * Fraction(1, 10**9):
        return "numbers that differ"
    return None


def is_parsable(answer: str) -> bool:
    """True if a computer algebra system may be given the canonical answer: no towers, no sums left to do, no flood.

    The limits follow those of inspect_ai's mathematics scorer.
    """
    if len(_COMMAND.findall(answer)) > _MAX_COMMANDS or answer.count("&") > _MAX_CELLS:
        return False
    costly = (_UNEVALUATED, _POWER_TOWER, _FACTORIAL, _LARGE_POWER, _LARGE_BINOMIAL)
    return not any(pattern.search(answer) for pattern in costly)


def objection(gold: str, answer: str) -> str | None:
    """Why two canonical texts that math-verify holds equal are not: its known false accepts. None where there is none.

    Boolean collapse of two equations, letters folded in case or read as units, subscripts and dots ignored.
    """
    if (chain(gold) is None) != (chain(answer) is None) or (chain(gold) and squeezed(gold) != squeezed(answer)):
        return "two relations of one truth value are not one relation"
    if ("'" in gold) != ("'" in answer):
        return "a prime that the reference lacks, or the other way round"
    is_behind = any(_NUMBER_BEHIND_UNIT.search(text) for text in (gold, answer))
    if is_behind and sorted(_NUMBERS.findall(gold)) != sorted(_NUMBERS.findall(answer)):
        return "other numbers behind a unit"
    if r"\ldots" in gold or r"\ldots" in answer:
        return "a list with dots is compared letter for letter"
    if _BASED.findall(squeezed(gold)) != _BASED.findall(squeezed(answer)):
        return "a number in another base"
    if _variables(gold) != _variables(answer):
        return "other variables than the reference's"
    if len(split_at(gold, _COMMAS)[1]) != len(split_at(answer, _COMMAS)[1]):
        return "another number of answers than the reference"
    return None


def unworked(gold: str, answer: str) -> str | None:
    """Why an answer equal in value is refused in a strict reading: for a number it states a calculation.

    `1+1`, `5!` and a binomial are refused for a reference that is a plain number; fractions, radicals, products and
    powers of moderate size are natural forms and are not.
    """
    if answer.count(r"\begin") > max(1, gold.count(r"\begin")):
        return "a calculation with matrices instead of its result"
    if rational(gold) is None or rational(answer) is not None:
        return None
    try:
        tree = parse_expression(answer)
    except Unreadable:
        return None
    if operations(tree) & _UNWORKED or _has_large_power(tree):
        return "a calculation instead of its result"
    return None


def _has_large_power(tree: Tree) -> bool:
    if tree[0] == "pow" and tree[1][0] == tree[2][0] == "num" and abs(tree[2][1]) > 64 and tree[1][1] != 10:
        return True
    return any(_has_large_power(child) for child in tree[1:] if isinstance(child, tuple))


def _variables(text: str) -> frozenset[str]:
    return frozenset(_NAMES.findall(text)) - _NOT_VARIABLES
