"""Step rewards, filters and advantages of one's own: what they are given, and what they may give."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from rl_steps import attempt_with, called, said
from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.rl.config import EpisodeConfig, LossConfig, RLConfig, StepConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.repair_rewards import judged_repairs, load_repair_rewards
from thor_tir.rl.shaping import load_shape
from thor_tir.rl.step import StepPrompt, StepSample, step_rows
from thor_tir.trajectory import Author, Prefix, Span
from thor_tir.verdict import Outcome
from toy_task import BREAKS, LIMITS, OTHER, RIGHT, primed_model, run

MINE = """
from thor_tir.errors import SandboxUnavailable

async def brevity(problem, failed, repairs, *, scale=1):
    return [scale / len(repair.action.code) if repair.action else 0 for repair in repairs]

def parts(problem, failed, repairs):
    return [{"ran": repair.ran, "same": repair.action.code == failed.action.code} for repair in repairs]

def one_number(problem, failed, repairs):
    return 1.0

def silent(problem, failed, repairs):
    return [None for repair in repairs]

def breaks(problem, failed, repairs):
    return [repair.nothing for repair in repairs]

def no_machine(problem, failed, repairs):
    raise SandboxUnavailable("gone")

def long(attempt, *, most=3):
    return "long" if len(attempt.trajectory.steps) > most else None

async def wrong(attempt):
    return attempt.verdict.outcome == "wrong"

def number(attempt):
    return 3

def halved(group):
    return [advantage / 2 for advantage in group.advantages]

def last_token(group):
    return [[a * (t == len(row.token_ids) - 1) for t in range(len(row.token_ids))]
            for a, row in zip(group.advantages, group.rows)]

def first_two(group):
    return [1.0, 2.0]

def short(group):
    return [[1.0] for row in group.rows]

def infinite(group):
    return [float("inf") for row in group.rows]

def prompts_too(group):
    return [[7.0] * len(row.token_ids) for row in group.rows]
