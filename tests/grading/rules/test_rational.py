from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.grading.rules.arithmetic import rational

integers = st.integers(-(10**30), 10**30)
below = st.integers(1, 10**12)


@settings(deadline=None)
@given(integers, below)
def test_every_spelling_of_a_fraction_has_its_value(above, below):
    value = Fraction(above, below)
    sign = "-" if above < 0 else ""
    assert rational(f"{above}/{below}") == value
    assert rational(rf"\frac{{{above}}}{{{below}}}") == value
    assert rational(rf"${sign}\dfrac{{{abs(above)}}}{{ {below} }}$.") == value


@settings(deadline=None)
@given(integers)
def test_thousands_separators_and_spaces_do_not_change_an_integer(number):
    assert rational(f"{number:,}") == number
    assert rational(rf" {number} \, ") == number
    assert rational(f"{number}.0") == number


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("−3", Fraction(-3)),
        ("007", Fraction(7)),
        (".5", Fraction(1, 2)),
        ("2.50", Fraction(5, 2)),
        ("7.4e-3", Fraction(37, 5000)),
        (r"7.4 \times 10^{-3}", Fraction(37, 5000)),
        (r"1,234.5", Fraction(2469, 2)),
    ],
)
def test_numbers_are_read_exactly(text, value):
    assert rational(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1,2",
        "0,111",
        "1,23",
        "1234,567",
        "1/0",
        r"\frac{1}{0}",
        "1e999",
        "10%",
        "5 cm",
        "1_000",
        "٣",
        "--1",
        "9" * 300,
        "1/2/3",
    ],
)
def test_what_is_not_plainly_one_number_is_left_to_others(text):
    assert rational(text) is None
