"""Sampling that runs ahead: how far, with which versions and corrections, and what is dropped, counted and resumed."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from thor_tir.distributed import Ranks
from thor_tir.errors import UsageError
from thor_tir.rl.ahead import Ahead
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import EpisodeConfig, LossConfig, RLConfig, StepConfig
from thor_tir.rl.staleness import staleness_of, young
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Completion
from tiny_models import tiny_model
from tiny_rows import episode_terms, random_row
from told_sandbox import ToldSandbox
from toy_task import LIMITS, OTHER, PROGRAMS, RIGHT, dialect, primed_model, run

CONFIG = RLConfig(
    num_rounds=4,
    problems_per_round=2,
    max_staleness=1,
    rollout=LIMITS,
    episode=EpisodeConfig(num_generations=6),
    step=StepConfig(num_generations=4, suffix_tokens=4),
    learning_rate=5e-4,
)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ---- how far sampling runs


@pytest.mark.parametrize(
    ("most", "updates", "begun"),
    [
        (1, 1, {0: [1, 2], 1: [3], 2: [4], 3: []}),  # a round while the one before is trained
        (2, 1, {0: [1, 2, 3], 1: [4], 2: [], 3: []}),
        (1, 4, {0: [1], 3: [2], 4: [], 7: [3], 11: [4]}),  # only while its last update is under way
        (0, 1, {0: [], 1: [], 2: [], 3: []}),  # in turn: a round is sampled when it is asked for
    ],
)
def test_a_round_begins_when_all_but_so_many_steps_before_it_are_done(monkeypatch, most, updates, begun):
    found: list[int] = []

    async def collected(number: int, *_: Any) -> None:
        found.append(number + 1)

    async def reached() -> dict[int, list[int]]:
        steps = {}
        source = ahead_source()
        config = replace(CONFIG, max_staleness=most, updates_per_round=updates)
        async with Ahead(source, config, first=0) as rounds:
            for version in begun:
                found.clear()
                rounds.reach(version)
                await asyncio.sleep(0)
                steps[version] = list(found)
        return steps

    monkeypatch.setattr("thor_tir.rl.ahead.collect", collected)
    assert asyncio.run(reached()) == begun


@pytest.mark.parametrize(("size", "found"), [(1, [2, 1]), (2, [1, 2])])
def test_a_round_waits_for_the_one_before_only_where_several_processes_tell_each_other_rows(monkeypatch, size, found):
    order: list[int] = []

    async def collected(number: int, source: Any, _: Any) -> None:
        await asyncio.sleep(0 if number else 0.001)  # the first round ends last
        await source.setup.turn()
        order.append(number + 1)

    async def sampled() -> None:
        source = ahead_source()
        monkeypatch.setattr(Ranks, "on_their_own", lambda ranks: ranks)
        ranks = Ranks(size=size)
        async with Ahead(replace(source, setup=replace(source.setup, ranks=ranks)), CONFIG, first=0) as rounds:
            rounds.reach(0)
            await rounds.take(0)
            await rounds.take(1)

    monkeypatch.setattr("thor_tir.rl.ahead.collect", collected)
    asyncio.run(sampled())
    assert order == found


def ahead_source() -> Any:
    from thor_tir.rl.source import RoundSource
    from thor_tir.rollout.sample_many import SamplingSetup
    from thor_tir.storage.journal import Journal

    agent: Any = None
    setup = SamplingSetup(agent=agent, grade=agent, config=LIMITS)
    return RoundSource(setup=setup, problems=[], rollouts=Journal(Path("none"), is_ours=False))


def test_a_fault_of_sampling_reaches_the_loop_that_trains(monkeypatch):
    async def collected(number: int, *_: Any) -> RoundSamples:
        raise UsageError("no such tool")

    async def whole() -> None:
        async with Ahead(ahead_source(), CONFIG, first=0) as rounds:
            rounds.reach(0)
            await rounds.take(0)

    monkeypatch.setattr("thor_tir.rl.ahead.collect", collected)
    with pytest.raises(UsageError, match="no such tool"):
        asyncio.run(whole())


# ---- versions


class Renewed:
    """A policy whose weights are renewed between its replies, and once within one."""

    def __init__(self, script: Any) -> None:
        self._script = script
        self._num_asked = 0

    def attend(self) -> Any:
        return self._script.attend()

    async def sample(self, token_ids: Any, sampling: Any) -> Completion:
        completion = await self._script.sample(token_ids, sampling)
        self._num_asked += 1
        if self._num_asked == 1:
            return replace(completion, policy_version=3)
        versions = (4,) + (5,) * (len(completion.span) - 1)
        return replace(completion, policy_version=5, versions=versions)


def test_a_trajectory_says_of_each_token_which_weights_drew_it_also_after_it_was_written_and_read():
    from thor_tir.engines.scripted import ScriptedPolicy
    from tiny_models import tiny_tokenizer

    script = ScriptedPolicy(tiny_tokenizer(), [f"So\n```python\n{RIGHT}\n```\n", "\\boxed{7}"])
    agent = Agent(policy=Renewed(script), sandbox=ToldSandbox(PROGRAMS), dialect=dialect())
    draft = Draft(id="t", problem_id="a", prompt=dialect().prompt("a"), seed=0)
    trajectory = asyncio.run(rollout(draft, agent, RolloutConfig()))
    call, answer = trajectory.steps
    assert {*call.thought.span.versions, *call.action.span.versions} == {3}
    assert answer.thought.span.versions[:2] == (4, 5)
    assert (trajectory.oldest_version, trajectory.policy_version) == (3, 5)
    assert trajectory_from_json(json.loads(json.dumps(trajectory_to_json(trajectory)))) == trajectory


# ---- ages and corrections


def aged(seed: int, *versions: int) -> Any:
    row = random_row(seed, episode_terms(1.0))
    places = [i for i, is_trained in enumerate(row.trained) if is_trained]
    found = [9] * len(row.trained)
    for n, place in enumerate(places):
        found[place] = versions[n % len(versions)]
    return replace(row, versions=tuple(found))


def test_rows_with_a_token_older_than_allowed_are_dropped_and_counted():
    dropped: Counter[str] = Counter()
    rows = [aged(0, 9), aged(1, 9, 8), aged(2, 9, 7)]
    assert young(rows, version=9, most=1, dropped=dropped) == rows[:2]
    assert dropped == {"too old": 1}


def test_the_figures_count_tokens_by_age_and_corrections_at_their_cap():
    row = aged(0, 9, 8)
    count = row.num_trained
    row = replace(row, correction=tuple(2.0 if v == 8 else 1.0 for v in row.versions))
    figures = staleness_of([row], version=9, last=10, oldest=8, cap=2.0)
    stale = count // 2
    assert figures["tokens"] == {"0": count - stale, "1": stale}
    assert figures["max"] == 1  # drawn by version 8, trained by the step after version 9
    assert figures["mean"] == figures["stale_share"] == figures["truncated_share"] == pytest.approx(stale / count)


def test_a_run_that_samples_ahead_corrects_with_a_cap_of_two_unless_another_is_named():
    assert RLConfig().correction_cap == 0
    assert CONFIG.correction_cap == 2
    assert replace(CONFIG, loss=LossConfig(importance_sampling_cap=5.0)).correction_cap == 5


# ---- whole runs


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ahead")
    model, replica = primed_model(RIGHT, OTHER), primed_model(RIGHT, OTHER)
    run(model, CONFIG, folder, replica=replica, deterministic=False)
    return folder, model, replica


def test_a_run_samples_ahead_and_trains_every_row_once_or_counts_it(whole):
    folder, model, replica = whole
    records = lines(folder / "metrics.jsonl")
    trained = Counter(id for update in lines(folder / "updates.jsonl") for id in update["rows"])
    assert set(trained.values()) == {1}
    assert sum(r["sampled"] for r in records) == len(trained) + sum(sum(r["dropped"].values()) for r in records)
    assert [r["staleness"]["max"] <= 1 for r in records] == [True] * 4
    assert any(r["staleness"]["stale_share"] > 0 for r in records[1:])  # rounds after the first began a step early
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), replica.parameters(), strict=True))


def test_what_is_sampled_is_asked_in_the_problems_and_groups_of_a_run_in_turn(whole, tmp_path):
    folder, _, _ = whole
    run(primed_model(RIGHT, OTHER), replace(CONFIG, max_staleness=0, num_rounds=2), tmp_path)
    ahead = {row["key"]: row["problem_id"] for row in lines(folder / "rollouts.jsonl") if "problem_id" in row}
    in_turn = {row["key"]: row["problem_id"] for row in lines(tmp_path / "rollouts.jsonl") if "problem_id" in row}
    assert in_turn.items() <= ahead.items()


class Killed(BaseException):
    """Stands for SIGKILL."""


class Fused(ToldSandbox):
    """Kills at the given program."""

    def __init__(self, number: int) -> None:
        super().__init__(PROGRAMS)
        self.left = number

    async def run(self, code: str, limits: Any = None) -> Any:
        self.left -= 1
        if not self.left:
            raise Killed
        return await super().run(code, limits)


def test_a_run_ahead_that_is_killed_and_continued_in_turn_trains_or_counts_whatever_was_sampled(tmp_path):
    def trained(config: RLConfig, sandbox: ToldSandbox) -> None:
        model, replica = primed_model(RIGHT, OTHER), primed_model(RIGHT, OTHER)
        run(model, config, tmp_path, replica=replica, deterministic=False, sandbox=sandbox)

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - asked about below
        trained(CONFIG, Fused(32))  # of 12 in each round: the third has begun while the second is trained
    assert isinstance(caught.value, Killed) or caught.value.subgroup(Killed) is not None
    trained(replace(CONFIG, max_staleness=0), ToldSandbox(PROGRAMS))
    records = lines(tmp_path / "metrics.jsonl")
    ids = Counter(id for update in lines(tmp_path / "updates.jsonl") for id in update["rows"])
    assert set(ids.values()) == {1}
    assert sum(r["sampled"] for r in records) == ids.total() + sum(sum(r["dropped"].values()) for r in records)
    assert all(max(map(int, r["staleness"]["tokens"]), default=0) == 0 for r in records[-2:])  # older rows are out


def test_a_run_ahead_without_a_replica_is_refused(tmp_path):
    with pytest.raises(UsageError, match="needs a replica"):
        run(tiny_model(), CONFIG, tmp_path)
