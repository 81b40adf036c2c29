"""Rewards that are no 0 and 1, from groups to figures, in closed form."""

from collections import Counter
from dataclasses import replace

import pytest

from rl_steps import attempt_with, called, said
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import EpisodeConfig, StepConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.metrics import record_of
from thor_tir.rl.step import StepPrompt, StepSample, step_rows
from thor_tir.rollout.rewards import Judged
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Author, Prefix, Span
from thor_tir.verdict import Outcome


def earning(*totals: float | None, outcome: Outcome = Outcome.WRONG) -> list[Attempt]:
    """A group whose members earn these rewards, made of two parts."""
    return [
        replace(
            attempt_with(called(), said("4"), outcome=outcome),
            judged=Judged(total=total, parts={} if total is None else {"a": total - 1, "b": 1.0}),
        )
        for total in totals
    ]


def repaired(*rewards: float) -> tuple[StepPrompt, list[StepSample]]:
    prefix = Prefix(spans=(Span(token_ids=(1,), author=Author.PROMPT),), parent="t", call=0)
    return StepPrompt(id="q", prefix=prefix), [
        StepSample(id=f"q/{number}", step=called("x"), reward=reward) for number, reward in enumerate(rewards)
    ]


def figures(groups, repairs=()):
    dropped: Counter[str] = Counter()
    rows = [*episode_rows(groups, EpisodeConfig(), dropped), *step_rows(repairs, StepConfig(), dropped)]
    samples = RoundSamples(groups=groups, repairs=repairs, num_lost=0, rollout_s=0, repair_s=0, grade_s=0)
    return rows, record_of(0, samples, rows, dropped, [], sampled=rows, num_steps=1, train_s=0.0)


def test_a_group_of_continuous_rewards_is_credited_by_its_mean_and_deviation():
    # rewards -1, 0.5, 2: mean 0.5, squared distances 2.25 + 0 + 2.25 over n - 1 = 2, so std 1.5
    rows, record = figures([earning(-1.0, 0.5, 2.0)])
    assert [row.terms[0].advantage for row in rows] == pytest.approx([-1, 0, 1], abs=1e-5)
    assert ["episode_nll" in {term.name for term in row.terms} for row in rows] == [False, False, True]
    level = record["levels"]["episode"]
    assert (level["reward"], level["reward_std"]) == (0.5, pytest.approx(1.5**0.5))  # (2.25 + 0 + 2.25) / 3
    assert record["rewards"] == {"a": pytest.approx(-0.5), "b": 1.0}
    assert record["rewards_std"] == {"a": pytest.approx(1.5**0.5), "b": 0.0}
    assert (level["pass_rate"], record["answer_reward"]) == (0.0, 0.0), "the answers were wrong, whatever was earned"


def test_a_group_without_spread_is_left_out_whatever_it_earned_and_wherever_the_answer_was_right():
    groups = [earning(0.1 + 0.2, 0.3), earning(0.7, 0.7, outcome=Outcome.CORRECT), earning(1.0, 1.0), earning(0.0, 0.0)]
    rows, record = figures(groups)
    assert rows == []
    assert record["dropped"] == {"episode: all equal": 4, "episode: all right": 2, "episode: all wrong": 2}


def test_a_group_whose_answers_are_all_right_is_kept_where_its_rewards_differ():
    rows, record = figures([earning(1.0, 0.8, outcome=Outcome.CORRECT)])
    assert [row.terms[0].advantage > 0 for row in rows] == [True, False]
    assert record["levels"]["episode"]["groups_kept"] == 1


def test_a_trajectory_that_a_reward_cannot_judge_leaves_its_group_and_is_counted():
    rows, record = figures([earning(None, 0.2, 0.6)])
    assert len(rows) == 2
    assert record["dropped"] == {"episode: unscored": 1}
    assert record["levels"]["episode"]["reward"] == pytest.approx(0.4)


def test_repairs_of_continuous_rewards_are_credited_and_dropped_by_spread_alone():
    # rewards -0.5 and -0.1: mean -0.3, std sqrt(2 * 0.04) = 0.2828, so -+0.2 / 0.2828
    rows, record = figures([], [repaired(-0.5, -0.1), repaired(0.25, 0.25), repaired(1.0, 1.0), repaired(0.0, 0.0)])
    assert [row.terms[0].advantage for row in rows] == pytest.approx([-(0.5**0.5), 0.5**0.5], abs=1e-4)
    assert record["dropped"] == {"step: all equal": 2, "step: all succeed": 2, "step: all fail": 2}
    assert record["levels"]["step"]["pass_rate"] == 0.5, "two of the four groups hold a reward above 0"
    assert record["step_reward"] == pytest.approx((-0.6 + 0.5 + 2) / 8)
