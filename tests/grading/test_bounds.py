"""Work in the caller's own thread is bounded: nothing can stop it, so that no answer may make it long."""

import sys

import pytest

from thor_tir.grading.extract import extract_answer
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Strictness

PUMPED = [
    *(r"€", r"\$", "USD ", "½", "°", "%", "(A) ", "Answer: ", "A. ", "(", "[", "{", r"\{", "|", "-", ",", "1,", "1, "),
    *("1j", "1e1", "np.int64(", "Interval(", "Union(", "complex(", "'a' ", "1 111 ", "2^3 ", "12 ", r"\text{1 a "),
    *("1 ", "1 1/2 ", "x=", "x<", "3:", " m", " cm", r"\text{a}", r"\text{", r"\pm", r"\pm 1", "^2", "_2", "!", "'"),
    *(r"\frac", r"\frac12", r"\cup(1,2)", " and 1", r"\\", r"\left(", r"\begin{pmatrix}", "million ", "to ", ".", "U"),
]  # fmt: skip
GOLDS = [
    "3",
    r"\frac{1}{2}",
    "(1,2)",
    r"\{1,2\}",
    "x=5",
    r"\text{east}",
    "C",
    "3:4",
    r"45^\circ",
    r"5\text{ cm}",
    r"10\%",
]


def num_calls(function):
    """Calls of Python functions, which is work that no machine's load changes."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
    return calls


@pytest.mark.parametrize("piece", PUMPED)
def test_no_repetition_multiplies_the_work_of_the_quick_rules(piece):
    # a rule that took off one sign of money and began anew made 75,000 calls of 512 signs
    answer = (piece * 512)[:512]
    assert max(num_calls(lambda gold=gold: quick_outcome(gold, answer, Strictness.LENIENT)) for gold in GOLDS) < 10_000


def test_what_is_longer_than_any_usual_answer_is_left_to_the_process_that_can_be_stopped():
    assert quick_outcome("3", "1+" * 300 + "1") is None
    assert quick_outcome("1+" * 300 + "1", "3") is None
    assert quick_outcome("3", "1" * 600)[0] == "wrong"  # no parser should be given this


def test_without_a_box_only_the_end_of_a_response_is_searched_for_an_answer():
    # each opening bracket may be read 2,000 characters far, so that their number must be bounded
    assert extract_answer("The answer is 7. " + r"\(" * 100_000, Strictness.LENIENT) is None
    assert extract_answer(r"\(" * 100_000 + "The answer is 7.", Strictness.LENIENT) == "7"
