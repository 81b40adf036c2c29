"""Group-relative advantages against numbers derived by hand."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.rl.algorithms import are_equal, centred_advantages, group_advantages

REWARDS = st.lists(st.floats(-10, 10), min_size=2, max_size=16)


def test_advantages_use_the_unbiased_standard_deviation():
    # mean 1/4; squared distances 9/16 + 3 * 1/16 = 3/4, over n - 1 = 3 gives 1/4, so std = 1/2
    expected = [0.75 / (0.5 + 1e-6), *[-0.25 / (0.5 + 1e-6)] * 3]
    assert group_advantages([1.0, 0.0, 0.0, 0.0]) == pytest.approx(expected, rel=1e-12)


@given(st.floats(-10, 10), st.integers(2, 16))
def test_equal_rewards_give_exact_zeros(reward, size):
    assert group_advantages([reward] * size) == [0.0] * size


@given(REWARDS)
def test_advantages_of_a_group_sum_to_zero(rewards):
    assert math.fsum(group_advantages(rewards)) == pytest.approx(0.0, abs=1e-6)


@given(st.lists(st.integers(0, 1), min_size=2, max_size=16), st.integers(-5, 5))
def test_adding_a_constant_to_all_rewards_changes_nothing(rewards, constant):
    moved = group_advantages([reward + constant for reward in rewards])
    assert moved == pytest.approx(group_advantages(rewards), abs=1e-9)


def test_a_lone_sample_has_its_reward_as_advantage_and_an_empty_group_has_none():
    assert group_advantages([1.0]) == [1.0]
    assert group_advantages([]) == []


def test_a_reward_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="leave unscored samples out"):
        group_advantages([1.0, float("nan")])


def test_centred_advantages_are_distances_from_the_mean_and_know_no_deviation():
    assert centred_advantages([1.0, 0.0, 0.0, 0.0]) == [0.75, -0.25, -0.25, -0.25]
    assert centred_advantages([1.0, 1.0]) == [0.0, 0.0]
    assert centred_advantages([1.0]) == group_advantages([1.0])
    assert centred_advantages([]) == []


@given(REWARDS)
def test_centred_advantages_are_those_of_the_group_times_its_deviation(rewards):
    deviation = statistics.stdev(rewards) + 1e-6
    scaled = [a * deviation for a in group_advantages(rewards)]
    if min(rewards) != max(rewards):
        assert centred_advantages(rewards) == pytest.approx(scaled, abs=1e-9)


def test_unscored_samples_have_no_centred_advantage_either():
    with pytest.raises(ValueError, match="leave unscored samples out"):
        centred_advantages([1.0, math.nan])


@pytest.mark.parametrize(
    ("rewards", "equal"),
    [
        ([0.1 + 0.2, 0.3], True),  # the same sum, added up differently
        ([1e9, 1e9 + 0.5], True),
        ([-2.5], True),
        ([0.0, 1e-6], False),
        ([1.0, 0.0], False),
    ],
)
def test_rewards_that_differ_by_rounding_alone_are_equal(rewards, equal):
    assert are_equal(rewards) is equal
