"""Trainings of the embedded model on servers of `thor engine up`: rewards within noise of those of the embedded engine,
and what becomes of rows and weights when servers, trainers and the command itself are killed."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from math import sqrt
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

import pytest
import torch

import transfers
from forks import Forks
from thor_tir import commands
from thor_tir.engines.loading import load_model
from thor_tir.engines.vllm.abilities import abilities_of
from thor_tir.engines.vllm.connection import Connection, ReplicaLost
from thor_tir.engines.vllm.replica import Replica

PYTHON = os.environ.get("THOR_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="THOR_VLLM_PYTHON names no environment with vLLM (make test-vllm)"),
]
SEEDS = (0, 1, 2)
OPTIONS = (
    "--model nano/actor --problems reasoning_gym --num-rounds 4 --problems-per-round 12 --num-generations 8 "
    "--validate-every 0"
)


def until(condition: Callable[[], bool], process: "subprocess.Popen[Any]", within_s: float = 900) -> None:
    """Wait for what a process does, as long as it runs."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert process.poll() is None, "the command ended"
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.2)


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a journal that may be written meanwhile."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def begun(file: Path, folder: Path, *options: str) -> "subprocess.Popen[str]":
    """`thor rl` on the servers, in a process of its own."""
    place = ["--output", str(folder), "--engine.name", "vllm", "--engine.address", str(file)]
    command = [sys.executable, "-m", "thor_tir", "rl", *OPTIONS.split(), *options, *place]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def first_of(line: dict[str, Any]) -> dict[str, Any]:
    """The figures of the first server in the record of a round."""
    return line["engines"]["http://127.0.0.1:8240"]


def server_of(up: "subprocess.Popen[bytes]", port: int) -> int:
    """The process of one server of `thor engine up`."""
    children = Path(f"/proc/{up.pid}/task/{up.pid}/children").read_text().split()
    (found,) = [pid for pid in children if f"--port\0{port}\0" in Path(f"/proc/{pid}/cmdline").read_text()]
    return int(found)


def is_served(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, "subprocess.Popen[bytes]"]]:
    """`thor engine up` as a user starts it, and the file of its addresses."""
    file = tmp_path_factory.mktemp("up") / "addresses.txt"
    options = "--model nano/actor --replicas 2 --port 8240 --num-threads 1 --dtype float32 --arguments=--enforce-eager"
    command = [sys.executable, "-m", "thor_tir", "engine", "up", *options.split(), "--output", str(file)]
    process = subprocess.Popen(command)
    try:
        until(file.exists, process)
        yield file, process
    finally:
        process.terminate()
        process.wait(60)


def groups(folder: Path) -> list[float]:
    """The share of right answers in each group of a run."""
    found: dict[str, list[float]] = {}
    for row in lines(folder / "rollouts.jsonl"):
        if "outcome" in row:
            found.setdefault(row["key"].rpartition("/")[0], []).append(float(row["outcome"] == "correct"))
    return [fmean(group) for group in found.values()]


def test_rewards_over_three_seeds_are_within_noise_of_the_embedded_engines(up, tmp_path: Path) -> None:
    sides = {"local": [], "vllm": ["--engine.name", "vllm", "--engine.address", str(up[0])]}
    rewards: dict[str, list[float]] = {name: [] for name in sides}
    for seed in SEEDS:
        for name, options in sides.items():
            folder = tmp_path / f"{name}-{seed}"
            commands.run("rl", [*OPTIONS.split(), "--seed", str(seed), "--output", str(folder), *options])
            rewards[name] += groups(folder)
    means = {name: fmean(found) for name, found in rewards.items()}
    noise = sqrt(sum(stdev(found) ** 2 / len(found) for found in rewards.values()))
    print(means, f"noise {noise:.4f}", {name: len(found) for name, found in rewards.items()})
    assert abs(means["vllm"] - means["local"]) < 3 * noise
    for line in lines(tmp_path / "vllm-0" / "metrics.jsonl"):
        assert all(each["requests"] > 0 for each in line["engines"].values())
        assert all(each["prefix_hit_rate"] > 0.3 for each in line["engines"].values())
        assert line["levels"]["episode"]["mismatch"]["max_log_ratio"] < 1e-3


