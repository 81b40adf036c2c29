"""Who is grouped with whom at the episode level, which trajectories count, and what they earn."""

from collections import Counter
from dataclasses import replace
from math import sqrt

import pytest

from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rollout.rewards import Judged
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

RIGHT, WRONG, UNSCORED = Outcome.CORRECT, Outcome.WRONG, Outcome.UNSCORED


def model(*ids: int) -> Span:
    return Span(token_ids=ids, author=Author.MODEL, logprobs=(-1.0,) * len(ids))


def attempt(outcome: Outcome, *statuses: Status, problem: str = "p", number: int = 0) -> Attempt:
    """One attempt whose calls ended so."""
    calls = [
        Step(
            thought=Thought(text="", span=model(2)),
            action=Action(code="", span=model(3)),
            observation=Observation(
                text="",
                span=Span(token_ids=(4,), author=Author.ENVIRONMENT),
                result=ExecutionResult(status=status, stdout="7" if status is Status.OK else ""),
            ),
        )
        for status in statuses
    ]
    trajectory = Trajectory(
        id=f"{problem}/{number}",
        problem_id=problem,
        prompt=Span(token_ids=(1,), author=Author.PROMPT),
        steps=(*calls, Step(thought=Thought(text="", span=model(5)))),
        finish=Finish.ENDED,
    )
    verdict = Verdict(outcome=outcome, extracted=None, reason="")
    return Attempt(
        problem=Problem(id=problem, question="?", answer="7", source=""), trajectory=trajectory, verdict=verdict
    )


def group(*outcomes: Outcome, problem: str = "p") -> list[Attempt]:
    return [attempt(outcome, problem=problem, number=number) for number, outcome in enumerate(outcomes)]


def trained(groups: list[list[Attempt]], **config) -> tuple[dict[str, float], Counter[str]]:
    """Advantage by trajectory, and what was dropped."""
    dropped: Counter[str] = Counter()
    rows = episode_rows(groups, EpisodeConfig(**config), dropped)
    return {row.id: row.terms[0].advantage for row in rows}, dropped


def test_the_right_attempts_of_a_group_are_lifted_over_the_wrong_ones():
    advantages, dropped = trained([group(RIGHT, WRONG, WRONG, WRONG)])
    # rewards 1 0 0 0: mean 1/4, unbiased variance (9/16 + 3/16) / 3 = 1/4, so 3/4 and -1/4 over 1/2
    expected = {"p/0": 1.5, "p/1": -0.5, "p/2": -0.5, "p/3": -0.5}
    assert advantages == pytest.approx(expected, rel=1e-5)
    assert not dropped


def test_groups_have_baselines_of_their_own():
    advantages, _ = trained([group(RIGHT, WRONG, problem="easy"), group(RIGHT, WRONG, WRONG, problem="hard")])
    # rewards 1 0: 1/2 over sqrt(1/2); rewards 1 0 0: 2/3 over sqrt(1/3)
    assert advantages["easy/0"] == pytest.approx(sqrt(1 / 2), rel=1e-5)
    assert advantages["hard/0"] == pytest.approx(2 / sqrt(3), rel=1e-5)


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.OK, Status.NOT_RUN)])
def test_a_trajectory_with_a_failed_call_leaves_the_episode_level_and_its_baseline(status):
    failed = attempt(RIGHT, Status.OK, status, number=9)
    advantages, dropped = trained([[*group(RIGHT, WRONG), failed]])
    assert set(advantages) == {"p/0", "p/1"}
    assert advantages["p/0"] == pytest.approx(sqrt(1 / 2), rel=1e-5)  # as if the third had never been
    assert dropped == {"episode: failed call": 1}


@pytest.mark.parametrize("status", [Status.OK, Status.NOT_RUN])
def test_successful_calls_and_refused_programs_keep_a_trajectory(status):
    advantages, dropped = trained([[attempt(RIGHT, status, number=0), attempt(WRONG, number=1)]])
    assert set(advantages) == {"p/0", "p/1"}
    assert not dropped


def test_an_unscored_attempt_leaves_the_mean_alone():
    advantages, dropped = trained([group(RIGHT, WRONG, UNSCORED, UNSCORED)])
    assert advantages == trained([group(RIGHT, WRONG)])[0]
    assert dropped == {"episode: unscored": 2}


@pytest.mark.parametrize(("outcome", "reason"), [(RIGHT, "episode: all right"), (WRONG, "episode: all wrong")])
def test_a_group_of_equal_rewards_is_dropped_and_counted(outcome, reason):
    advantages, dropped = trained([group(outcome, outcome, outcome), group(RIGHT, WRONG, problem="q")])
    assert set(advantages) == {"q/0", "q/1"}
    assert dropped == {reason: 3}


def test_a_group_with_too_few_survivors_is_dropped_and_counted():
    failed = [attempt(WRONG, Status.RUNTIME, number=n) for n in (5, 6)]
    advantages, dropped = trained([[*group(RIGHT), *failed]])
    assert not advantages
    assert dropped == {"episode: failed call": 2, "episode: too few survivors": 1}
    advantages, dropped = trained([group(RIGHT, WRONG, WRONG)], min_survivors=4)
    assert dropped == {"episode: too few survivors": 3}


def test_a_group_without_any_survivor_and_no_group_at_all_train_nothing():
    for groups in ([], [[]], [[attempt(WRONG, Status.MEMORY)]]):
        assert not trained(groups)[0]


def test_only_right_attempts_carry_the_likelihood_term():
    rows = episode_rows([group(RIGHT, WRONG)], EpisodeConfig(nll_weight=0.02), Counter())
    terms = {row.id: {term.name: term.weight for term in row.terms} for row in rows}
    assert terms == {
        "p/0": {"episode": 1.0, "episode_nll": 0.02},
        "p/1": {"episode": 1.0},
    }


@pytest.mark.parametrize(("field", "value"), [("num_generations", 1), ("min_survivors", 0)])
def test_groups_that_can_have_no_baseline_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        EpisodeConfig(**{field: value})


def test_a_reward_of_ones_own_is_what_credit_is_given_for() -> None:
    rewards = (0.25, 0.75, 0.5)
    judged = [
        replace(each, judged=Judged(total=reward, parts={"mine": reward}))
        for each, reward in zip(group(WRONG, WRONG, UNSCORED), rewards, strict=True)
    ]
    silent = replace(attempt(RIGHT, number=3), judged=Judged(total=None, parts={}))
    advantages, dropped = trained([[*judged, silent]], filters=())
    assert list(advantages.values()) == pytest.approx([-1, 1, 0], abs=1e-5)
    assert dropped == {"episode: unscored": 1}


def test_equal_rewards_of_ones_own_teach_nothing() -> None:
    same = [replace(each, judged=Judged(total=0.3, parts={})) for each in group(WRONG, RIGHT)]
    assert trained([same], filters=()) == ({}, {"episode: all equal": 2})
