"""Servers of vLLM that Ray placed: killed, placed anew, found at their new address, and asked again."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

PYTHON = os.environ.get("THOR_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="THOR_VLLM_PYTHON names no environment with vLLM (make test-vllm)"),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'"),
]
UP = (
    "engine up --launcher ray --ray.cpus 0.5 --ray.max-restarts 10 --model nano/actor --replicas 2 --num-threads 1 "
    "--dtype float32 --arguments=--enforce-eager"
)
RL = (
    "rl --model nano/actor --problems reasoning_gym:gcd --num-rounds 10000 --problems-per-round 4 --num-generations 4 "
    "--step.num-generations 4 --validate-every 0 --engine.name vllm"
)

KILLS = (("server", 0), ("actor", 1), ("actor", 0), ("server", 1))
BACK = "is back, with the weights in force"


class Command:
    """A command of `thor` in a process of its own, and what it says."""

    def __init__(self, log: Path, words: str, *more: str) -> None:
        self.log = log
        with log.open("wb") as out:
            command = [sys.executable, "-m", "thor_tir", *words.split(), *more]
            env = {**os.environ, "RAY_memory_usage_threshold": "0.98"}  # else a busy host kills
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=env)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, holds: Callable[[], Any], within_s: float = 600.0) -> None:
        """Wait until something is so, while the command runs."""
        deadline = time.monotonic() + within_s
        while not holds():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.5)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path / "up.log", UP, "--output", str(tmp_path / "addresses.txt"))
    try:
        command.until((tmp_path / "addresses.txt").exists)
        yield command
    finally:
        command.end()


def victim(folder: Path, number: int, kind: str) -> psutil.Process:
    """What a server is made of: the process of vLLM, or the actor above the one that looks after it."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            above, below = process.parent(), process.children()
            is_keeper = str(folder / f"engine-{number}" / "addresses.txt") in process.cmdline()
            if is_keeper and above is not None and above.name().startswith("ray::"):
                return above if kind == "actor" else below[0]
    raise LookupError(kind)


def rounds(folder: Path) -> list[dict[str, Any]]:
    file = folder / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def kill_and_wait(rl: Command, tmp_path: Path, kind: str, number: int) -> None:
    """Kill a server, and wait until the run asks it again; only one that was placed anew has another address."""
    file, folder = tmp_path / "addresses.txt", tmp_path / "run"
    before, losses = file.read_text().splitlines(), rl.said.count(BACK)
    victim(tmp_path, number, kind).kill()
    rl.until(lambda: rl.said.count(BACK) > losses)
    after, num = file.read_text().splitlines(), len(rounds(folder))
    assert after[1 - number] == before[1 - number]
    assert (after[number] == before[number]) == (kind == "server")
    rl.until(lambda: len(rounds(folder)) >= num + 2)
    assert all(rounds(folder)[-1]["engines"][address]["requests"] > 0 for address in after)
    print(f"{kind} {number} killed: it is back at {after[number]}, asked again in round {num + 2}", flush=True)


def test_a_server_that_was_killed_or_placed_anew_gets_the_weights_in_force_and_traffic_again(
    up: Command, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    rl = Command(tmp_path / "rl.log", RL, "--engine.address", str(tmp_path / "addresses.txt"), "--output", str(folder))
    try:
        rl.until(lambda: rounds(folder))
        for kind, number in KILLS:
            kill_and_wait(rl, tmp_path, kind, number)
    finally:
        rl.end()
    figures = rounds(folder)
    servers = [counts for row in figures for counts in row["engines"].values()]
    assert sum(counts["losses"] for counts in servers) == len(KILLS)
    resent = sum(counts["resent"] for counts in servers)
    print(f"vLLM on Ray: {len(KILLS)} kills in {len(figures)} rounds, {resent} requests asked again, none lost")
    assert all(row["dropped"].get("machine", 0) == 0 for row in figures)