def test_a_run_with_adapters_samples_from_the_sums_on_every_server(up, tmp_path: Path) -> None:
    run = begun(up[0], tmp_path / "run", "--lora-r", "8", "--num-rounds", "2", "--problems-per-round", "8")
    assert run.communicate() == (None, "")
    assert run.returncode == 0
    rounds = lines(tmp_path / "run" / "metrics.jsonl")
    assert len(rounds) == 2
    for line in rounds:
        assert all(each["requests"] > 0 and each["losses"] == 0 for each in line["engines"].values())
        assert line["levels"]["episode"]["mismatch"]["max_log_ratio"] < 1e-3
    assert rounds[1]["levels"]["episode"]["mismatch"]["max_log_ratio"] > 0


def test_two_processes_that_train_together_share_one_server(up, tmp_path: Path) -> None:
    alone = tmp_path / "alone.txt"
    alone.write_text(up[0].read_text().splitlines()[0])
    run = begun(alone, tmp_path / "run", "--processes", "2", "--num-rounds", "2", "--problems-per-round", "8")
    assert run.communicate() == (None, "")
    assert run.returncode == 0
    for line in lines(tmp_path / "run" / "metrics.jsonl"):
        (server,) = line["engines"].values()
        assert server["requests"] > 0
        assert (server["losses"], server["stale"]) == (0, 0)
        assert line["levels"]["episode"]["mismatch"]["max_log_ratio"] < 1e-3


def test_a_server_that_is_named_later_is_asked_and_one_that_is_named_no_more_is_not(up, tmp_path: Path) -> None:
    first, second = up[0].read_text().split()
    file, metrics = tmp_path / "addresses.txt", tmp_path / "run" / "metrics.jsonl"
    file.write_text(first)

    def asked() -> list[set[str]]:
        rounds = lines(metrics)
        return [{name for name, each in line["engines"].items() if each["requests"]} for line in rounds]

    run = begun(file, tmp_path / "run", "--num-rounds", "60", "--problems-per-round", "4", "--num-generations", "4")
    until(lambda: {first} in asked(), run)
    file.write_text(f"{first}\n{second}\n")
    until(lambda: {first, second} in asked(), run)
    file.write_text(second)
    until(lambda: {second} in asked(), run)
    run.terminate()
    run.communicate(timeout=120)
    for line in lines(metrics):
        assert all((each["losses"], each["stale"]) == (0, 0) for each in line["engines"].values())
        assert (line["levels"]["episode"]["mismatch"] or {"max_log_ratio": 0})["max_log_ratio"] < 1e-3


def test_actor_and_critic_of_tirgen_have_a_server_each(up, tmp_path: Path) -> None:
    actor, critic = up[0].read_text().split()
    engine = ["--engine.name", "vllm", "--engine.address", actor, "--engine.critic-address", critic]
    words = ["tirgen", "--problems", "reasoning_gym", "--count", "24", "--output", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "thor_tir", *words, *engine], check=True)
    models = json.loads((tmp_path / "models.json").read_text())
    asked = {name: model["engines"] for name, model in models.items()}
    assert (list(asked["actor"]), list(asked["critic"])) == ([actor], [critic])
    for engines in asked.values():
        (figures,) = engines.values()
        assert figures["requests"] > 0
        assert (figures["losses"], figures["stale"]) == (0, 0)
    assert lines(tmp_path / "dataset.jsonl")


def test_a_server_that_is_killed_gets_the_current_weights_and_requests_again_and_sigterm_ends_the_run(
    up, tmp_path
) -> None:
    file, command = up
    metrics = tmp_path / "run" / "metrics.jsonl"
    run = begun(file, tmp_path / "run", "--num-rounds", "500", "--problems-per-round", "4", "--num-generations", "4")
    until(lambda: any(first_of(line)["requests"] for line in lines(metrics)), run)
    os.kill(server_of(command, 8240), signal.SIGKILL)
    until(lambda: any(first_of(line)["losses"] for line in lines(metrics)), run)
    lost = next(n for n, line in enumerate(lines(metrics)) if first_of(line)["losses"])
    until(lambda: any(first_of(line)["requests"] for line in lines(metrics)[lost + 1 :]), run)
    for line in lines(metrics):
        assert "machine fault" not in line["dropped"]
        assert (line["levels"]["episode"]["mismatch"] or {"max_log_ratio": 0})["max_log_ratio"] < 1e-3  # None: no rows
    print([{name: engine["requests"] for name, engine in line["engines"].items()} for line in lines(metrics)])
    time.sleep(1)
    run.terminate()
    _, said = run.communicate(timeout=120)
    assert (run.returncode, said) == (
        143,
        "thor: ended by SIGTERM; the same command continues where this one stopped\n",
    )


