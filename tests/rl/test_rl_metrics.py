"""One line of metrics.jsonl, by hand: every figure of a round in which everything is known."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from rl_steps import attempt_with, called, said
from thor_tir.execution import Status
from thor_tir.learner.metrics import HISTOGRAM_EDGES
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import EpisodeConfig, StepConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.logprob_correction import corrected
from thor_tir.rl.metrics import engine_gap, record_of
from thor_tir.rl.step import StepPrompt, rewarded, step_rows
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Author, Prefix, Span
from thor_tir.verdict import Outcome

FAILED = Status.RUNTIME


def named(id: str, attempt: Attempt, version: int = 4) -> Attempt:
    return replace(attempt, trajectory=replace(attempt.trajectory, id=id, policy_version=version))


RIGHT = attempt_with(called("ab"), said("c"), outcome=Outcome.CORRECT)  # 2 + 1 + 1 sampled tokens
WRONG = attempt_with(said("xy"))
BROKEN = attempt_with(called("abcd", status=FAILED))  # 4 + 1
PREFIX = Prefix(spans=(Span(token_ids=(1, 2), author=Author.PROMPT),), parent="b", call=0)
REPAIRS = rewarded({"q/0": called("r"), "q/1": said("none")})
GATHERED = RoundSamples(
    groups=[[named("a", RIGHT), named("c", WRONG, version=3)], [named("b", BROKEN), named("d", WRONG)]],
    repairs=[(StepPrompt(id="q", prefix=PREFIX), REPAIRS)],
    num_lost=1,
    rollout_s=2.0,
    repair_s=1.0,
    grade_s=0.5,
)


def drift(largest: float) -> dict:
    shares = {"low_share": 0.0, "high_share": 0.5, "dual_share": 0.0, "approx_kl": 0.0}
    return {"mean_log_ratio": 0.1, "max_log_ratio": largest, "histogram": [0] * 11, **shares}


MEASURED = [
    {"loss": {"episode": 1.0}, "drift": {"episode": drift(0.2), "step": drift(0.3)}, "grad_norm": 3.0},
    {"loss": {"episode": 2.0}, "drift": {"episode": drift(0.9)}, "grad_norm": 2.0},
]


def rows(dropped: Counter[str]) -> list[TrainingSample]:
    episodes = episode_rows(GATHERED.groups, EpisodeConfig(), dropped)
    return episodes + step_rows(GATHERED.repairs, StepConfig(), dropped)


def line() -> dict:
    dropped: Counter[str] = Counter({"machine fault": 1})
    made = rows(dropped)
    return record_of(6, GATHERED, made, dropped, MEASURED, sampled=made, num_steps=6, train_s=4.0)


def test_the_figures_of_trajectories_and_of_repairs_are_kept_apart():
    episode, step = line()["levels"]["episode"], line()["levels"]["step"]
    told = {name: episode[name] for name in ("reward", "pass_rate", "tokens", "longest", "calls", "groups")}
    assert told == {"reward": 1 / 4, "pass_rate": 1 / 2, "tokens": 13 / 4, "longest": 5, "calls": 1 / 2, "groups": 2}
    told = {name: step[name] for name in ("reward", "pass_rate", "tokens", "longest", "calls", "groups")}
    assert told == {"reward": 1 / 2, "pass_rate": 1.0, "tokens": (2 + 4) / 2, "longest": 4, "calls": 1 / 2, "groups": 1}
    # of two calls one failed; the one repair that called succeeded
    assert [(level["calls_ran"], level["call_success"]) for level in (episode, step)] == [(0.5, 0.5), (1.0, 1.0)]
    # every sampled token was given e^-1
    assert (episode["entropy"], step["entropy"]) == pytest.approx((1.0, 1.0))


def test_the_survivors_their_credit_and_what_was_dropped_add_up():
    record = line()
    assert (record["rows_episode"], record["rows_step"]) == (2, 2)
    assert record["dropped"] == {"machine fault": 1, "episode: failed call": 1, "episode: too few survivors": 1}
    assert record["dropped_share"] == 3 / 7  # of four trajectories, two repairs and the one that was lost
    levels = record["levels"]
    assert (levels["episode"]["groups_kept"], levels["step"]["groups_kept"]) == (1, 1)
    # rewards 1 and 0: distances of 1/2 over an unbiased deviation of sqrt(1/2)
    assert levels["episode"]["advantage_std"] == pytest.approx(math.sqrt(1 / 2), abs=1e-5)


def test_the_first_update_tells_engine_from_trainer_and_the_last_how_far_the_policy_went():
    levels = line()["levels"]
    assert levels["episode"]["mismatch"] == {"mean_log_ratio": 0.1, "max_log_ratio": 0.2, "histogram": [0] * 11}
    assert levels["episode"]["drift"]["max_log_ratio"] == 0.9
    assert levels["step"]["drift"]["max_log_ratio"] == 0.3  # the second update had none of its rows
    assert line()["grad_norm"] == 3.0


def test_staleness_is_the_number_of_updates_between_the_oldest_sample_and_the_last_update():
    assert line()["staleness"]["max"] == 2  # sampled by version 3, trained when there were five updates before


def test_once_rows_are_corrected_the_mismatch_is_what_they_were_corrected_by():
    made = rows(Counter())
    shift = {row.id: tuple(lp + (0.05 if n % 2 else -2.0) for n, lp in enumerate(row.old_logprobs)) for row in made}
    scored = corrected(made, shift, cap=2.0)
    record = record_of(0, GATHERED, scored, Counter(), MEASURED, sampled=made, num_steps=1, train_s=0.0)
    mismatch = record["levels"]["episode"]["mismatch"]
    assert mismatch["max_log_ratio"] == pytest.approx(2.0)
    assert sum(mismatch["histogram"]) == sum(row.num_trained for row in made if not row.parent)


def test_each_gap_is_counted_between_its_edges():
    (row,) = [row for row in rows(Counter()) if row.id == "c"]  # two trained tokens, the last of 52
    moved = replace(row, old_logprobs=(*row.old_logprobs[:-2], row.old_logprobs[-2] + 0.05, row.old_logprobs[-1] - 3))
    gap = engine_gap([(moved, row)])
    assert gap["mean_log_ratio"] == pytest.approx(3.05 / 2)
    places = [place for place, count in enumerate(gap["histogram"]) if count]
    assert places == [0, HISTOGRAM_EDGES.index(1e-1)]


def test_a_round_without_any_sample_is_a_line_too():
    nothing = RoundSamples(groups=[], repairs=[], num_lost=0, rollout_s=0.0, repair_s=0.0, grade_s=0.0)
    record = record_of(0, nothing, [], Counter(), [], sampled=[], num_steps=0, train_s=0.0)
    assert (record["answer_reward"], record["dropped_share"], record["staleness"]) == (None, 0.0, None)
    assert record["levels"]["step"]["mismatch"] is None


@pytest.mark.parametrize(
    ("outcomes", "reward"), [("RRU", 1.0), ("RWU", 0.5), ("WUU", 0.0), ("UU", None), ("RWWW", 0.25)]
)
def test_an_answer_that_cannot_be_graded_has_no_reward(outcomes, reward):
    kinds = {"R": Outcome.CORRECT, "W": Outcome.WRONG, "U": Outcome.UNSCORED}
    group = [named(str(n), attempt_with(said("x"), outcome=kinds[kind])) for n, kind in enumerate(outcomes)]
    samples = RoundSamples(groups=[group], repairs=[], num_lost=0, rollout_s=0.0, repair_s=0.0, grade_s=0.0)
    record = record_of(0, samples, [], Counter(), [], sampled=[], num_steps=5, train_s=0.0)
    assert record["answer_reward"] == record["levels"]["episode"]["reward"] == reward


def test_a_prompt_that_fills_the_context_is_counted_and_makes_nothing_stale():
    empty = [named(id, attempt_with(), version=0) for id in "xy"]
    dropped: Counter[str] = Counter()
    made = episode_rows([empty, GATHERED.groups[0]], EpisodeConfig(), dropped)
    assert dropped == {"episode: prompt fills the context": 2, "episode: too few survivors": 0}
    samples = replace(GATHERED, groups=[empty, GATHERED.groups[0]], repairs=[])
    assert record_of(0, samples, made, dropped, [], sampled=made, num_steps=6, train_s=0.0)["staleness"]["max"] == 2
