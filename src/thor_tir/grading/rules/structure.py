"""Division of a text into its parts: lists, tuples, sets, intervals, matrices and relations, with brackets respected.

Everything works on canonical text, in one pass, and knows nothing about values.
"""

import re
from dataclasses import dataclass
from enum import Enum

from thor_tir.grading.rules.arithmetic import GROUPED
from thor_tir.grading.rules.canonical import squeezed

_TOKEN = re.compile(r"\\(?:[a-zA-Z]+|.)|\s(?:and|or)(?=\s|$)|^(?:and|or)\s|<|>|.", re.DOTALL)
_OPENING = frozenset(("(", "[", "{", r"\{", r"\lfloor", r"\lceil", r"\begin"))
_CLOSING = frozenset((")", "]", "}", r"\}", r"\rfloor", r"\rceil", r"\end"))
_RELATIONS = frozenset(("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx", r"\equiv", r"\sim", r"\simeq"))
_LARGER = {">": "<", r"\ge": r"\le"}
_GROUPED_WITHIN = re.compile(r"(?<![\d,.])\d{1,3}(?:,\d{3})+(?!,?\d)")
_GROUPED_AMOUNT = re.compile(
    rf"(?:(?:[¤€£¥₹]|\\text\{{[^{{}}]*\}}|USD|EUR|Rs\.?)\s*)?{GROUPED.pattern}(?:\s*[¤€%]|\s*\\text\{{[^{{}}\d]*\}}|\s[^\d,;]*)?"
)
"""A number with thousands separators, and with its currency or unit."""
_MATRIX = re.compile(
    r"\\begin\s*\{(?:[pbB]?(?:small)?matrix|array)\*?\}(?:\s*\{[lcr| ]*\})?(.*)\\end\s*\{\w+\*?\}", re.DOTALL
)
_PYTHON_MATRIX = re.compile(r"(?:Matrix|array)\s*\((.*)\)", re.DOTALL)


_JOINTS = frozenset(("and", "or"))
_STATEMENT = re.compile(r"(?:\\(?:neg|lnot|sim) ?)?\(?[a-zA-Z]\)?")
"""A letter that stands for a statement, or its negation."""


class ListKind(Enum):
    """The brackets of a sequence, which say whether its order counts."""

    BARE = "bare"
    SET = "set"
    TUPLE = "tuple"
    BRACKET = "bracket"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, kw_only=True)
class AnswerList:
    """Several answers in one, or one answer of several parts."""

    kind: ListKind
    """The kind of brackets."""
    items: tuple[str, ...]
    """The elements in the order in which they were written."""
    opening: str = ""
    """The opening bracket, empty where there is none."""
    closing: str = ""
    """The closing bracket, empty where there is none."""
    joints: tuple[str, ...] = ()
    """The words "and" and "or" between the elements, in their order."""


@dataclass(frozen=True, kw_only=True)
class Chain:
    """`a < b <= c` as operands and the relations between them."""

    operands: tuple[str, ...]
    """The sides, one more than there are relations."""
    relations: tuple[str, ...]
    """The signs between the sides, from left to right."""


def split_at(text: str, separators: frozenset[str]) -> tuple[list[str], list[str]]:
    """The parts of a text between separators that stand outside all brackets, and those separators."""
    parts, found, start, depth = [], [], 0, 0
    for token in _TOKEN.finditer(text):
        sign = token[0].strip() or token[0]
        depth = max(0, depth + (sign in _OPENING) - (sign in _CLOSING))
        if not depth and sign in separators:
            parts.append(text[start : token.start()].strip())
            found.append(sign)
            start = token.end()
    return [*parts, text[start:].strip()], found


def sequence(text: str, *, splits_groups: bool = False) -> AnswerList | None:
    """The text read as several answers; None where it is a single one.

    `1,234` is one number unless `splits_groups`, and `1, 234` two.
    """
    if enclosed := _enclosed(text):
        return enclosed
    if _GROUPED_AMOUNT.fullmatch(text) and not splits_groups:
        return None
    text = text if splits_groups else _without_groups(text)
    items = _items(text)
    return AnswerList(kind=ListKind.BARE, items=items, joints=_joints(text)) if len(items) > 1 else None


def joined_otherwise(one: AnswerList, other: AnswerList) -> bool:
    """True if conditions are joined by "and" on one side and by "or" on the other; values are listed with either."""
    if not one.joints or not other.joints or (_are_values(one.items) and _are_values(other.items)):
        return False
    is_mixed = len({*one.joints, *other.joints}) > 1
    return is_mixed and (one.joints != other.joints or [*map(squeezed, one.items)] != [*map(squeezed, other.items)])


def _are_values(items: tuple[str, ...]) -> bool:
    """True of `2`, `3` and of the values of one unknown, `x=2`, `x=3`; false of inequalities and of statements."""
    relations = [chain(item) for item in items]
    if any(relation and relation.relations != ("=",) for relation in relations):
        return False
    if len({squeezed(relation.operands[0]) for relation in relations if relation}) > 1:
        return False
    return not any(_STATEMENT.fullmatch(item) or len(split_at(item.strip("()"), _JOINTS)[0]) > 1 for item in items)


def chain(text: str) -> Chain | None:
    """The relations of the text outside brackets, or None."""
    operands, relations = split_at(text, _RELATIONS)
    return Chain(operands=tuple(operands), relations=tuple(relations)) if relations else None


