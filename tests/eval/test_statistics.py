import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thor_tir.eval.statistics import association, average_at_k, paired_difference, pass_at_k, student_t_95, wilson

accuracies = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=2, max_size=30)
counts = st.integers(min_value=1, max_value=500)


def test_chi_squared_of_the_papers_table_4_is_336_29():
    table_4 = association([[3950, 139], [1549, 318]])
    assert table_4.chi_squared == pytest.approx(336.29, abs=0.005)
    assert table_4.p_value == pytest.approx(4.09e-75, rel=0.005)
    # (3950 * 318) / (139 * 1549) = 1256100 / 215311
    assert table_4.odds_ratio == pytest.approx(1256100 / 215311)
    assert table_4.phi == pytest.approx(0.238, abs=0.0005)


@settings(deadline=None)
@given(counts, counts, counts, counts)
def test_the_association_is_scipys_and_does_not_depend_on_which_property_names_the_rows(a, b, c, d):
    ours = association([[a, b], [c, d]])
    theirs = stats.chi2_contingency([[a, b], [c, d]], correction=False)
    assert ours.chi_squared == pytest.approx(theirs.statistic, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6)
    assert association([[a, c], [b, d]]) == ours
    flipped = association([[c, d], [a, b]])
    assert flipped.phi == pytest.approx(-ours.phi)
    assert flipped.odds_ratio == pytest.approx(1 / ours.odds_ratio)


def test_a_table_with_an_empty_column_shows_no_association():
    empty = association([[5, 0], [7, 0]])
    assert (empty.chi_squared, empty.p_value, empty.phi) == (0, 1, 0)
    assert math.isnan(empty.odds_ratio)
    # The properties always agree: phi = 1, so chi squared is the number of cases.
    assert association([[5, 0], [0, 7]]).chi_squared == pytest.approx(12)
    assert association([[5, 0], [0, 7]]).odds_ratio == math.inf


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998), Table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_intervals_are_newcombes_published_ones(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert (interval.low, interval.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@settings(deadline=None)
@given(st.integers(min_value=1, max_value=2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_contains_the_proportion_within_0_and_1_and_mirrors_failures(case):
    successes, trials = case
    ours, mirrored = wilson(successes, trials), wilson(trials - successes, trials)
    assert 0 <= ours.low <= ours.mean <= ours.high <= 1
    assert ours.low < ours.high
    assert mirrored.low == pytest.approx(1 - ours.high, abs=1e-12)


def test_pass_at_k_is_what_counting_every_draw_of_k_attempts_gives():
    for num in range(1, 8):
        for correct in range(num + 1):
            for k in range(1, num + 1):
                draws = list(combinations(range(num), k))  # attempts 0 .. correct - 1 are the correct ones
                counted = sum(min(draw) < correct for draw in draws) / len(draws)
                assert pass_at_k(num, correct, k) == pytest.approx(counted)


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_grows_with_k_from_the_plain_accuracy(case):
    num, correct, k = case
    assert pass_at_k(num, correct, 1) == pytest.approx(correct / num)
    assert pass_at_k(num, correct, k) >= pass_at_k(num, correct, max(1, k - 1))


def test_students_t_agrees_with_scipy_for_every_size_of_benchmark():
    for freedom in (1, 2, 3, 4, 9, 29, 30, 39, 271, 499, 674):
        assert student_t_95(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)


def test_avg_at_k_weighs_problems_and_not_attempts():
    # Means 1 and 0 over problems with 1 and 3 attempts: 1/2, although one attempt of four is correct.
    interval = average_at_k([[1], [0, 0, 0]])
    assert interval.mean == 0.5
    # sd of (1, 0) is sqrt(1/2), over sqrt(2) it is 1/2, and t of one degree of freedom is 12.7062.
    assert interval.high - interval.mean == pytest.approx(12.7062 / 2, abs=1e-4)


@settings(deadline=None)
@given(accuracies)
def test_the_interval_of_avg_at_k_is_the_t_interval_over_problems_in_any_order(accuracy_P):
    interval = average_at_k([[accuracy] for accuracy in accuracy_P])
    if len(set(accuracy_P)) > 1:
        low, high = stats.t.interval(0.95, len(accuracy_P) - 1, np.mean(accuracy_P), stats.sem(accuracy_P))
        assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
    else:
        assert interval.low == interval.high == interval.mean
    backwards = average_at_k([[accuracy] for accuracy in reversed(accuracy_P)])
    assert (backwards.low, backwards.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


@settings(deadline=None)
@given(accuracies, st.floats(-1, 1))
def test_a_constant_gain_on_every_problem_is_certain_and_swapping_sides_changes_only_signs(theirs_P, gain):
    shifted = paired_difference([accuracy + gain for accuracy in theirs_P], theirs_P)
    assert shifted.low == pytest.approx(gain, abs=1e-12)
    assert shifted.high == pytest.approx(gain, abs=1e-12)
    ours_P = theirs_P[1:] + theirs_P[:1]
    forth, back = paired_difference(ours_P, theirs_P), paired_difference(theirs_P, ours_P)
    assert forth.mean == pytest.approx(0, abs=1e-12)
    assert forth.high == pytest.approx(-back.low)


def test_one_problem_alone_tells_nothing_about_others():
    assert average_at_k([[1, 0]]).mean == 0.5
    assert average_at_k([[1, 0]]).high == math.inf


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: average_at_k([]),
        lambda: average_at_k([[1], []]),
        lambda: paired_difference([1, 0], [1]),
        lambda: pass_at_k(4, 2, 5),
        lambda: association([[1, -1], [0, 0]]),
    ],
)
def test_quantities_that_do_not_exist_are_refused(mistake):
    with pytest.raises(ValueError, match=r"."):
        mistake()
