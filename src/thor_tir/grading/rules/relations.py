r"""Equations and inequalities: `x = 5` is 5, `f(x) = x^2` is `x^2`, `x - y = 1` is `2x = 2y + 2`.

A right-hand side counts alone only where the left is a name or a quantity asked for. The equation `x + y + 3z - 1 = 0`
is not the answer 0, and two equations are not the same for having no solution.
"""

import re
from collections.abc import Iterable
from typing import Protocol

from thor_tir.grading.rules.arithmetic import Arithmetic
from thor_tir.grading.rules.canonical import squeezed
from thor_tir.grading.rules.structure import Chain, ascending, chain

_EQUALITIES = frozenset(("=", r"\approx", r"\equiv", r"\in", r"\sim", r"\simeq"))
_NAME = re.compile(r"(?:\\[a-zA-Z]+|[a-zA-Z])(?:_(?:\w|\{[^{}]*\})|')*(?:\^\{?[\w'*]+\}?)?(?:\([^()=]*\))?")
_FUNCTION = re.compile(r"([a-zA-Z]\w*)'*\(([a-zA-Z])\)")
_QUANTITY = re.compile(r"[a-zA-Z\\{}()_+\-*/|:,'^ \d.]+")
_CURVE = re.compile(r"\^|[xyz][+-][xyz]")
_OWN_NUMBER = re.compile(r"(?<![\w\^_{(.])\d")


class Same(Protocol):
    """The comparison of two parts, with which this one is mutually recursive."""

    def __call__(self, gold: str, answer: str, arithmetic: Arithmetic) -> bool:
        """True if the two say the same."""
        ...


def same_relation(gold: str, answer: str, arithmetic: Arithmetic, same: Same) -> bool | None:
    """The verdict where either side is an equation or an inequality; None where neither is."""
    expected, found = chain(gold), chain(answer)
    if expected is None and found is None:
        return None
    if expected is None and found is not None:
        value = _asserted(found, arithmetic, is_zero=gold.strip() == "0")
        return value is not None and same(gold, value, arithmetic)
    if expected is not None and found is None:
        if _CURVE.search(squeezed(expected.operands[0])):
            return False  # `x^2+y^2=25` is a circle and not 25
        value = _asserted(expected, arithmetic, is_zero=answer.strip() == "0")
        return value is not None and same(value, answer, arithmetic)
    assert expected is not None
    assert found is not None
    return _both(_renamed(expected, expected), _renamed(found, expected), arithmetic, same)


def _asserted(relation: Chain, arithmetic: Arithmetic, *, is_zero: bool) -> str | None:
    """The value that a chain of equations gives its left-hand side; None where that is not for the taking."""
    if not set(relation.relations) <= _EQUALITIES or not all(relation.operands):
        return None
    exact = [side for side, sign in zip(relation.operands[1:], relation.relations, strict=True) if sign != r"\approx"]
    value = exact[-1] if exact else relation.operands[-1]
    left = squeezed(relation.operands[0])
    if _NAME.fullmatch(left) or left.startswith((r"\text{", "y'")):
        return value
    if _is_asked_for(left) and not is_zero:
        return value
    return value if not re.search("[a-zA-Z]", left) and arithmetic.equal(value, relation.operands[0]) else None


def _is_asked_for(left: str) -> bool:
    """`m+n`, `|AB|`, `\\frac{NO}{BO}`, `S:T`, `(p,q)`, `P(X=2)`: letters without numbers of their own."""
    return bool(_QUANTITY.fullmatch(left)) and not _OWN_NUMBER.search(re.sub(r"\([^()]*\)", "", left))


def calls_apart(items: Iterable[str]) -> bool:
    """True if several equations call the variable of one function by different names: `f(X)=-1`, `f(x)=x+1`.

    A variable may have any name, but not two of them in one answer.
    """
    relations = (chain(item) for item in items)
    heads = (_FUNCTION.fullmatch(squeezed(relation.operands[0])) for relation in relations if relation)
    called = {(head[1], head[2]) for head in heads if head}
    return len(called) > len({function for function, _ in called})


def _renamed(relation: Chain, model: Chain) -> Chain:
    """The relation with its function's variable called as in the model: `f(n)=n^2` is `f(x)=x^2`."""
    own, wanted = (_FUNCTION.fullmatch(squeezed(chain_.operands[0])) for chain_ in (relation, model))
    if not own or not wanted or own[2] == wanted[2]:
        return relation
    pattern, taken = (re.compile(rf"(?<![a-zA-Z\\]){name}(?![a-zA-Z])") for name in (own[2], wanted[2]))
    if any(taken.search(side) for side in relation.operands):
        return relation
    return Chain(
        operands=tuple(pattern.sub(wanted[2], side) for side in relation.operands), relations=relation.relations
    )


def _both(expected: Chain, found: Chain, arithmetic: Arithmetic, same: Same) -> bool:
    if set(expected.relations) <= _EQUALITIES and set(found.relations) <= _EQUALITIES:
        return _same_equation(expected, found, arithmetic, same)
    expected, found = ascending(expected), ascending(found)
    if expected.relations != found.relations:
        return False
    if all(squeezed(a) == squeezed(b) for a, b in zip(expected.operands, found.operands, strict=True)):
        return True
    if len(expected.relations) != 1:
        return all(same(a, b, arithmetic) for a, b in zip(expected.operands, found.operands, strict=True))
    return arithmetic.proportional(
        _difference(expected), _difference(found), is_positive=expected.relations[0] != r"\ne"
    )


def _same_equation(expected: Chain, found: Chain, arithmetic: Arithmetic, same: Same) -> bool:
    left, other = squeezed(expected.operands[0]), squeezed(found.operands[0])
    if _plain(left) == _plain(other) and _NAME.fullmatch(left):
        values = [_asserted(relation, arithmetic, is_zero=False) for relation in (expected, found)]
        if values[0] and values[1] and same(values[0], values[1], arithmetic):
            return True
    if {_plain(left), _plain(other)} == {"y", "f(x)"} or (left.startswith("(") and left == other):
        return same(expected.operands[-1], found.operands[-1], arithmetic)
    if "(x)" in left and left == other:
        return False
    return len(expected.operands) == len(found.operands) == 2 and arithmetic.proportional(
        _difference(expected), _difference(found), is_positive=False
    )


def _plain(name: str) -> str:
    return name.replace("{", "").replace("}", "")


def _difference(relation: Chain) -> str:
    return f"({relation.operands[0]})-({relation.operands[1]})"
