import math
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from thor_tir.eval.statistics import association, pass_at_k

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
    turned = association([[a, c], [b, d]])
    assert (turned.chi_squared, turned.phi) == (pytest.approx(ours.chi_squared), pytest.approx(ours.phi))
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


@pytest.mark.parametrize(
    "mistake",
    [
        lambda: pass_at_k(4, 2, 5),
        lambda: association([[1, -1], [0, 0]]),
    ],
)
def test_quantities_that_do_not_exist_are_refused(mistake):
    with pytest.raises(ValueError, match=r"."):
        mistake()
