"""Intervals over seeds and problems, against numbers derived by hand and against simulation."""

import numpy as np
import pytest
from scipy import stats

from thor_tir.eval.crossed import crossed, holm, on_logit_scale, share_residuals


def test_the_variance_of_two_seeds_and_two_problems_is_that_of_the_two_way_table() -> None:
    # [[0, 1], [1, 4]]: mean 1.5, seeds 0.5 and 2.5, problems 0.5 and 2.5. Sums of squares: seeds 2 * (1 + 1) = 4,
    # problems 4, rest 4 * 0.25 = 1 (all +-0.5). Each has one degree of freedom, so the variance of the mean is
    # (4 + 4 - 1) / 4 = 1.75 with 7² / (16 + 16 + 1) = 49 / 33 = 1.485 degrees of freedom; that of either factor alone
    # is 4 / 4 = 1 with one degree of freedom, where Student's interval is wider all the same.
    found = crossed(np.array([[0.0, 1.0], [1.0, 4.0]]))
    half = stats.t.ppf(0.975, 1)
    assert half > stats.t.ppf(0.975, 49 / 33) * 1.75**0.5
    assert (found.mean, found.low, found.high) == pytest.approx((1.5, 1.5 - half, 1.5 + half))
    assert found.p == pytest.approx(max(2 * stats.t.sf(1.5, 1), 2 * stats.t.sf(1.5 / 1.75**0.5, 49 / 33)))


def test_both_factors_together_are_wider_than_either_where_both_have_many_values() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(30, 1)) + rng.normal(size=(1, 30)) + 0.1 * rng.normal(size=(30, 30))
    seeds, problems = (30 * np.var(table.mean(axis=axis), ddof=1) for axis in (1, 0))  # M_S, M_P
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    leftover = (rest**2).sum() / 29**2
    freedom = (seeds + problems - leftover) ** 2 / (seeds**2 / 29 + problems**2 / 29 + leftover**2 / 29**2)
    half = stats.t.ppf(0.975, freedom) * ((seeds + problems - leftover) / 900) ** 0.5
    assert crossed(table).high - table.mean() == pytest.approx(half)


def test_an_estimate_below_that_of_the_seeds_alone_takes_no_part() -> None:
    # Noise that goes the other way in every seed: M_S + M_P - M_R is smaller than M_S, with hardly a degree of freedom.
    noise = np.array([[0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [-0.5, 0.5]])
    table = 1 + np.array([[0.1], [-0.1], [0.2], [-0.2]]) + noise
    found = crossed(table)
    error = np.std([1.1, 0.9, 1.2, 0.8], ddof=1) / 2
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 3) * error)
    assert found.p == pytest.approx(2 * stats.t.sf(1 / error, 3))


def test_two_seeds_that_happen_to_agree_are_still_two() -> None:
    # Problems differ far more than seeds, so the variance has many degrees of freedom; two means of seeds have one.
    problems = np.array([[0.0, 1.0] * 50])
    found = crossed(np.concatenate([problems, problems + 0.08]))  # means 0.5 and 0.58
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 1) * 0.04)
    assert found.p == pytest.approx(2 * stats.t.sf(0.54 / 0.04, 1))


def test_intervals_of_two_seeds_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(400):
        table = 0.05 * rng.normal(size=(2, 1)) + 0.15 * rng.normal(size=(1, 400)) + 0.4 * rng.normal(size=(2, 400))
        found = crossed(table)
        hits += found.low <= 0 <= found.high
    assert hits / 400 >= 0.93


def test_one_seed_gives_the_usual_interval_over_problems() -> None:
    values = np.array([[0.0, 0.0, 1.0, 1.0, 1.0]])  # mean 0.6, standard error sqrt(0.3 / 5), 4 degrees of freedom
    found = crossed(values)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 4) * (0.3 / 5) ** 0.5)


def test_seeds_that_differ_by_chance_alone_make_the_interval_no_narrower_than_problems_do() -> None:
    # Equal rows but for noise that cancels in every seed: the seed component would be negative.
    base = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])
    noise = np.array([[0.5, -0.5, 0.5, -0.5, 0.5, -0.5], [-0.5, 0.5, -0.5, 0.5, -0.5, 0.5]])
    found = crossed(base + noise)
    problems = 2 * ((base - base.mean()) ** 2).sum() / 5  # M_P
    assert found.high - found.mean >= 1.96 * (problems / 12) ** 0.5


def test_a_table_in_which_nothing_varies_has_the_interval_of_what_was_not_met() -> None:
    found = crossed(np.ones((3, 40)), lowest=0.0, highest=1.0)
    assert (found.mean, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.025 ** (1 / 40))


def test_problems_without_a_value_are_no_evidence_that_nothing_else_was_met() -> None:
    # No attempt of 40 problems is right where a call failed, and at 5 of them alone one failed.
    found = crossed(np.zeros((1, 40)), lowest=0.0, highest=1.0, num_telling=5)
    assert (found.low, found.high) == pytest.approx((0.0, 1 - 0.025**0.2))


def test_a_share_near_zero_has_an_interval_that_is_longer_upwards() -> None:
    # One of 96: standard error sqrt(p (1 - p) / 95), on the scale of log odds that over p (1 - p).
    found = on_logit_scale(crossed(np.array([[1.0] + [0.0] * 95])))
    p = 1 / 96
    half = stats.t.ppf(0.975, 95) * (p * (1 - p) / 95) ** 0.5 / (p * (1 - p))
    odds = np.log(p / (1 - p))
    assert (found.low, found.high) == pytest.approx(tuple(1 / (1 + np.exp(-odds - side * half)) for side in (-1, 1)))
    assert 0 < found.low < 0.002
    assert 0.056 < found.high < 0.08  # the exact one ends at 0.057
    for never_varied in (0.0, 0.25, 1.0):
        same = crossed(np.full((1, 40), never_varied), lowest=0.0, highest=1.0)
        assert on_logit_scale(same) == same


def test_intervals_of_five_seeds_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        table = 0.3 * rng.normal(size=(5, 1)) + 1.0 * rng.normal(size=(1, 60)) + rng.normal(size=(5, 60))
        found = crossed(table)
        hits += found.low <= 0 <= found.high
    assert 0.92 <= hits / 400 <= 0.985


def test_a_share_is_the_ratio_of_sums_and_its_residuals_are_those_of_the_ratio() -> None:
    part, whole = np.array([[1.0, 3.0]]), np.array([[2.0, 6.0]])
    assert share_residuals(part, whole).tolist() == [[0.5, 0.5]]  # every problem has the same share: no spread
    uneven = share_residuals(np.array([[2.0, 0.0]]), np.array([[2.0, 2.0]]))
    assert uneven.tolist() == [[1.0, 0.0]]


def test_holm_multiplies_the_smallest_by_all_and_never_falls_below_the_one_before() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * .01; 2 * .03; max(.06, 1 * .04)
    assert holm([0.5, 0.9]) == [1.0, 1.0]