def ascending(relation: Chain) -> Chain:
    r"""`b > x \ge a` as `a \le x < b`; chains with signs of both directions stay as they are."""
    if set(relation.relations) & set(_LARGER) and not set(relation.relations) & {"<", r"\le"}:
        signs = tuple(_LARGER.get(sign, sign) for sign in reversed(relation.relations))
        return Chain(operands=relation.operands[::-1], relations=signs)
    return relation


def matrix(text: str) -> tuple[tuple[str, ...], ...] | None:
    r"""Rows of cells of `\begin{pmatrix}...`, or of Python's nested lists; None for anything else."""
    inner = text.strip()
    if (outer := _whole(inner, "([")) and outer[1].strip().startswith(r"\begin"):
        inner = outer[1].strip()
    if (found := _MATRIX.fullmatch(inner)) and r"\begin" not in found[1]:
        rows = [row for row in split_at(found[1], frozenset((r"\\",)))[0] if row]
        return tuple(tuple(split_at(row, frozenset(("&",)))[0]) for row in rows)
    if found := _PYTHON_MATRIX.fullmatch(inner):
        inner = found[1].strip()
    if (outer := _whole(inner, "[")) and outer[1].strip().startswith("["):
        rows_as_text = _items(outer[1])
        inner_rows = [_whole(row, "[") for row in rows_as_text]
        if all(inner_rows):
            return tuple(_items(row[1]) for row in inner_rows if row)
    return None


def combined_matrices(text: str) -> tuple[tuple[str, ...], ...] | None:
    r"""The rows of a matrix, of a multiple of one, or of a sum; what stands before an equals sign is its name."""
    if (rows := matrix(text)) is not None or r"\begin" not in text:
        return rows
    if (named := chain(text)) and named.relations == ("=",) and r"\begin" not in named.operands[0]:
        return combined_matrices(named.operands[1])
    terms, signs = split_at(text, frozenset("+-"))
    terms, signs = (terms[1:], signs) if not terms[0] else (terms, ["+", *signs])
    summands = [_multiple(term, sign) for term, sign in zip(terms, signs, strict=True)]
    given = [rows for rows in summands if rows is not None]
    if len(given) < len(summands) or len({tuple(map(len, rows)) for rows in given}) != 1:
        return None
    return tuple(tuple("+".join(cells) for cells in zip(*rows, strict=True)) for rows in zip(*given, strict=True))


def _multiple(term: str, sign: str) -> tuple[tuple[str, ...], ...] | None:
    start = term.find(r"\begin")
    start -= 1 if start > 0 and term[start - 1] in "([" else 0
    rows = matrix(term[start:]) if start >= 0 else None
    factor = term[:start].rstrip(" *") or "1"
    return None if rows is None else tuple(tuple(f"({sign}({factor})*({cell}))" for cell in row) for row in rows)


def without_parentheses(text: str) -> str:
    """The text without round brackets that enclose all of it and hold a single thing."""
    while (whole := _whole(text, "(")) and whole[2] == ")" and len(_items(whole[1])) == 1:
        text = whole[1].strip()
    return text


def _whole(text: str, opening: str) -> tuple[str, str, str] | None:
    """Opening bracket, content and closing bracket where one pair encloses all of the text."""
    if not text or text[0] not in opening or text[-1] not in ")]":
        return None
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if not depth:
            return (text[0], text[1:-1], text[-1]) if place == len(text) - 1 else None
    return None


def _enclosed(text: str) -> AnswerList | None:
    if text.startswith(r"\{") and text.endswith(r"\}") and r"\}" not in text[2:-2]:
        return AnswerList(kind=ListKind.SET, items=_items(text[2:-2]), opening="{", closing="}")
    if not (whole := _whole(text, "([")):
        return None
    items = _items(whole[1])
    if whole[0] + whole[2] in ("(]", "[)"):
        return AnswerList(kind=ListKind.HALF_OPEN, items=items, opening=whole[0], closing=whole[2])
    if whole[0] + whole[2] == "[]":
        return AnswerList(kind=ListKind.BRACKET, items=items, opening="[", closing="]")
    if len(items) < 2:
        return None
    return AnswerList(kind=ListKind.TUPLE, items=items, opening="(", closing=")", joints=_joints(whole[1]))


def _items(text: str) -> tuple[str, ...]:
    """Semicolons divide before commas do: `p=5,q=2; p=7,q=2` is two pairs."""
    parts, _ = split_at(text, frozenset((";", "and", "or")))
    if ";" in text and len(parts) > 1 and any(len(split_at(part, frozenset(","))[0]) > 1 for part in parts):
        return tuple(f"({part})" if "," in part and not part.startswith("(") else part for part in parts if part)
    return tuple(part for part in split_at(text, frozenset((",", ";", "and", "or")))[0] if part)


def _joints(text: str) -> tuple[str, ...]:
    return tuple(split_at(text, _JOINTS)[1])


def _without_groups(text: str) -> str:
    """Thousands separators removed where the list itself is spaced, as in `1,234, 5,678`."""
    if ", " not in text and " and " not in text and " or " not in text:
        return text
    return _GROUPED_WITHIN.sub(lambda number: number[0].replace(",", ""), text)
