"""The learning rate by step."""

import pytest

from thor_tir.learner.config import Schedule


def test_the_default_keeps_the_rate():
    assert [Schedule().factor(step) for step in (0, 1, 10**6)] == [1.0, 1.0, 1.0]


def test_warm_up_climbs_in_equal_parts_and_the_first_step_already_learns():
    assert [Schedule(warmup_steps=4).factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_the_cosine_is_half_way_down_in_the_middle_and_stays_at_its_floor():
    schedule = Schedule(warmup_steps=2, decay_steps=10, floor=0.2)
    # the cosine runs from step 2 to step 10; at 6, cos(pi / 2) = 0, so 0.2 + 0.8 / 2 = 0.6
    assert [schedule.factor(step) for step in (2, 6, 10, 99)] == pytest.approx([1.0, 0.6, 0.2, 0.2])


def test_a_cosine_that_ends_within_the_warm_up_is_refused():
    with pytest.raises(ValueError, match="must exceed warmup_steps"):
        Schedule(warmup_steps=5, decay_steps=5)
