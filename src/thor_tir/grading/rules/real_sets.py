r"""Subsets of the real line as they are written: intervals, their unions, inequalities, `\mathbb{R}`, single points."""

import itertools
import re
from dataclasses import dataclass

from thor_tir.grading.rules.structure import ListKind, ascending, chain, sequence, split_at

_NAME = re.compile(r"\|?(?:[a-zA-Z]|\\[a-zA-Z]+)(?:_\{?\w+\}?|')*(?:\s*\([a-zA-Z]\))?\|?")
_ALL = re.compile(r"(?:\\mathbb)?\s*\{?\s*R\s*\}?|(?i:\\text\{(?:all )?reals?(?: numbers?)?\}|all real numbers)")
_INFINITY = r"\infty"
_INFINITIES = re.compile(r"\+\s*\\infty|(?<![a-z\\])(?:inf|oo|infinity)\b")
_BUILDER = re.compile(r"\\\{ ?[a-z] ?(?:\\in ?\{? ?R ?\}? ?)?[|:](.*)\\\}", re.DOTALL)
r"""`\{x : x > 5\}`; canonical text knows no fonts, so that the reals are `R`."""
_MINUS_POINTS = re.compile(r"^\{? ?R ?\}? ?- ?\\?\{([^{}\\]*)\\?\}$")
r"""`\mathbb{R}-\{0\}`, with or without the backslashes: a set without points, and no difference of numbers."""
_UNIONS = frozenset((r"\cup", "U", "or", ","))


@dataclass(frozen=True, kw_only=True)
class RealInterval:
    """One interval; a point has two equal ends."""

    low: str
    """The lower end."""
    high: str
    """The upper end."""
    has_low: bool
    """True if the lower end belongs to it."""
    has_high: bool
    """True if the upper end belongs to it."""


@dataclass(frozen=True, kw_only=True)
class RealSet:
    """Intervals in the order in which they were written."""

    parts: tuple[RealInterval, ...]
    """The intervals, in the order in which they were written."""
    is_explicit: bool
    """True if it can be nothing else; `(1, 2)` can be a point of the plane."""
    variable: str = ""
    """The letter that an inequality is about, if it is one."""


def real_set(text: str) -> RealSet | None:
    """The set that a canonical text describes, or None."""
    text = _MINUS_POINTS.sub(r"R \\setminus \\{\1\\}", _INFINITIES.sub(lambda _: _INFINITY, text))
    if builder := _BUILDER.fullmatch(text):
        text = builder[1]
    variable = ""
    if (found := chain(text)) and found.relations == (r"\in",) and _NAME.fullmatch(found.operands[0]):
        variable, text = found.operands
        if not (inner := _read(text)):
            return None
        return RealSet(parts=inner.parts, is_explicit=True, variable=variable)
    return _read(text)


def _read(text: str) -> RealSet | None:
    pieces, separators = split_at(text, _UNIONS)
    if _ALL.fullmatch(text.strip()):
        return RealSet(parts=(_ray_both(),), is_explicit=True)
    if len(split_at(text, frozenset((r"\setminus",)))[0]) == 2:
        return _without_points(*split_at(text, frozenset((r"\setminus",)))[0])
    if "," in separators and (len(set(separators)) > 1 or not all(chain(piece) for piece in pieces)):
        return None
    read = [_piece(piece) for piece in pieces]
    if any(piece is None for piece in read):
        return None
    sets = [piece for piece in read if piece is not None]
    variables = {piece.variable for piece in sets if piece.variable}
    if len(variables) > 1 or ("," in separators and any(len(piece.parts) != 1 for piece in sets)):
        return None
    parts = tuple(part for piece in sets for part in piece.parts)
    is_explicit = bool(separators) or any(piece.is_explicit for piece in sets)
    return RealSet(parts=parts, is_explicit=is_explicit, variable="".join(variables))


def _piece(text: str) -> RealSet | None:
    if found := sequence(text):
        if found.kind is ListKind.SET:
            points = tuple(RealInterval(low=item, high=item, has_low=True, has_high=True) for item in found.items)
            return RealSet(parts=points, is_explicit=False)
        if found.kind is not ListKind.BARE and len(found.items) == 2:
            part = RealInterval(
                low=found.items[0],
                high=found.items[1],
                has_low=found.opening == "[",
                has_high=found.closing == "]",
            )
            return RealSet(parts=(part,), is_explicit=found.kind is ListKind.HALF_OPEN or _INFINITY in text)
        return None
    return _inequality(text)


def _inequality(text: str) -> RealSet | None:
    found = chain(text)
    if found is None:
        return None
    signs, sides = found.relations, found.operands
    if signs == (r"\ne",) and _NAME.fullmatch(sides[0]):
        return RealSet(parts=_around((sides[1],)), is_explicit=True, variable=sides[0])
    upward = ascending(found)
    return _ascending(upward.operands, upward.relations) if set(upward.relations) <= {"<", r"\le"} else None


def _ascending(sides: tuple[str, ...], signs: tuple[str, ...]) -> RealSet | None:
    """`a < x <= b`, `x < b` or `a < x`, the variable being a name."""
    if len(sides) == 3 and _NAME.fullmatch(sides[1]):
        part = RealInterval(low=sides[0], high=sides[2], has_low=signs[0] != "<", has_high=signs[1] != "<")
        name = sides[1]
    elif len(sides) == 2 and _NAME.fullmatch(sides[0]) and not _NAME.fullmatch(sides[1]):
        part = RealInterval(low=f"-{_INFINITY}", high=sides[1], has_low=False, has_high=signs[0] != "<")
        name = sides[0]
    elif len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]):
        part = RealInterval(low=sides[0], high=_INFINITY, has_low=signs[0] != "<", has_high=False)
        name = sides[1]
    else:
        return None
    parts: tuple[RealInterval, ...] = (part,)
    if name.startswith("|") and name.endswith("|"):
        name, parts = name.strip("|"), _without_bars(part)
    return RealSet(parts=parts, is_explicit=True, variable=name)


def _without_bars(size: RealInterval) -> tuple[RealInterval, ...]:
    r"""The intervals in which `a < |x| < b` puts `x` itself, with `a` taken to be no less than zero."""
    if size.low == f"-{_INFINITY}":
        return (RealInterval(low=f"-({size.high})", high=size.high, has_low=size.has_high, has_high=size.has_high),)
    mirrored_high = _INFINITY if size.high == _INFINITY else f"({size.high})"
    mirrored = RealInterval(
        low=f"-{mirrored_high}", high=f"-({size.low})", has_low=size.has_high, has_high=size.has_low
    )
    return (mirrored, size)


def _ray_both() -> RealInterval:
    return RealInterval(low=f"-{_INFINITY}", high=_INFINITY, has_low=False, has_high=False)


def _without_points(whole: str, removed: str) -> RealSet | None:
    points = sequence(removed)
    if not _ALL.fullmatch(whole) or points is None or points.kind is not ListKind.SET:
        return None
    return RealSet(parts=_around(points.items), is_explicit=True)


def _around(points: tuple[str, ...]) -> tuple[RealInterval, ...]:
    """The line without some points, which are expected in ascending order."""
    ends = (f"-{_INFINITY}", *points, _INFINITY)
    return tuple(
        RealInterval(low=low, high=high, has_low=False, has_high=False) for low, high in itertools.pairwise(ends)
    )
