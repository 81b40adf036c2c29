r"""Comparison of two answers by their form: one rule for each kind of answer, tried in order.

A rule answers None where it does not apply. What remains, two expressions, is asked of an `Arithmetic`: the quick one
knows rational numbers alone, the one of the grading process knows algebra. Every rule names the case that asked for it.
"""

import re
from collections.abc import Callable
from typing import TypeVar

from thor_tir.grading.rules.arithmetic import (
    GROUPED,
    Arithmetic,
    NeedsAlgebra,
    RationalArithmetic,
    joined_thousands,
    rational,
)
from thor_tir.grading.rules.canonical import (
    bare_letters,
    canonical,
    is_affordable,
    squeezed,
    without_braces,
    without_tail,
)
from thor_tir.grading.rules.quantity import Quantity, quantity, scale
from thor_tir.grading.rules.real_sets import real_set
from thor_tir.grading.rules.relations import calls_apart, same_relation
from thor_tir.grading.rules.structure import (
    AnswerList,
    ListKind,
    chain,
    combined_matrices,
    joined_otherwise,
    sequence,
    split_at,
    without_parentheses,
)
from thor_tir.grading.rules.wording import same_choice, same_time, same_words, without_labels
from thor_tir.verdict import Outcome, Strictness

T = TypeVar("T")
_MAX_ITEMS = 64
MAX_QUICK_CHARS = 512
"""Characters compared in the caller's own thread, which nothing can stop; the grading process takes the rest."""


Rule = Callable[[str, str, Arithmetic], bool | None]


def quick_outcome(
    reference: str, answer: str, strictness: Strictness = Strictness.STRICT
) -> tuple[Outcome, str] | None:
    """The verdict where exact arithmetic on rational numbers suffices, in microseconds; None where it does not.

    An answer that no parser should be given is WRONG here, unless it is the reference letter for letter.
    """
    if answer.strip() == reference.strip() and answer.strip():
        return Outcome.CORRECT, "the reference, letter for letter"
    if not is_affordable(answer):
        return Outcome.WRONG, "longer or deeper than any answer"
    if max(len(reference), len(answer)) > MAX_QUICK_CHARS:
        return None
    try:
        is_same = _is_same(reference, answer, RationalArithmetic(strictness))
    except (NeedsAlgebra, RecursionError):
        return None
    if is_same:
        return Outcome.CORRECT, "equal to the reference by exact arithmetic"
    return Outcome.WRONG, f"{answer.strip()[:80]!r} is not {reference.strip()[:80]!r} by exact arithmetic"


def _is_same(reference: str, answer: str, arithmetic: RationalArithmetic) -> bool:
    gold, found = joined_thousands(reference), joined_thousands(answer)
    if rational(gold) is not None and rational(found) is not None:
        return arithmetic.equal(gold, found)
    return same(canonical(reference), canonical(answer), arithmetic)


def same(gold: str, answer: str, arithmetic: Arithmetic) -> bool:
    """True if the answer says what the reference says; both are canonical or parts of canonical texts."""
    gold, answer = (without_braces(without_tail(text)) for text in (gold, answer))
    if squeezed(gold) == squeezed(answer) or bare_letters(gold) == bare_letters(answer):
        is_strict = arithmetic.strictness is Strictness.STRICT
        return bool(gold) and not (is_strict and GROUPED.fullmatch(gold) and ", " in answer)
    if not gold or not answer:
        return False
    for rule in _RULES:
        if (verdict := rule(gold, answer, arithmetic)) is not None:
            return verdict
    gold, answer = without_parentheses(gold), without_parentheses(answer)
    return arithmetic.equal(gold, answer)


