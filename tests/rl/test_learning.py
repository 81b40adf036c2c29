"""The whole loop raises the reward of a tiny model, by either level alone, with the real engine and learner."""

import json
from dataclasses import replace

import pytest

from thor_tir.rl.config import EpisodeConfig, LossConfig, RLConfig, StepConfig
from toy_task import BREAKS, LIMITS, OTHER, RIGHT, mean, primed_model, run

CONFIG = RLConfig(
    num_rounds=8,
    problems_per_round=4,
    rollout=LIMITS,
    episode=EpisodeConfig(num_generations=8),
    levels="episode",
    learning_rate=7e-4,
)


def learnt(folder, field: str) -> tuple[float, float]:
    """A figure of the first round and of the last three."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return mean([row[field] for row in rows[:1]]), mean([row[field] for row in rows[-3:]])


def test_the_episode_level_alone_raises_the_answer_reward(tmp_path):
    """Both programs run, one of them leads to the right answer."""
    run(primed_model(RIGHT, OTHER), CONFIG, tmp_path)
    before, after = learnt(tmp_path, "answer_reward")
    assert 0.25 < before < 0.75  # primed to 0.5; chance moves 32 samples by 0.09
    assert after > 0.82


def test_the_step_level_alone_raises_the_success_of_calls(tmp_path):
    """One program fails; episodes are sampled for their failed calls and give no rows."""
    config = replace(CONFIG, levels="step", step=StepConfig(num_generations=8, suffix_tokens=4))
    run(primed_model(RIGHT, BREAKS), config, tmp_path)
    before, after = learnt(tmp_path, "call_success")
    assert 0.25 < before < 0.75
    assert after > 0.82
    assert learnt(tmp_path, "rows_episode") == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "clips"),
    [("sequence-mean", {}), ("dr-grpo", {}), ("gspo", {"epsilon": 0.2, "epsilon_high": 0.28})],
    ids=["sequence-mean", "dr-grpo", "gspo"],
)
def test_every_other_algorithm_raises_the_answer_reward_too(tmp_path, algorithm, clips):
    loss = LossConfig(algorithm=algorithm, importance_sampling_cap=2.0, beta=1e-3, **clips)
    run(primed_model(RIGHT, OTHER), replace(CONFIG, num_rounds=12, loss=loss), tmp_path)
    before, after = learnt(tmp_path, "answer_reward")
    assert before < 0.75
    assert after > 0.82


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_both_levels_together_learn_under_any_seed(tmp_path, seed):
    config = replace(
        CONFIG, num_rounds=16, levels="joint", step=StepConfig(num_generations=8, suffix_tokens=4), seed=seed
    )
    run(primed_model(RIGHT, OTHER, BREAKS), config, tmp_path)
    before, after = learnt(tmp_path, "answer_reward")
    assert before < 0.6  # primed to a third
    assert after > 0.82