def test_a_run_ahead_with_refills_that_is_killed_trains_or_counts_whatever_was_sampled(up, tmp_path) -> None:
    options = ("--max-staleness", "2", "--refill", "0.5", "--problems-per-round", "6")
    folder, fallen = tmp_path / "run", []
    for rounds in (1, 2):
        run = begun(up[0], folder, *options)
        until(lambda at=rounds: len(lines(folder / "metrics.jsonl")) >= at, run)
        time.sleep(Random(rounds).uniform(0, 3))
        run.kill()
        run.communicate()
        fallen.append((len(lines(folder / "updates.jsonl")), len(lines(folder / "rollouts.jsonl"))))
    run = begun(up[0], folder, *options)
    assert run.communicate() == (None, "")
    assert run.returncode == 0
    updates, metrics = lines(folder / "updates.jsonl"), lines(folder / "metrics.jsonl")
    trained = Counter(id for update in updates for id in update["rows"])
    keys = Counter(row["key"] for row in lines(folder / "rollouts.jsonl"))
    print(fallen, len(trained), [line["refills"] for line in metrics], [line["dropped"] for line in metrics])
    assert len(metrics) == 4
    assert {*trained.values(), *keys.values()} == {1}
    assert len(trained) == sum(line["rows_episode"] + line["rows_step"] for line in metrics) > 0
    assert len(keys) == len(trained) + sum(sum(line["dropped"].values()) for line in metrics)
    assert all(line["staleness"]["max"] <= 2 for line in metrics)
    assert sum(line["refills"] for line in metrics) > 0


def test_a_trainer_that_is_killed_while_weights_move_leaves_no_server_that_answers_with_half_of_them(
    up, tmp_path
) -> None:
    addresses, seen = up[0].read_text().split(), Counter()
    trainers, random = Forks(Path(transfers.__file__)), Random(5)
    try:
        for number in range(12):
            ready = tmp_path / f"ready {number}"
            (pid,) = trainers.start(addresses, ready)
            while not ready.exists():
                assert not trainers.have_ended(within_s=0.05), "the trainer failed"
            time.sleep(random.uniform(0, 2))
            os.kill(pid, signal.SIGKILL)
            assert trainers.codes() == [-signal.SIGKILL]
            seen.update(asyncio.run(states(addresses)))
    finally:
        trainers.close()
    print(seen)
    assert seen["silent"] > 0  # of these kills some fell into a transfer
    assert seen["answers"] > 0


async def states(addresses: list[str]) -> list[str]:
    """What each server does, which is either nothing, or to answer with the weights that it names."""
    return await asyncio.gather(*map(state, addresses))


async def state(address: str) -> str:
    replica = Replica(key=address, name=address, connection=Connection(address))
    try:
        if (await replica.get("/is_paused"))["is_paused"]:
            body = {"model": "policy", "prompt": [5, 6, 7], "max_tokens": 1}
            with pytest.raises(ReplicaLost):
                await replica.connection.call("POST", "/v1/completions", body, within_s=1.0)
            return "silent"
        replica.abilities = await abilities_of(replica.connection)
        label, ids = replica.abilities.label, [Random(3).randrange(100) for _ in range(40)]
        found = await replica.control.read(replica, ids)
        version = int(label.partition(":")[2] or 0)  # the model that a server starts with is version 0
        near, other = (expected(ids, which) for which in (version, version + 1))
        assert found == pytest.approx(near, abs=1e-3), f"{label} at {address}"
        assert fmean(abs(a - b) for a, b in zip(near, other, strict=True)) > 0.02  # another version would be seen
        return "answers"
    finally:
        await replica.connection.close()


@torch.inference_mode()
def expected(ids: list[int], version: int) -> list[float]:
    """Log-probability of each id but the first under the weights of a version."""
    model, _ = load_model("nano/actor")
    for (_, weight), (_, new) in zip(model.named_parameters(), transfers.weights_of(version, model), strict=True):
        weight.copy_(new)
    logp = torch.log_softmax(model(torch.tensor([ids])).logits[0, :-1].float(), -1)
    return logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def test_the_servers_end_with_the_command_even_by_sigkill(up) -> None:
    _, process = up
    assert all(map(is_served, (8240, 8241)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(is_served, (8240, 8241))):
        assert time.monotonic() < deadline, "the servers outlived the command"
        time.sleep(0.2)
