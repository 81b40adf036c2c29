"""The rules by which an outcome counts as right, and the road of values out of a program's process."""

import collections
import decimal
import fractions
import json

import numpy as np
import pytest

from thor_tir.eval.code.equality import matches_evalplus, matches_printed, matches_returned
from thor_tir.eval.code.value_json import LONG_TEXT, MOST_ITEMS, Opaque, decode, encode


def back(value: object) -> object:
    return decode(json.loads(json.dumps(encode(value))))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        2**200,
        -(3**99),
        0.1,
        float("inf"),
        "naïve \ud800",
        1 + 2j,
        [1, "a", None, 2**60],
        [(1, 2), (3.5, "b")],
        [(1, [2]), (3,)],
        {"a": [1], (1, 2): {3}},
        collections.Counter("abba"),
        collections.deque([1]),
        frozenset({"x"}),
        range(1, 9, 2),
        b"\x00\xff",
        decimal.Decimal("1.10"),
        fractions.Fraction(2, 6),
    ],
    ids=repr,
)
def test_a_plain_value_comes_back_equal_and_of_its_own_type(value: object) -> None:
    assert back(value) == value
    assert type(back(value)) is type(value)


def test_numpy_values_come_back_with_their_type_and_shape() -> None:
    array = np.array([[1.5, 2.0]], dtype=np.float32)
    found = back(array)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape, found.tolist()) == (np.float32, (1, 2), [[1.5, 2.0]])
    assert type(back(np.int64(3))) is np.int64


def test_what_is_no_plain_data_arrives_as_something_that_equals_nothing() -> None:
    class Everything:
        def __eq__(self, other: object) -> bool:
            return True

    cyclic: list[object] = []
    cyclic.append(cyclic)
    endless = iter(int, 1)
    for value in (Everything(), cyclic, endless, len):
        assert isinstance(back(value), Opaque)
    assert list(back(iter(range(3)))) == [0, 1, 2]  # type: ignore[call-overload]
    assert MOST_ITEMS > 3


def test_a_very_long_text_can_still_be_told_equal_or_not() -> None:
    long = "ab" * LONG_TEXT
    assert back(long) == back(str(long))
    assert back(long) != back(long[:-1] + "c")
    assert len(str(back(long))) < 200


def test_reading_refuses_what_writing_does_not_write() -> None:
    for data in ({"os.system": "true"}, {"int": [1]}, {}, {"a": 1, "b": 2}, {"Decimal": "x"}):
        with pytest.raises(ValueError, match="not an encoded value"):
            decode(data)


@pytest.mark.parametrize(
    ("out", "expected", "tolerance", "is_match"),
    [
        (1, 1.0, 0, True),  # equal, whatever the types
        (1.0000005, 1.0, 0, True),  # floats have 1e-6
        (1.000002, 1.0, 0, False),
        ([1.0, 2.0000005], [1.0, 2.0], 0, True),
        ((1.0, 2.0000005), [1.0, 2.0], 0, False),  # another type, and not equal
        ([1.0], [1.0, 2.0], 0, False),
        ([1, 2.0000005], [1, 2.0], 0, False),  # not all floats, so no tolerance
        (3, 3.00005, 1e-4, False),  # int is not float
        (3.0, 3.00005, 1e-4, True),
        (None, 1.0, 1e-4, False),
        ("a", 1.0, 0, False),
    ],
)
def test_evalplus_compares_floats_with_a_tolerance_and_within_one_type(
    out: object, expected: object, tolerance: float, is_match: bool
) -> None:
    assert matches_evalplus(out, expected, [], "f", tolerance) is is_match


def test_some_entry_points_have_an_oracle_of_their_own() -> None:
    assert matches_evalplus([3, 1, 1], (1, 3), [], "similar_elements", 0)  # as sets
    assert not matches_evalplus(3, (1, 3), [], "similar_elements", 0)
    assert matches_evalplus("found", True, [], "check_str", 0)  # anything but None is a match
    assert not matches_evalplus(None, True, [], "check_str", 0)
    assert matches_evalplus(0, 5, [], "sum_div", 0)
    # 1 - 4 x² has the roots 1/2 and -1/2; EvalPlus accepts either.
    assert matches_evalplus(-0.5, 0.5, [[1, 0, -4]], "find_zero", 1e-4)
    assert not matches_evalplus(0.4, 0.5, [[1, 0, -4]], "find_zero", 1e-4)
    # Edge 6, height 4: slant sqrt(9 + 16) = 5, surface 36 + 2 · 6 · 5 = 96.
    assert matches_evalplus(96, 0, [6, 4], "surface_Area", 0)
    # 007 and 123: 1 + 2 + 4 = 7.
    assert matches_evalplus(7, 0, [7, 123], "digit_distance_nums", 0)


def test_printed_lines_match_but_for_spaces_and_the_spelling_of_numbers() -> None:
    assert matches_printed(" 1  \n2.0\n", "1\n2\n")
    assert not matches_printed("1 2\n", "1\n2\n")
    assert not matches_printed("yes\n", "YES\n")
    assert not matches_printed("", "1")


def test_a_method_may_return_a_tuple_for_a_list() -> None:
    assert matches_returned((1, 2), [1, 2])
    assert not matches_returned([2, 1], [1, 2])
    assert not matches_returned(Opaque(), [1, 2])
