"""Answers that math-verify or arithmetic calls equal and that are none all the same."""

import re

from thor_tir.grading.rules.arithmetic import rational
from thor_tir.grading.rules.canonical import squeezed
from thor_tir.grading.rules.latex_parser import Tree, Unreadable, operations, parse_expression
from thor_tir.grading.rules.structure import chain, split_at

_NAMES = re.compile(r"\\[a-zA-Z]+|[a-zA-Z]")
_NOT_VARIABLES = frozenset((r"\frac", r"\sqrt", r"\text", r"\begin", r"\end", r"\pi", "e", "i", r"\infty", r"\,"))
_BASED = re.compile(r"\d_\{?\w*")
_NUMBER_BEHIND_UNIT = re.compile(r"\\text\{[^{}]*\}(?:\^\{?\d\}?)? ?\d|\\text\{ ?\d")
_COMMAS = frozenset((",", ";", "and", "or"))
_UNWORKED = frozenset(("factorial", "binom", "add", "floor", "ceil"))
_MAX_POWER = 10**6


def objection(gold: str, answer: str) -> str | None:
    """Why two canonical texts that math-verify holds equal are not: its known false accepts. None where there is none.

    Boolean collapse of two equations, letters folded in case or read as units, subscripts and dots ignored.
    """
    if (chain(gold) is None) != (chain(answer) is None) or (chain(gold) and squeezed(gold) != squeezed(answer)):
        return "two relations of one truth value are not one relation"
    if ("'" in gold) != ("'" in answer):
        return "a prime that the reference lacks, or the other way round"
    if _NUMBER_BEHIND_UNIT.search(answer) and not _NUMBER_BEHIND_UNIT.search(gold):
        return "a number behind a unit"
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
