"""What a vote counts as one candidate: the grader's equivalence, without a reference."""

import random
from itertools import permutations
from time import perf_counter

import pytest

from thor_tir.grading import voting
from thor_tir.grading.voting import are_equal, candidates_of


@pytest.mark.parametrize(
    "equal",
    [
        ("1/2", "0.5", r"\frac12", r"\dfrac{1}{2}", "$0.50$", "2/4"),
        ("1,000", "1000", r"1{,}000", "1 000", "1e3"),
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", "sqrt(2)/2", r"2^{-1/2}"),
        ("x^2+2x+1", "(x+1)^2", "1+2x+x**2"),
        ("1, 2", "2,1", r"\{1, 2\}", "1 and 2"),
        ("(1,2)", "(1, 2)", r"\left(1, 2\right)"),
        ("x=5", "5", r"x = 5.0"),
        ("np.int64(5)", "5", "'5'"),
        (r"\text{east}", "East", r"\textbf{east}"),
    ],
)
def test_spellings_of_one_answer_are_one_candidate(equal):
    assert set(candidates_of(equal)) == {0}


@pytest.mark.parametrize(
    "different",
    [
        ("1/3", "0.33", "0.333"),
        ("34", "3 4", "3,4"),
        ("(1,2)", "(2,1)", r"\{1,2\}"),
        ("x^2", "X^2", "x^3"),
        ("42", "42_7", "42_8"),
        ("1", "0.99999999999999", "-1"),
        (r"\frac{1}{3000!}", r"\frac{1}{3001!}", "0"),
        ("100/3", "33.3", "33"),
        ("I am lost", "no idea", "?"),
    ],
)
def test_near_misses_are_candidates_of_their_own(different):
    assert sorted(candidates_of(different)) == [0, 1, 2]


def test_no_answer_abstains_and_the_order_of_the_answers_changes_no_group():
    answers = [None, "", "  ", "1/2", "3", "0.5", "x", "3.0"]
    assert candidates_of(answers)[:3] == [None, None, None]

    def groups(given):
        numbers = candidates_of(given)
        return {
            frozenset(a for a, n in zip(given, numbers, strict=True) if n == wanted) for wanted in set(numbers) - {None}
        }

    shuffled = random.Random(0).sample(answers, len(answers))
    assert groups(answers) == groups(shuffled) == {frozenset(("1/2", "0.5")), frozenset(("3", "3.0")), frozenset("x")}


def test_equality_is_symmetric_where_rounding_is_not():
    assert not are_equal("33.3", "100/3")
    assert not are_equal("100/3", "33.3")


def test_hostile_answers_vote_for_themselves_alone():
    answers = ["9" * 5000, "(" * 500, r"\boxed{", "__import__('os')", "7"]
    assert sorted(candidates_of(answers)) == [0, 1, 2, 3, 4]


def test_many_attempts_of_few_answers_cost_next_to_nothing():
    answers = [str(number % 40) for number in range(4000)]
    candidates_of(answers)
    began = perf_counter()
    assert len(set(candidates_of(answers))) == 40
    assert perf_counter() - began < 0.5


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (("2/3", "0.6666666666666666", "0.66666666666666663", r"\frac{2}{3}"), 1),
        ((r"\frac{200}{3}", "66.66666666666667", "66.666666666666671"), 1),
        ((r"\sqrt{2}", "1.4142135623730951", "1.414213562373095"), 1),
        (("2/3", "0.6667", "0.667"), 3),
        (("10%", "1000%", "10"), 3),
        (("10%", "10"), 1),
        (("10%", "0.1"), 1),
        (("10%", "0.1", "10"), 3),
        (("3:45 am", "3:45 pm"), 2),
        (("3:45 am", "3:45 pm", "3:45"), 3),
        (("3:45 pm", r"3:45\text{ p.m.}", "3:45"), 1),
        ((r"5\text{ dollars}", r"5\text{ euros}"), 2),
        ((r"5\text{ dollars}", r"5\text{ euros}", "5"), 3),
        ((r"5\text{ dollars}", r"\$5", "5", r"\$5.00"), 1),
        (("x=5", "y=5", "5"), 3),
        (("x=5", "5"), 1),
        ((r"5\text{ cm}", r"5\text{ m}", "5"), 3),
    ],
)
def test_a_vote_has_the_same_candidates_in_whatever_order_its_answers_come(answers, groups):
    def partition(given):
        numbers = candidates_of(given)
        return {frozenset(text for text, n in zip(given, numbers, strict=True) if n == number) for number in numbers}

    expected = partition(answers)
    assert len(expected) == groups
    assert all(partition(order) == expected for order in permutations(answers))
    assert all(are_equal(one, other) == are_equal(other, one) for one, other in permutations(answers, 2))


def test_groups_that_a_chain_of_equal_answers_holds_together_do_not_depend_on_the_first_of_them(monkeypatch):
    monkeypatch.setattr(voting, "are_equal", lambda one, other: abs(int(one) - int(other)) == 1)
    for order in permutations(("1", "2", "3", "7")):
        assert sorted(sorted(group) for group in voting._connected(order)) == [["1", "2", "3"], ["7"]]
