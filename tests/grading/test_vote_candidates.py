"""What a vote counts as one candidate: the grader's equivalence, without a reference."""

import random
from time import perf_counter

import pytest

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
