"""Resampled intervals against closed forms, exact enumeration and each other."""

import math
from itertools import product

import pytest

from thor_tir.eval.statistics import Interval, average_of_sets, bootstrap, bootstrap_difference, bootstrap_share


def test_the_bootstrap_of_four_problems_has_the_quantiles_of_all_256_resamples() -> None:
    values = [0.0, 0.25, 0.5, 1.0]
    every = sorted(sum(drawn) / 4 for drawn in product(values, repeat=4))
    # Of 256 resamples 2.5 % are 6.4: the ends are the seventh from below and from above, amid several of equal mean.
    low, high = every[6], every[-7]
    found = bootstrap(values, seed=1)
    assert (found.mean, found.low, found.high) == (0.4375, low, high)


def test_with_many_problems_the_bootstrap_agrees_with_the_normal_interval() -> None:
    values = [1.0] * 300 + [0.0] * 700
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)  # 0.0284
    found = bootstrap(values, seed=0)
    assert found.low == pytest.approx(0.3 - half, abs=0.002)
    assert found.high == pytest.approx(0.3 + half, abs=0.002)


def test_more_attempts_at_the_same_problems_do_not_narrow_the_interval() -> None:
    # A problem's value is the mean of its attempts: 4 attempts that always agree are worth one.
    solved = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    four = [sum([value] * 4) / 4 for value in solved]
    assert bootstrap(four, seed=3) == bootstrap(solved, seed=3)


def test_a_seed_names_one_interval() -> None:
    values = [i / 40 for i in range(40)]
    assert bootstrap(values, seed=5) == bootstrap(values, seed=5)
    assert bootstrap(values, seed=5) != bootstrap(values, seed=6)


def test_nothing_solved_of_thirty_still_allows_a_tenth() -> None:
    # 0.025^(1/30) = exp(-3.6889 / 30) = 0.88430: Clopper-Pearson's upper end of 0 of 30 is 0.1157.
    none, every = bootstrap([0.0] * 30, seed=0), bootstrap([1.0] * 30, seed=0)
    assert (none.low, none.high) == (0.0, pytest.approx(0.1157, abs=5e-5))
    assert (every.low, every.high) == (pytest.approx(0.8843, abs=5e-5), 1.0)


def test_the_average_of_equal_symmetric_sets_has_their_width_over_the_root_of_their_number() -> None:
    four = [Interval(mean=0.5, low=0.3, high=0.7)] * 4
    found = average_of_sets(four)
    assert (found.mean, found.low, found.high) == (0.5, pytest.approx(0.4), pytest.approx(0.6))  # 0.2 / sqrt(4)


def test_the_average_keeps_the_two_ends_of_skewed_sets_apart() -> None:
    found = average_of_sets([Interval(mean=0.0, low=0.0, high=0.3), Interval(mean=1.0, low=0.6, high=1.0)])
    # Above: sqrt(0.3² + 0) / 2 = 0.15; below: sqrt(0 + 0.4²) / 2 = 0.2.
    assert (found.mean, found.low, found.high) == (0.5, pytest.approx(0.3), pytest.approx(0.65))


def test_equal_values_leave_room_for_the_problems_that_were_not_met() -> None:
    # s = 0.025^(1/2) = 0.158114: the ends are s / 2 and s / 2 + (1 - s) = 1 - s / 2.
    found = bootstrap([0.5, 0.5], seed=0)
    assert (found.mean, found.low, found.high) == (0.5, pytest.approx(0.079057), pytest.approx(0.920943))


def test_a_difference_that_is_the_same_on_every_problem_is_not_known_exactly() -> None:
    found = bootstrap_difference([0.75, 0.5, 0.25], [0.5, 0.25, 0.0], seed=0)
    # s = 0.025^(1/3) = 0.292402: 0.25 s - (1 - s) and 0.25 s + (1 - s).
    assert (found.mean, found.low, found.high) == (0.25, pytest.approx(-0.634498), pytest.approx(0.780699))


def test_a_share_is_drawn_by_problems_with_all_their_trials() -> None:
    # Three problems, 9 of 10, 0 of 1, 1 of 1: of the 27 resamples 0.675 fall out on either side, so that the ends are
    # the least and the largest: thrice the second problem has no success, thrice the third no failure.
    found = bootstrap_share([(9, 10), (0, 1), (1, 1)], seed=0)
    assert (found.mean, found.low, found.high) == (pytest.approx(10 / 12), 0.0, 1.0)
    assert bootstrap_share([(4, 8)] * 2, seed=0) == bootstrap([0.5, 0.5], seed=0)
    with pytest.raises(ValueError, match="trial"):
        bootstrap_share([(0, 0)], seed=0)


def test_calls_that_agree_within_a_problem_are_not_taken_for_independent_ones() -> None:
    # 40 problems, half of which always succeed: ten calls each say no more than one call each.
    ten, one = [(10, 10), (0, 10)] * 20, [(1, 1), (0, 1)] * 20
    assert bootstrap_share(ten, seed=1) == bootstrap_share(one, seed=1)


def test_pairing_makes_the_interval_of_a_difference_narrower_than_that_of_unpaired_runs() -> None:
    theirs = [i / 100 for i in range(100)]
    ours = [v + (0.02 if i % 2 else 0.0) for i, v in enumerate(theirs)]
    found = bootstrap_difference(ours, theirs, seed=0)
    assert found.mean == pytest.approx(0.01)
    assert found.low > 0  # the spread of the values themselves, 0.29, would give ± 0.08


def test_nothing_has_no_mean() -> None:
    for refuse in (lambda: bootstrap([], seed=0), lambda: bootstrap_difference([], [], seed=0)):
        with pytest.raises(ValueError, match="no problems"):
            refuse()
    with pytest.raises(ValueError, match="no sets"):
        average_of_sets([])
