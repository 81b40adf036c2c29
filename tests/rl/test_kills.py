"""`kill -9` at random points of a run: nothing is trained twice or left out, and the losses stay the same."""

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from killed_runs import Runs
from thor_tir.engines.loading import load_model
from thor_tir.errors import UsageError
from thor_tir.learner.checkpoint import load_checkpoint, newest_checkpoint
from thor_tir.learner.learner import Learner, LearnerConfig
from tiny_models import tiny_model


@pytest.fixture(scope="module")
def runs():
    server = Runs()
    yield server
    server.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "seconds" not in k}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def assert_equal_runs(killed: Path, whole: Path) -> None:
    """Ledger, losses, metrics and weights are the same to the last bit, and no row was trained twice or left out."""
    updates = lines(killed / "updates.jsonl")
    assert updates == lines(whole / "updates.jsonl")  # rows, losses and gradient norms of every update
    assert [update["key"] for update in updates] == [str(number + 1) for number in range(len(updates))]
    trained = Counter(id for update in updates for id in update["rows"])
    assert set(trained.values()) == {1}
    metrics = lines(killed / "metrics.jsonl")
    assert len(trained) == sum(row["rows_episode"] + row["rows_step"] for row in metrics) > 0
    assert without_times(metrics) == without_times(lines(whole / "metrics.jsonl"))
    keys = Counter(row["key"] for row in lines(killed / "rollouts.jsonl"))
    assert set(keys.values()) == {1}
    weights = [(folder / "model" / "model.safetensors").read_bytes() for folder in (killed, whole)]
    assert weights[0] == weights[1]


def kill_often(runs: Runs, kind: str, folder: Path, *, kills: int, seed: int) -> list[tuple[int, int]]:
    """Kill runs at random instants until that was done so often, in another folder once one is finished, and compare
    each with one that was left alone. Returns where the kills fell: updates and sampled units on disk."""
    whole = folder / "whole"
    seconds = runs.seconds(kind, whole)
    rng, fallen, number = Random(seed), [], 0
    while len(fallen) < kills:
        number += 1
        here = folder / f"killed {number}"
        while len(fallen) < kills and runs.run(kind, here, killed_after_s=rng.uniform(0.02, 0.5) * seconds):
            fallen.append((count(here / "updates.jsonl"), count(here / "rollouts.jsonl")))
        runs.run(kind, here)
        assert_equal_runs(here, whole)
    print(f"{kind}: {len(fallen)} kills in {number} runs of {seconds:.1f} s, at {fallen}")
    return fallen


def kill_ahead(runs: Runs, folder: Path, *, kills: int, seed: int) -> list[tuple[int, int]]:
    """Kill runs that sample ahead of training; in each, rows in are rows trained and rows counted as left out."""
    whole = folder / "ahead"
    seconds = runs.seconds("ahead", whole)
    assert_complete(whole)
    rng, fallen, number = Random(seed), [], 0
    while len(fallen) < kills:
        number += 1
        here = folder / f"ahead, killed {number}"
        while len(fallen) < kills and runs.run("ahead", here, killed_after_s=rng.uniform(0.02, 0.5) * seconds):
            fallen.append((count(here / "updates.jsonl"), count(here / "rollouts.jsonl")))
        runs.run("ahead", here)
        assert_complete(here)
    print(f"ahead: {len(fallen)} kills in {number} runs of {seconds:.1f} s, at {fallen}")
    return fallen


def assert_complete(folder: Path) -> None:
    """Whatever was sampled stands in one update or under one cause, and every round was trained."""
    updates, metrics = lines(folder / "updates.jsonl"), lines(folder / "metrics.jsonl")
    assert [update["key"] for update in updates] == [str(number + 1) for number in range(12)]
    trained = Counter(id for update in updates for id in update["rows"])
    assert set(trained.values()) == {1}
    assert len(trained) == sum(row["rows_episode"] + row["rows_step"] for row in metrics) > 0
    keys = Counter(row["key"] for row in lines(folder / "rollouts.jsonl"))
    assert set(keys.values()) == {1}
    assert len(keys) == len(trained) + sum(sum(row["dropped"].values()) for row in metrics)
    assert all(row["staleness"]["max"] <= 3 for row in metrics)  # two steps ahead, and the round's second update


def count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_run_that_is_killed_at_four_random_points_is_the_run_that_was_not(runs, tmp_path):
    runs.run("prime", tmp_path)
    assert len(kill_often(runs, "toy", tmp_path, kills=4, seed=0)) == 4


def test_a_kill_while_a_checkpoint_is_written_beside_training_leaves_the_one_before(runs, tmp_path):
    assert runs.run("beside", tmp_path)
    assert (tmp_path / "stepped").exists()
    learner = Learner(tiny_model(), LearnerConfig())
    assert load_checkpoint(newest_checkpoint(tmp_path), learner) == {"save": 1}
    assert learner.num_steps == 1


@pytest.mark.slow
def test_a_run_ahead_that_is_killed_at_thirty_random_points_trains_or_counts_whatever_was_sampled(runs, tmp_path):
    runs.run("prime", tmp_path)
    fallen = kill_ahead(runs, tmp_path, kills=30, seed=4)
    assert len(set(fallen)) > 10


@pytest.mark.slow
def test_a_run_that_is_killed_at_thirty_random_points_is_the_run_that_was_not(runs, tmp_path):
    runs.run("prime", tmp_path)
    fallen = kill_often(runs, "toy", tmp_path, kills=30, seed=1)
    assert len(set(fallen)) > 10  # the kills were spread over the run


@pytest.mark.slow
def test_a_run_of_the_embedded_model_that_is_killed_at_thirty_random_points_is_the_run_that_was_not(runs, tmp_path):
    try:
        load_model("nano/actor")
    except UsageError:
        pytest.skip("the embedded models are not there")
    fallen = kill_often(runs, "nano", tmp_path, kills=30, seed=2)
    assert len(set(fallen)) > 5  # whole chunks are written at once, so few states of the disk can be told apart
