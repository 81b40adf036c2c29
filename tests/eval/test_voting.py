"""maj@k against counting every subset, and against cases worked out by hand."""

from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.eval.statistics import majority_at_k


def by_counting(answers: list[str | None], correct: list[bool], k: int) -> float:
    """Every subset of k attempts holds its vote."""
    credit = {a: sum(ok for b, ok in zip(answers, correct, strict=True) if b == a) / answers.count(a) for a in answers}
    credits = []
    for subset in combinations(answers, k):
        votes = Counter(c for c in subset if c is not None)
        top = max(votes.values(), default=0)
        winners = [c for c, count in votes.items() if count == top]
        credits.append(sum(credit[c] for c in winners) / len(winners) if winners else 0.0)
    return sum(credits) / len(credits)


ATTEMPTS = st.lists(
    st.sampled_from([("1", True), ("1.0", True), ("2", False), ("2", True), ("3", False), ("4", False), (None, False)]),
    min_size=1,
    max_size=8,
)


@given(ATTEMPTS, st.data())
def test_the_formula_equals_the_mean_over_all_subsets(attempts: list[tuple[str | None, bool]], data) -> None:
    k = data.draw(st.integers(1, len(attempts)))
    answers, correct = [a for a, _ in attempts], [ok for _, ok in attempts]
    assert majority_at_k(answers, correct, k) == pytest.approx(by_counting(answers, correct, k))


def test_two_right_against_two_different_wrong_ones_win_together_and_tie_alone() -> None:
    # k = 2 of {r, r, x, y}: {r, r} earns 1; the four {r, wrong} tie at 1/2; {x, y} earns 0: (1 + 2) / 6.
    assert majority_at_k(["7", "7", "x", "y"], [True, True, False, False], 2) == pytest.approx(0.5)
    assert majority_at_k(["7", "7", "x", "y"], [True, True, False, False], 4) == 1.0


def test_a_vote_of_one_is_the_accuracy_and_no_reference_joins_right_answers() -> None:
    answers, correct = ["1/2", "0.5", "2", "2", "2"], [True, True, False, False, False]
    assert majority_at_k(answers, correct, 1) == pytest.approx(2 / 5)
    assert majority_at_k(answers, correct, 5) == 0.0  # 2 against 3
    # Two right answers that are two candidates tie with two wrong ones: 2 of 4 win.
    assert majority_at_k(["a", "b", "c", "d"], [True, True, False, False], 4) == 0.5


def test_equal_answers_that_were_judged_differently_earn_the_share_that_is_right() -> None:
    assert majority_at_k(["5", "5", "5", "6"], [True, False, False, True], 4) == pytest.approx(1 / 3)


def test_attempts_without_an_answer_abstain() -> None:
    assert majority_at_k([None, None, "7"], [False, False, True], 3) == 1.0
    assert majority_at_k([None, None], [False, False], 2) == 0.0


@pytest.mark.parametrize("k", [0, 3])
def test_a_vote_of_more_attempts_than_were_made_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"maj@{k}"):
        majority_at_k(["1", "2"], [True, False], k)