def _wording(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    r"""Golds `\text{(C)}` against `C`, `42` against `\textbf{(C)}\ 42`, `\text{east}` against `East`, `3:45` pm."""
    for rule in (same_choice, same_time, same_words):
        if (verdict := rule(gold, answer)) is not None:
            return verdict
    if (rest := without_labels(gold, answer)) is not None:
        return same(gold, rest, arithmetic)
    return None


_BASED = re.compile(r"\(?([0-9A-Fa-f]+)\)?_(?:\{?\(?(\d+)\)?\}?|\{?\\text\{(\w+)\}\}?)")
_GROUPED_DIGITS = re.compile(r"\(?[0-9A-Fa-f]{1,4}(?:(?: [0-9A-Fa-f]{4})+|(?: [0-9A-Fa-f]{3})+)\)?_")
"""Digits in groups of three or four, as `1111\\,1011_2`."""
_BASE_NAMES = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9"}
_BASE_NAMES |= {"ten": "10", "twelve": "12", "sixteen": "16"}
_DIGITS = re.compile(r"[0-9A-Fa-f]+")


def _based(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    """`52_8`: the answer may leave the base out; in a strict reading a reference without one is decimal."""
    one, other = _digits_and_base(gold), _digits_and_base(answer)
    if one is None or other is None or not (one[1] or other[1]):
        return None
    unsaid = "10" if arithmetic.strictness is Strictness.STRICT else other[1]
    return one[0] == other[0] and (one[1] or unsaid) == (other[1] or one[1])


def _digits_and_base(text: str) -> tuple[str, str] | None:
    if _GROUPED_DIGITS.match(text):
        text = "".join(text.split())
    if found := _BASED.fullmatch(squeezed(text).replace(",", "")):
        base = found[2] or _BASE_NAMES.get(found[3], found[3])
        is_number = not base.isdigit() or all(int(digit, 16) < int(base) for digit in found[1])
        return (found[1].lstrip("0").upper(), base) if is_number else None  # `E_2` is a name
    text = squeezed(text).replace(",", "")
    return (text.lstrip("0").upper(), "") if _DIGITS.fullmatch(text) else None


def _matrices(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    """Cell by cell; a vector may be written as a tuple, and be called `v =` or carry a common factor."""
    if combined_matrices(gold) is None and combined_matrices(answer) is None:
        return None
    one, other = _rows(gold), _rows(answer)
    if one is None or other is None:
        is_product = (gold + answer).count(r"\begin") > 2
        return None if is_product else False
    is_tuple = combined_matrices(gold) is None or combined_matrices(answer) is None
    if is_tuple and all(min(len(rows), max(map(len, rows), default=0)) == 1 for rows in (one, other)):
        one, other = _upright(one), _upright(other)
    if [len(row) for row in one] != [len(row) for row in other]:
        return False
    cells = ((a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True))
    return all(same(a, b, arithmetic) for a, b in cells)


def _upright(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(cell,) for row in rows for cell in row]


def _rows(text: str) -> list[tuple[str, ...]] | None:
    if (rows := combined_matrices(text)) is not None:
        return list(rows)
    parts = sequence(text)
    return [(item,) for item in parts.items] if parts and parts.kind in (ListKind.TUPLE, ListKind.BRACKET) else None


def _reals(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    r"""`-2 \le x \le 7` is `[-2,7]`, and `x \ne 3` two rays, in either direction."""
    one, other = real_set(gold), real_set(answer)
    if one is None or other is None or not (one.is_explicit or other.is_explicit):
        return None
    if one.variable and other.variable and one.variable != other.variable:
        return False
    if [len(one.parts)] != [len(other.parts)]:
        return False
    return _matched(
        one.parts,
        other.parts,
        lambda a, b: (
            (a.has_low, a.has_high) == (b.has_low, b.has_high)
            and same(a.low, b.low, arithmetic)
            and same(a.high, b.high, arithmetic)
        ),
    )


_LEADING_ZERO = re.compile(r"0\d+")
_NOTHING = AnswerList(kind=ListKind.BARE, items=())


def _sequences(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    r"""Lists and sets in any order, tuples in theirs; `a \pm b` is two answers."""
    one, other = _sequence(gold), _sequence(answer)
    if one is None and other is None:
        return None
    if one is None or other is None:
        return _one_against_several(gold, answer, (one, other), arithmetic)
    return _same_items(one, other, arithmetic)


def _one_against_several(
    gold: str, answer: str, read: tuple[AnswerList | None, AnswerList | None], arithmetic: Arithmetic
) -> bool | None:
    r"""`(x,y)=(2,4)` is `(2,4)`, `{5}` is 5; `15\frac{39}{40}, \frac{639}{40}` is one value twice.

    A reference `1,234` is a number, and in a lenient reading perhaps two; an answer `1,234` is two where the reference
    says so. A comma is never a decimal point: a list of `2` and `5` is not `2.5`.
    """
    one, other = read
    if relation := chain(gold if one is None else answer):
        is_whole = sequence(relation.operands[-1]) or (one or other or _NOTHING).kind is not ListKind.BARE
        return None if is_whole else False
    is_pair = other is not None and other.kind is ListKind.BARE and len(other.items) == 2 and ", " in answer
    if is_pair and other is not None and squeezed(other.items[0]) != squeezed(other.items[1]):
        return all(same(gold, item, arithmetic) for item in other.items)
    is_lenient = arithmetic.strictness is Strictness.LENIENT
    one = one or sequence(gold, splits_groups=is_lenient) or AnswerList(kind=ListKind.BARE, items=(gold,))
    other = other or sequence(answer, splits_groups=True) or AnswerList(kind=ListKind.BARE, items=(answer,))
    if len(one.items) == len(other.items) == 1:
        return same(one.items[0], other.items[0], arithmetic)
    if any(_LEADING_ZERO.fullmatch(item) for item in (*one.items, *other.items)):
        return False  # `10,0000` is no list, and no number either
    return not _is_spaced(gold, answer, one) and _same_items(one, other, arithmetic)


def _is_spaced(gold: str, answer: str, one: AnswerList) -> bool:
    """A number with separators, `1,234`, against a bare list that looks like it, `1, 234`."""
    return "{" not in gold + answer and "(" not in gold + answer and squeezed(gold) == squeezed(answer)


def _same_items(one: AnswerList, other: AnswerList, arithmetic: Arithmetic) -> bool:
    if len(one.items) != len(other.items) or len(one.items) > _MAX_ITEMS:
        return False
    if joined_otherwise(one, other):
        return False
    if calls_apart(other.items) and not calls_apart(one.items):
        return False

    def equal(a: str, b: str) -> bool:
        return same(a, b, arithmetic)

    def in_order() -> bool:
        return all(equal(a, b) for a, b in zip(one.items, other.items, strict=True))

    kinds = {one.kind, other.kind}
    if ListKind.HALF_OPEN in kinds:
        return (one.opening, one.closing) == (other.opening, other.closing) and in_order()
    if kinds <= {ListKind.BARE, ListKind.SET}:
        return _matched(one.items, other.items, equal)
    if kinds == {ListKind.SET, ListKind.TUPLE}:
        return False
    if kinds == {ListKind.TUPLE, ListKind.BRACKET}:
        return len(one.items) > 2 and in_order()
    if kinds == {ListKind.SET, ListKind.BRACKET}:
        return len(one.items) != 2 and _matched(one.items, other.items, equal)
    if kinds == {ListKind.BARE, ListKind.BRACKET}:
        return _matched(one.items, other.items, equal)
    return in_order()


def _sequence(text: str) -> AnswerList | None:
    found = sequence(text)
    items = found.items if found else (text,)
    if r"\pm" not in text and r"\mp" not in text:
        if found and found.kind in (ListKind.BARE, ListKind.SET) and all(item.startswith("(") for item in items):
            items = tuple({squeezed(item): item for item in items}.values())  # a point said twice is one solution
            return AnswerList(kind=found.kind, items=items, joints=found.joints)
        return found
    if found and found.kind not in (ListKind.BARE, ListKind.SET):
        return found
    expanded = tuple(signed for item in items for signed in _with_signs(item))
    joints = found.joints if found else ()
    return AnswerList(kind=found.kind if found else ListKind.BARE, items=expanded, joints=joints)


def _with_signs(item: str) -> list[str]:
    r"""Both readings of `\pm`, all of an item's signs taken together; `\mp` takes the other sign."""
    if r"\pm" not in item and r"\mp" not in item:
        return [item]
    head, equals, item = item.rpartition("=")
    upper = item.replace(r"\pm", "+").replace(r"\mp", "-")
    lower = item.replace(r"\pm", "-").replace(r"\mp", "+")
    return [head + equals + upper, head + equals + lower]


def _matched(one: tuple[T, ...], other: tuple[T, ...], equal: Callable[[T, T], bool]) -> bool:
    """True if every element of one side finds its own on the other; equality being transitive, the first will do."""
    left = list(other)
    for item in one:
        found = next((place for place, candidate in enumerate(left) if equal(item, candidate)), None)
        if found is None:
            return False
        left.pop(found)
    return not left


_ZERO = re.compile(r"0[0.]*")
_TO = re.compile(r"(?<=\d) ?(?:\\text\{to\}|to) ?(?=\d)")


def _ratios(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    r"""`3:4` is `6:8`, `3/4` and `3 \text{ to } 4`."""
    if ":" in gold + answer:
        gold, answer = (_TO.sub(":", text) for text in (gold, answer))
    one, other = (split_at(text, frozenset(":"))[0] for text in (gold, answer))
    if len(one) == len(other) == 1:
        return None
    if 1 in (len(one), len(other)):
        if max(len(one), len(other)) != 2:
            return False
        quotients = [f"({parts[0]})/({parts[1]})" if len(parts) == 2 else parts[0] for parts in (one, other)]
        return all(all(parts) for parts in (one, other)) and arithmetic.equal(*quotients)
    if len(one) != len(other) or not all(one) or not all(other):
        return False
    if any(_ZERO.fullmatch(part) for part in (*one, *other)):
        return all(arithmetic.equal(a, b) for a, b in zip(one, other, strict=True))
    return all(
        arithmetic.equal(f"({one[0]})*({b})", f"({other[0]})*({a})") for a, b in zip(one[1:], other[1:], strict=True)
    )


def _quantities(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    r"""`\$18.90` is `18.9`, `10\%` is `10` and `0.1`, `90^\circ` is `90` and `\pi/2`, `5 cm` is `5` but not `5 m`."""
    expected, found = quantity(gold), quantity(answer)
    if (expected.is_bare and found.is_bare) or not expected.number or not found.number:
        return None
    if _contradict(expected, found):
        return False
    if expected.is_percent != found.is_percent:
        return _same_percent(expected.number, found.number, found_is_percent=found.is_percent, arithmetic=arithmetic)
    if expected.is_degrees != found.is_degrees:
        return _same_angle(expected, found, arithmetic)
    if (expected.is_money and found.unit == "cent") or (found.is_money and expected.unit == "cent"):
        factor = "100" if found.is_money else r"\frac{1}{100}"
        return same(expected.number, f"({found.number})*{factor}", arithmetic)
    factors = scale(expected, found)
    if factors is None:
        return False
    number = found.number if factors == 1 else f"({found.number})*({factors.numerator})/({factors.denominator})"
    return same(expected.number, number, arithmetic)


def _contradict(expected: Quantity, found: Quantity) -> bool:
    """True if each side names what it counts and the two have nothing in common: dollars and degrees."""
    one, other = expected.kinds, found.kinds
    return bool(one and other) and not one & other


_BELOW_ONE = re.compile(r"[+-]?0?\.\d+")


def _same_percent(gold: str, answer: str, *, found_is_percent: bool, arithmetic: Arithmetic) -> bool:
    r"""The natural one of the two readings of a bare reference: `25` asks for percent, and `0.05` is not `0.05\%`."""
    if not (found_is_percent and _BELOW_ONE.fullmatch(gold)) and same(gold, answer, arithmetic):
        return True
    if found_is_percent:
        return same(gold, f"({answer})/100", arithmetic)
    return same(f"({gold})/100", answer, arithmetic)


def _same_angle(expected: Quantity, found: Quantity, arithmetic: Arithmetic) -> bool:
    one, other = expected, found
    is_radian = "radian" in (one.unit, other.unit) or "rad" in (one.unit, other.unit)
    numbers = (one.number, other.number)
    if not is_radian and same(*numbers, arithmetic):
        return True
    turned = [rf"({side.number})*\pi/180" if side.is_degrees else side.number for side in (one, other)]
    return (is_radian or any(r"\pi" in number or "pi" in number for number in numbers)) and arithmetic.equal(*turned)


def _relations(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    return same_relation(gold, answer, arithmetic, same)


_FACTOR = re.compile(r"(\d+)(?:\^(?:\{(\d+)\}|(\d+)))?(?:\*|(?<=\}) ?| |$)")


def _factorisations(gold: str, answer: str, arithmetic: Arithmetic) -> bool | None:
    """`2 3^2` is `2*3^2`, the same powers of the same numbers; plain numbers side by side are no product."""
    one, other = _factors(gold), _factors(answer)
    return True if one and one == other else None


def _factors(text: str) -> list[tuple[str, str]]:
    """Bases and exponents in ascending order; none where the text is no product of powers of numbers."""
    found, at = [], 0
    text = re.sub(r" ?\* ?", "*", text)
    while at < len(text):
        if (factor := _FACTOR.match(text, at)) is None:
            return []
        found.append((factor[1], factor[2] or factor[3] or "1"))
        at = factor.end()
    return sorted(found) if len(found) > 1 and "^" in text else []


_RULES: tuple[Rule, ...] = (
    _wording, _reals, _matrices, _sequences, _relations, _based, _ratios, _factorisations, _quantities,
)  # fmt: skip