"""
PROBLEM = Problem(id="p", question="?", answer="4", source="")
FAILED = called("x", code="print(y)", status=Status.RUNTIME)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path / "mine.py"


def earned(specs: list[str], *repairs) -> list:
    return asyncio.run(judged_repairs(load_repair_rewards(specs), PROBLEM, FAILED, repairs))


def test_repairs_earn_the_weighted_sum_of_what_is_named(mine: Path) -> None:
    repairs = [called(code="print(2)"), called(code="print(y)"), said("no call")]
    found = earned(["prints", f"{mine}:brevity=0.5,scale=8"], *repairs)
    assert [each.total for each in found] == [1 + 0.5 * 8 / 8, 1 + 0.5 * 8 / 8, 0.0]
    assert found[0].parts == {"prints": 1.0, f"{mine}:brevity": 1.0}
    (same,) = earned([f"{mine}:parts"], called(code="print(y)"))
    assert same.parts == {f"{mine}:parts/ran": 1.0, f"{mine}:parts/same": 1.0}
    assert same.total == 2


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("one_number", r"returned '1.0' for 2 repairs; it returns a list with one entry for each"),
        ("silent", "returned None for a repair"),
        ("breaks", r"the step reward .*breaks raised AttributeError: .* \(.*mine.py, line 17\)"),
        ("nowhere", "has no 'nowhere'"),
    ],
)
def test_a_step_reward_that_fails_ends_the_run_with_a_sentence(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        earned([f"{mine}:{function}"], called(), called())


def test_step_rewards_are_named_once_and_at_least_one() -> None:
    for specs in ([], ["prints", "prints=2"]):
        with pytest.raises(UsageError, match="names each reward once and at least one"):
            load_repair_rewards(specs)
    assert load_repair_rewards(["agrees"]).is_packaged
    assert not load_repair_rewards(["prints=2"]).is_packaged
    with pytest.raises(UsageError, match="unknown step-reward 'pritns'; known: prints, runs, substantial, agrees"):
        load_repair_rewards(["pritns"])


def group(*outcomes: Outcome):
    return [[attempt_with(called(), said("ab"), outcome=outcome) for outcome in outcomes]]


MIXED = group(Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT, Outcome.WRONG)


def test_a_filter_of_ones_own_drops_and_is_counted_by_its_cause(mine: Path) -> None:
    dropped: Counter[str] = Counter()
    config = EpisodeConfig(filters=("failed-call", f"{mine}:long,most=1", f"{mine}:wrong"))
    assert episode_rows(MIXED, config, dropped) == []
    assert +dropped == {"episode: long": 4}
    dropped.clear()
    episode_rows(MIXED, replace(config, filters=(f"{mine}:long", f"{mine}:wrong")), dropped)
    assert dropped == {f"episode: {mine}:wrong": 2, "episode: all right": 2}


@pytest.mark.parametrize(
    ("function", "message"),
    [("number", "returned '3'; it returns None to keep an attempt, or a cause"), ("x", "has no 'x'")],
)
def test_a_filter_that_fails_ends_the_run(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        episode_rows(MIXED, EpisodeConfig(filters=(f"{mine}:{function}",)), Counter())
    with pytest.raises(UsageError, match="unknown filter 'to-short'; known: failed-call, too-short"):
        episode_rows(MIXED, EpisodeConfig(filters=("to-short",)), Counter())


def shaped(mine: Path, function: str, groups=MIXED) -> list:
    return episode_rows(groups, EpisodeConfig(), Counter(), shape=load_shape(f"{mine}:{function}"))


def test_advantages_are_shaped_row_by_row(mine: Path) -> None:
    plain = episode_rows(MIXED, EpisodeConfig(), Counter())
    assert [row.terms[0].advantage for row in shaped(mine, "halved")] == [row.terms[0].advantage / 2 for row in plain]
    untouched = episode_rows(MIXED, EpisodeConfig(), Counter(), shape=load_shape(""))
    assert [row.terms for row in untouched] == [row.terms for row in plain]


def test_advantages_are_shaped_token_by_token_and_the_nll_follows_their_mean(mine: Path) -> None:
    plain, rows = episode_rows(MIXED, EpisodeConfig(), Counter()), shaped(mine, "last_token")
    for before, row in zip(plain, rows, strict=True):
        whole = before.terms[0].advantage
        assert row.terms[0].token_advantages == (*[0.0] * (len(row.token_ids) - 1), whole)
        assert row.terms[0].advantage == pytest.approx(whole / row.num_trained)
        assert [term.name for term in row.terms] == [term.name for term in before.terms]
    (row, *_) = shaped(mine, "prompts_too")
    assert [a == 7.0 for a in row.terms[0].token_advantages] == list(row.trained), "nothing but trained tokens counts"


def test_repairs_are_shaped_like_trajectories(mine: Path) -> None:
    prefix = Prefix(spans=(Span(token_ids=(1,), author=Author.PROMPT),), parent="t", call=0)
    repairs = [StepSample(id=f"q/{n}", step=called("x"), reward=float(n)) for n in range(2)]
    groups = [(StepPrompt(id="q", prefix=prefix), repairs)]
    rows = step_rows(groups, StepConfig(), Counter(), shape=load_shape(f"{mine}:halved"))
    # rewards 0 and 1: advantages -+ 0.5 / sqrt(0.5), halved
    assert [row.terms[0].advantage for row in rows] == pytest.approx([-(0.5**0.5) / 2, 0.5**0.5 / 2], abs=1e-5)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("first_two", "for a group: expected a list with 4 entries, one for each row, found 2"),
        ("short", r"for the row t: expected a list with \d+ entries, one for each token, found 1"),
        ("infinite", "returned 'inf', which is no finite number"),
    ],
)
def test_an_advantage_that_fits_no_row_ends_the_run(mine: Path, function: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shaped(mine, function)


def test_a_run_with_functions_of_ones_own_writes_down_what_they_gave(mine: Path, tmp_path: Path) -> None:
    config = RLConfig(
        num_rounds=1,
        problems_per_round=2,
        rollout=LIMITS,
        episode=EpisodeConfig(num_generations=6, filters=(f"{mine}:long",)),
        step=StepConfig(num_generations=4, suffix_tokens=4, reward=(f"{mine}:brevity,scale=100", "prints=0.5")),
        loss=LossConfig(advantages=f"{mine}:halved"),
    )
    run(primed_model(RIGHT, OTHER, BREAKS), config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text().splitlines()]
    totals = [each["total"] for row in rows for each in row.get("earned", {}).values()]
    (figures,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert figures["queries"] > 0
    assert figures["step_reward"] == pytest.approx(sum(totals) / len(totals))
    assert set(figures["step_rewards"]) == {"prints", f"{mine}:brevity"}
    assert "episode: failed call" not in figures["dropped"]
    (update,) = map(json.loads, (tmp_path / "updates.jsonl").read_text().splitlines())
    assert len(update["advantages"]) == len(update["rows"]) > 0


def test_repairs_whose_reward_a_machine_lost_are_lost(mine: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        earned([f"{mine}:no_machine"], called())
