"""Equality of outcomes: the rules of EvalPlus and of LiveCodeBench, on plain data.

Nothing here runs code of a program under test: outcomes arrive through `storage/journal.py`.
"""

import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

SET_TASKS = frozenset(
    {
        "similar_elements",
        "find_char_long",
        "common_in_nested_lists",
        "extract_singly",
        "larg_nnum",
        "intersection_array",
        "find_dissimilar",
        "Diff",
    }
)
"""Entry points of MBPP+ whose result is compared as a set (EvalPlus 0.3, `MBPP_OUTPUT_SET_EQ_TASKS`)."""
PRESENCE_TASKS = frozenset({"check_str", "text_match_three", "text_starta_endb"})
"""Entry points of MBPP+ where any value but None counts as True (`MBPP_OUTPUT_NOT_NONE_TASKS`)."""
_FAILURES = (ArithmeticError, TypeError, ValueError, LookupError, AttributeError, RecursionError, MemoryError)
"""Exceptions of comparing values of unlike kinds: these are not equal then."""


def matches_evalplus(out: Any, expected: Any, inputs: Sequence[Any], entry_point: str, tolerance: float) -> bool:
    """True if EvalPlus 0.3 (`evalplus.eval.unsafe_execute`) would accept this outcome of one call.

    Equal values match. Where there is a tolerance, or the expected value is of floats (then it is 1e-6), values of the
    same type and length match that are close, |out - expected| <= tolerance + 1e-7 |expected|. Some entry points have
    an oracle of their own.
    """
    try:
        if entry_point == "find_zero":
            return abs(_polynomial(inputs[0], out)) <= tolerance
        is_match = bool(_oracle(out, expected, inputs, entry_point, tolerance))
        if tolerance == 0 and _is_floats(expected):
            tolerance = 1e-6
        if is_match or tolerance == 0:
            return is_match
        if type(out) is not type(expected) or (isinstance(expected, list | tuple) and len(out) != len(expected)):
            return False
        return bool(np.allclose(out, expected, rtol=1e-07, atol=tolerance))
    except _FAILURES:
        return False


def _oracle(out: Any, expected: Any, inputs: Sequence[Any], entry_point: str, tolerance: float) -> Any:
    if entry_point in SET_TASKS:
        return set(out) == set(expected)
    if entry_point in PRESENCE_TASKS:
        return out == expected if isinstance(out, bool) else expected == (out is not None)
    match entry_point:
        case "are_equivalent":
            return True
        case "sum_div":
            return out == expected or out == 0
        case "surface_Area":
            return out == expected or abs(out - _pyramid_surface(*inputs)) <= tolerance
        case "digit_distance_nums":
            return out == expected or out == _digit_distance(*inputs)
    return out == expected


def _polynomial(coefficients: Sequence[float], x: float) -> float:
    return sum(coefficient * math.pow(x, power) for power, coefficient in enumerate(coefficients))


def _pyramid_surface(edge: float, height: float) -> int:
    """Surface of a square pyramid, `height` to the apex: edge² + 2 edge sqrt((edge/2)² + height²), rounded."""
    return round(edge**2 + 2 * edge * math.sqrt((edge / 2) ** 2 + height**2))


def _digit_distance(first: int, second: int) -> int:
    """Sum of the digits' differences, the shorter number filled with zeros in front."""
    width = max(len(str(first)), len(str(second)))
    digits = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(ours) - int(theirs)) for ours, theirs in digits)


def _is_floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    if isinstance(value, np.ndarray):
        return value.dtype in (np.float64, np.float32)
    return isinstance(value, float)


def matches_printed(printed: str, expected: str) -> bool:
    """LiveCodeBench on standard output: equal lines, spaces around them aside, or lines of the same numbers."""
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(ours) == len(theirs) and all(a == b or _same_numbers(a, b) for a, b in zip(ours, theirs, strict=True))


def _same_numbers(ours: str, theirs: str) -> bool:
    try:
        return [Decimal(word) for word in ours.split()] == [Decimal(word) for word in theirs.split()]
    except InvalidOperation:
        return False


def matches_returned(out: Any, expected: Any) -> bool:
    """LiveCodeBench on a method's result: equal, and a tuple counts as the list of its items."""
    try:
        return bool((list(out) if isinstance(out, tuple) else out) == expected)
    except _FAILURES:
        return False
