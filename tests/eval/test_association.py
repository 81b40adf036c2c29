"""Stratified and paired association against hand-computed tables and scipy."""

import math

import pytest
from scipy.stats import binomtest

from thor_tir.eval.statistics import association, mantel_haenszel, mcnemar


def test_one_stratum_is_pearsons_chi_squared_with_one_less_than_n() -> None:
    # Mantel-Haenszel's variance divides by n - 1 where Pearson's divides by n: chi²_MH = chi² (n - 1) / n.
    table = [[3950, 1549], [139, 318]]  # the paper's Table 4
    found = mantel_haenszel([table])
    assert found.chi_squared == pytest.approx(association(table).chi_squared * 5955 / 5956)
    assert found.odds_ratio == pytest.approx(3950 * 318 / (1549 * 139))


def test_two_strata_by_hand() -> None:
    # [[2, 1], [1, 2]]: n = 6, E a = 3*3/6 = 1.5, var = 81 / (36 * 5) = 0.45; [[3, 1], [0, 2]]: n = 6, E a = 4*3/6 = 2,
    # var = 4*2*3*3 / (36 * 5) = 0.4. chi² = (0.5 + 1)² / 0.85; odds ratio = (4/6 + 6/6) / (1/6 + 0).
    found = mantel_haenszel([[[2, 1], [1, 2]], [[3, 1], [0, 2]]])
    assert found.chi_squared == pytest.approx(2.25 / 0.85)
    assert found.p_value == pytest.approx(math.erfc(math.sqrt(2.25 / 0.85 / 2)))
    assert found.odds_ratio == pytest.approx(10)
    assert found.informative == 2
    assert found.low < 10 < found.high


def test_the_interval_of_one_table_is_woolfs() -> None:
    # For one stratum Robins, Breslow and Greenland's variance is 1/a + 1/b + 1/c + 1/d.
    found = mantel_haenszel([[[12, 5], [6, 9]]])
    se = math.sqrt(1 / 12 + 1 / 5 + 1 / 6 + 1 / 9)
    assert found.low == pytest.approx(12 * 9 / 30 * math.exp(-1.959964 * se))
    assert found.high == pytest.approx(12 * 9 / 30 * math.exp(1.959964 * se))


def test_an_association_that_difficulty_alone_makes_disappears() -> None:
    # An easy problem: calls run and answers are right; a hard one: neither. Within each they are independent.
    easy, hard = [[81, 9], [9, 1]], [[1, 9], [9, 81]]
    pooled = [[82, 18], [18, 82]]
    assert association(pooled).chi_squared > 80
    found = mantel_haenszel([easy, hard])
    assert (found.chi_squared, found.odds_ratio) == (pytest.approx(0), pytest.approx(1))


def test_problems_that_are_always_solved_or_never_call_say_nothing() -> None:
    found = mantel_haenszel([[[4, 0], [2, 0]], [[0, 0], [3, 1]], [[1, 0], [0, 0]]])
    assert (found.chi_squared, found.p_value, found.informative) == (0, 1, 0)
    assert math.isnan(found.odds_ratio)


def test_mcnemar_is_a_binomial_test_of_the_pairs_that_differ() -> None:
    first = [True] * 9 + [False] * 2 + [True] * 50
    second = [False] * 9 + [True] * 2 + [True] * 50
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (9, 2)
    # 2 (C(11,0) + C(11,1) + C(11,2)) / 2^11 = 2 * 67 / 2048
    assert found.p_value == pytest.approx(134 / 2048)
    assert found.p_value == pytest.approx(binomtest(2, 11, 0.5).pvalue)


def test_equal_runs_and_even_splits_have_p_one_and_thousands_of_pairs_do_not_overflow() -> None:
    assert mcnemar([True, False], [True, False]).p_value == 1
    assert mcnemar([True, False], [False, True]).p_value == 1
    assert mcnemar([True] * 3000, [False] * 3000).p_value == 0  # 2^-2999 is below the smallest float


def test_counts_below_zero_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        mantel_haenszel([[[1, -1], [0, 2]]])
