"""Kinds of wrong answers that were once paid for, and beside each kind the right answers that must stay accepted."""

import pytest

from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.verdict import Outcome, Strictness

SAME = {
    "numbers behind units": [
        (r"6\text{ hours }20\text{ minutes}", r"6\text{ hours }20\text{ minutes}"),
        (r"6\text{ hours }20\text{ minutes}", "6 hours 20 minutes"),
        (r"5\text{ feet }7\text{ inches}", r"5\text{ feet } 7\text{ inches}"),
    ],
    "names of points and sets": [
        ("ABC", r"\text{ABC}"),
        ("AB", "BA"),
        ("PRT", r"P \cdot R \cdot T"),
        (r"\mathbb{R}\setminus\{0\}", r"\mathbb{R}-\{0\}"),
        (r"x\ne 0", r"\mathbb{R}-{0}"),
    ],
    "functions with kinks and steps": [
        (r"\sqrt{x^2-6x+9}", "|x-3|"),
        ("|a-b|", "|b-a|"),
        (r"\lceil x \rceil", r"-\lfloor -x \rfloor"),
        (r"\lfloor n/3 \rfloor", r"\lfloor \frac{2n}{6} \rfloor"),
        ("|x-5|=2", "|5-x|=2"),
        (r"(t^{1012}-1)(t^{1012}+1)", "t^{2024}-1"),
        (r"\binom{n}{2}", r"\frac{n!}{2(n-2)!}"),
    ],
    "small beside large": [
        ("e^{2024}-1", "-1+e^{2024}"),
        (r"2^{20250}-1", r"2\cdot 2^{20249}-1"),
        (r"\pi+10^{100}", r"10^{100}+\pi"),
        ("(1+e^{-2024})^2", "1+2e^{-2024}+e^{-4048}"),
        ("e^{100000}/2", r"\frac12 e^{100000}"),
    ],
    "decimal commas that braces mark": [
        ("2.5", "2{,}5"),
        ("2{,}5", "2.5"),
        (r"\frac{3}{4}", "0{,}75"),
        ("-1{,}3", "-1.3"),
        (r"\{2{,}5; 3\}", "3, 2.5"),
    ],
    "lists and thousands": [
        ("2,5", "5, 2"),
        ("2,5", r"2 \text{ and } 5"),
        ("1,234", "1234"),
        ("1,234", "1{,}234"),
        (r"\{1,234\}", "1,234"),
        ("1, 234", "1,234"),
        (r"1 \text{ and } 234", "1,234"),
        ("(1,234)", "(1, 234)"),
        ("1,234, 5,678", "5678, 1234"),
    ],
    "and, or": [
        ("2, 3", r"2 \text{ or } 3"),
        (r"2 \text{ and } 3", r"3 \text{ or } 2"),
        (r"x=2 \text{ and } x=3", r"x=2 \text{ or } x=3"),
        (r"(1,2) \text{ and } (3,4)", r"(3,4) \text{ or } (1,2)"),
        (r"x<1 \text{ or } x>5", r"x>5 \text{ or } x<1"),
        (r"x<1 \text{ or } x>5", r"x<1 \lor x>5"),
        (r"x<1 \text{ or } x>5", "x<1, x>5"),
        (r"x>1 \text{ and } y<5", r"y<5 \land x>1"),
        (r"x=2 \text{ and } y=3", "x=2, y=3"),
        (r"\sqrt{a} \text{ and } -\sqrt{a}", r"\sqrt{a} \text{ or } -\sqrt{a}"),
    ],
}
OTHER = {
    "numbers behind units": [
        (r"6\text{ hours }20\text{ minutes}", r"6\text{ hours }50\text{ minutes}"),
        (r"5\text{ feet }7\text{ inches}", r"5\text{ feet }9\text{ inches}"),
        (r"12\text{ cm by }8\text{ cm}", r"12\text{ cm by }9\text{ cm}"),
        (r"\frac12\text{ of }10", r"\frac12\text{ of }20"),
        (r"3\text{ m }5\text{ cm}", r"3\text{ m }5.5\text{ cm}"),
        (r"6\text{ hours }20\text{ minutes}", r"6\text{ hours}"),
    ],
    "names of points and sets": [
        ("BAC", "ABC"),
        ("ABCD", "ACBD"),
        (r"\mathbb{R}", r"\mathbb{R}-{0}"),
        (r"\mathbb{R}", r"\mathbb{R}-\{0\}"),
        (r"\mathbb{R}-{0}", r"\mathbb{R}-{1}"),
    ],
    "functions with kinks and steps": [
        ("|x-5|", "5-x"),
        ("|x^2-9|", "9-x^2"),
        (r"\sqrt{x^2-6x+9}", "3-x"),
        ("|x^2-20x+99.99|", "x^2-20x+99.99"),
        ("|a-b|", "b-a"),
        ("|x-5|=2", "5-x=2"),
        (r"\lceil x \rceil", r"\lfloor x \rfloor+1"),
        (r"\lfloor n/200 \rfloor", r"\lfloor n/300 \rfloor"),
        ("t^{2024}+1", "t^{2024}"),
        ("t^{2024}+t^{1000}+1", "t^{2024}+1"),
        (r"\frac{t^{2025}-1}{t-1}", r"\frac{t^{2025}}{t-1}"),
    ],
    "small beside large": [
        ("e^{2024}-1", "e^{2024}+1"),
        ("x=e^{2024}-1", "x=e^{2024}+1"),
        ("2^{20250}-1", "2^{20250}+1"),
        ("10^{10000}-1", "10^{10000}+1"),
        ("1-e^{-2024}", "1"),
        (r"\pi+10^{100}", "10^{100}"),
        ("(1+e^{-2024})^2", "1+2e^{-2024}"),
        (r"\cos(10^{-100})", "1"),
        ("e^{100000}+1", "e^{100000}"),
    ],
    "a list that looks like a decimal": [
        ("2,5", "2.5"),
        ("2.5", "2,5"),
        ("-1,3", "-1.3"),
        ("0,1", "0.1"),
        ("3.45", "3,45"),
        ("12,5", "12.5"),
        (r"\{2,5\}", "2.5"),
        ("(2,5)", "2{,}5"),
        ("25", "2{,}5"),
        ("2.5", r"2 \text{ and } 5"),
    ],
    "and, or": [
        (r"x<1 \text{ or } x>5", r"x<1 \text{ and } x>5"),
        (r"x\ne 2 \text{ and } x\ne 3", r"x\ne 2 \text{ or } x\ne 3"),
        (r"x=2 \text{ and } y=3", r"x=2 \text{ or } y=3"),
        (r"p\land q", r"p\lor q"),
        (r"p\vee q", r"p\wedge q"),
        (r"(p\land q)\lor r", r"(p\lor q)\lor r"),
        (r"p\land q\lor r", r"p\lor q\land r"),
        (r"a>0 \text{ and } b>0", r"a>0 \text{ or } b>0"),
    ],
}
REFUSED_AS_REWARD = {
    "a list where the reference may be a number with thousands": [
        ("1,234", r"1 \text{ and } 234"),
        ("1,234", r"\{1,234\}"),
        ("1,234", "(1,234)"),
        ("1,234", "1, 234"),
        ("1,234,567", "567, 234, 1"),
    ],
}
"""Accepted in evaluation, where a reference `1,234` may be a list."""


def flat(groups):
    return [
        pytest.param(*pair, id=f"{name}: {pair[0]} | {pair[1]}") for name, pairs in groups.items() for pair in pairs
    ]


def accepted(gold, answer):
    """Verdicts of the strict and of the lenient reading."""
    outcomes = [
        quick_outcome(gold, answer, strictness) or algebraic_outcome(gold, answer, strictness)
        for strictness in (Strictness.STRICT, Strictness.LENIENT)
    ]
    return [outcome is Outcome.CORRECT for outcome, _ in outcomes]


@pytest.mark.parametrize(("gold", "answer"), flat(SAME))
def test_the_same_answer_is_accepted(gold, answer):
    assert accepted(gold, answer) == [True, True]


@pytest.mark.parametrize(("gold", "answer"), flat(OTHER))
def test_another_answer_is_refused(gold, answer):
    assert accepted(gold, answer) == [False, False]


@pytest.mark.parametrize(("gold", "answer"), flat(REFUSED_AS_REWARD))
def test_a_reward_is_not_paid_for_the_doubtful_reading(gold, answer):
    assert accepted(gold, answer) == [False, True]
