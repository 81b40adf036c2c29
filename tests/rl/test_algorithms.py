"""Algorithms as records: what each is composed of, and what a run may change."""

import pytest
import torch

from thor_tir.learner.objective import Clip, sequence_ratio, token_ratio
from thor_tir.rl.algorithms import ALGORITHMS, centred_advantages, compose, group_advantages
from thor_tir.rl.collect import calls_of_round
from thor_tir.rl.config import LossConfig, RLConfig
from thor_tir.rl.train import learner_config
from thor_tir.rollout.loop import RolloutConfig


@pytest.mark.parametrize(
    ("name", "advantages", "ratio", "clip", "weights", "mass"),
    [
        # of tokens of rows with 2 and 5 trained tokens, and what the latter adds to the denominator
        ("token-mean", group_advantages, token_ratio, Clip(low=0.2, high=0.28), [1, 1], 5),
        ("sequence-mean", group_advantages, token_ratio, Clip(low=0.2, high=0.28), [1 / 2, 1 / 5], 1),
        ("dr-grpo", centred_advantages, token_ratio, Clip(low=0.2, high=0.28), [1 / 40, 1 / 40], 1),
        ("gspo", group_advantages, sequence_ratio, Clip(low=3e-4, high=4e-4), [1 / 2, 1 / 5], 1),
    ],
)
def test_each_algorithm_is_composed_as_its_paper_says(name, advantages, ratio, clip, weights, mass):
    config = RLConfig(
        loss=LossConfig(algorithm=name), rollout=RolloutConfig(max_completion_length=40, stop_at_failure=True)
    )
    objective = learner_config(config).objective
    assert (compose(config.loss, max_tokens=40).advantages, objective.ratio, objective.clip) == (
        advantages,
        ratio,
        clip,
    )
    assert objective.mean.weight(torch.tensor([2.0, 5.0])).tolist() == pytest.approx(weights)
    assert objective.mean.mass(5) == mass


def test_the_defaults_are_those_of_the_paper():
    loss = LossConfig()
    assert (loss.algorithm, loss.beta, loss.importance_sampling_cap) == ("token-mean", 0.0, 0.0)


def test_a_run_may_set_single_ends_of_the_clip_and_keeps_the_rest():
    assert compose(LossConfig(epsilon_high=0.3), max_tokens=9).objective.clip == Clip(low=0.2, high=0.3, dual=3.0)
    assert compose(LossConfig(algorithm="gspo", epsilon=0.1), max_tokens=9).objective.clip == Clip(low=0.1, high=4e-4)


@pytest.mark.parametrize("field", [{"delta": 1.1}, {"epsilon": -0.1}, {"beta": -1.0}, {"importance_sampling_cap": -1}])
def test_a_loss_that_cannot_be_is_refused_before_anything_is_loaded(field):
    with pytest.raises(ValueError, match=r"expected|cannot be negative"):
        LossConfig(**field)


def test_every_algorithm_has_a_docstring_that_names_where_it_comes_from():
    assert [name for name, compose in ALGORITHMS.items() if len(compose.__doc__ or "") < 40] == []


def test_the_call_limit_grows_in_equal_stages_from_one_to_the_rollouts():
    config = RLConfig(calls_grow_over=8, rollout=RolloutConfig(max_tool_calling_iterations=5))
    assert [calls_of_round(number, config) for number in range(10)] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize(("grow_over", "max_calls"), [(0, 5), (7, 1), (7, 0)])
def test_without_stages_or_room_the_call_limit_is_the_rollouts(grow_over, max_calls):
    config = RLConfig(calls_grow_over=grow_over, rollout=RolloutConfig(max_tool_calling_iterations=max_calls))
    assert {calls_of_round(number, config) for number in range(9)} == {max_calls}


def test_later_failed_calls_cannot_be_asked_for_where_trajectories_end_at_the_first():
    from thor_tir.rl.config import StepConfig

    with pytest.raises(ValueError, match=r"--rollout\.no-stop-at-failure"):
        RLConfig(step=StepConfig(which="all"))
    RLConfig(step=StepConfig(which="all"), rollout=RolloutConfig())
