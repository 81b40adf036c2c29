r"""Words and signs around a number: units and nouns are read, and what changes the number or takes it back is not."""

import pytest

from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Outcome

CHANGES = [
    *("halves", "half", "thirds", "tenths", "hundredths", "squared", "cubed", "factorial", "negative"),
    *("below zero", "lakh", "crore", "bn", "gross", "score", "pi", "base eight", "less than x", "at most"),
    *("at least", "is incorrect", "is wrong", "and a half", "and one third", "k", "x", "i", "e", "or so"),
    *("over two", "to the fourth", "plus one", "minus one", "no solution", "twice", "modulo twelve"),
]
COUNTS = [
    *("pears", "cm", "K", "m", "square feet", "cups of sugar", "x-intercepts", "ways to choose"),
    *("cookies left over", "two-digit numbers", "boys and girls", "times per day", "units squared", "cm squared"),
    *("squared units", "roots", "pairs", "degrees Celsius", "cubic units", "pounds", "Euros", "yuan"),
    *("apples each", "dollars per hour", "joules", "radians", "points", "hours"),
]
FONTS = (r"7\text{ %s}", r"\text{7 %s}", r"7\ \textbf{%s}", r"7 \mathrm{%s}")


def is_right(reference, answer):
    return (quick_outcome(reference, answer) or algebraic_outcome(reference, answer))[0] is Outcome.CORRECT


@pytest.mark.parametrize("words", CHANGES)
def test_words_that_change_a_number_are_no_unit_in_any_font(words):
    assert [font for font in FONTS if is_right("7", font % words)] == []


@pytest.mark.parametrize("words", COUNTS)
def test_units_and_nouns_are_read_in_every_font(words):
    assert [font for font in FONTS if not is_right("7", font % words)] == []


DIFFERENT = [
    (r"7\text{ square units}", r"7\text{ cubic units}"),
    (r"7\text{ cm}^2", r"7\text{ cubic units}"),
    (r"7\text{ cm}^3", r"7\text{ square units}"),
    (r"7\text{ units}^2", r"7\text{ cubic units}"),
    (r"\$7", r"7\text{ euros}"),
    (r"\$7", "€7"),
    ("7€", "£7"),
    (r"7\text{ dollars}", "7€"),
    (r"\$7", r"7\text{ yen}"),
    (r"7\text{ pounds}", r"\$7"),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_units_that_contradict_each_other_are_different_whichever_is_the_reference(one, other):
    assert not is_right(one, other)
    assert not is_right(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"7\text{ cm}^2", r"7\text{ square units}"),
        (r"7\text{ units}^2", r"7\text{ square units}"),
        (r"7\text{ units}", r"7\text{ square units}"),
        (r"\$7", r"7\text{ dollars}"),
        (r"\$7", r"700\text{ cents}"),
        ("€7", r"7\text{ euros}"),
        ("7€", "€7"),
        ("£7", r"7\text{ pounds}"),
        ("¥7", "7"),
        (r"\$.50", "0.5"),
    ],
)
def test_units_that_agree_are_the_same_whichever_is_the_reference(one, other):
    assert is_right(one, other)
    assert is_right(other, one)


@pytest.mark.parametrize(
    "hidden", [r"\phantom{7}", r"\phantom 7", r"\hphantom{{7}}", r"\vphantom{7}", r"\phantom{\sqrt{49}}"]
)
def test_what_is_set_invisibly_is_no_answer(hidden):
    assert not is_right("7", hidden)
    assert is_right("8", "8" + hidden)
