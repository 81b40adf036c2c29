"""Short trainings of the embedded model, sampled here and by servers of `thor engine up`: rewards within noise."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev

import pytest

from thor_tir import commands

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
    deadline = time.monotonic() + 900
    while not file.exists():
        assert process.poll() is None, "the command ended"
        assert time.monotonic() < deadline, "the servers do not serve"
        time.sleep(0.5)
    yield file, process
    process.terminate()
    process.wait(60)


def groups(folder: Path) -> list[float]:
    """The share of right answers in each group of a run."""
    found: dict[str, list[float]] = {}
    for line in (folder / "rollouts.jsonl").read_text().splitlines():
        row = json.loads(line)
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
    lines = [json.loads(line) for line in (tmp_path / "vllm-0" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert all(line["engines"][name]["requests"] > 0 for name in "01")
        assert all(line["engines"][name]["prefix_hit_rate"] > 0.3 for name in "01")
        assert line["levels"]["episode"]["mismatch"]["max_log_ratio"] < 1e-3


def test_the_servers_end_with_the_command_even_by_sigkill(up) -> None:
    _, process = up
    assert all(map(is_served, (8240, 8241)))
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while any(map(is_served, (8240, 8241))):
        assert time.monotonic() < deadline, "the servers outlived the command"
        time.sleep(0.2)
