"""Two hosts of a Ray cluster, as network namespaces, on which whatever a run is made of is killed at random moments."""

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

pytestmark = [
    pytest.mark.slow,  # each test starts a cluster, and processes begin anew after each kill
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'"),
]

ROUNDS = 8
FEW = (
    "--problems-per-round",
    "4",
    "--num-generations",
    "4",
    "--step.num-generations",
    "4",
    "--num-rounds",
    f"{ROUNDS}",
)
SMALL = ("--problems", "reasoning_gym:gcd", "--count", "40", "--validate-every", "0", "--engine.num-threads", "1")
WORDS = ("rl", "--processes", "2", "--model", "nano/actor", *SMALL, *FEW)
KINDS = ("rank", "actor", "sandbox", "raylet", "driver")


class Hosts:
    """A head and a second node, each in a namespace of its own with one place for a process."""

    NETWORK, LINK = "10.78.31", "between"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.nodes: dict[int, subprocess.Popen[bytes]] = {}
        self._run(*(f"ip netns add ray{host}" for host in (0, 1)))
        self._run(
            f"ip link add {self.LINK} netns ray0 type veth peer name {self.LINK} netns ray1",
            *(f"ip -n ray{host} addr add {self.NETWORK}.{host + 1}/24 dev {self.LINK}" for host in (0, 1)),
            *(f"ip -n ray{host} link set {link} up" for host in (0, 1) for link in ("lo", self.LINK)),
        )
        self._ray = tempfile.mkdtemp(prefix="ray", dir="/tmp")  # the names of sockets have room for no longer one
        self.env = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": self.LINK,
            "RAY_TMPDIR": self._ray,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # else whatever else runs on the host comes first
            "RAY_memory_usage_threshold": "0.98",  # else a busy host kills
            "RAY_health_check_period_ms": "1000",
        }

    @staticmethod
    def _run(*commands: str) -> None:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)

    @property
    def address(self) -> str:
        return f"{self.NETWORK}.1:6390"

    def start(self, host: int) -> None:
        """Start a node; the cluster has it as soon as it says so."""
        meeting = (
            ["--head", "--port", "6390", "--include-dashboard=false"] if host == 0 else ["--address", self.address]
        )
        own = ["--node-ip-address", f"{self.NETWORK}.{host + 1}", "--num-cpus", "1"]
        self.nodes[host] = self.inside(
            host,
            *("-m", "ray.scripts.scripts", "start", "--block", *meeting, *own, "--object-store-memory", "100000000"),
        )

    def inside(self, host: int, *words: str) -> subprocess.Popen[bytes]:
        command = ["ip", "netns", "exec", f"ray{host}", sys.executable, *words]
        with self.log(host).open("wb") as log:
            return subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def log(self, host: int) -> Path:
        return self._folder / f"node{host}.log"

    def wait(self, host: int) -> None:
        """Wait until a node is there."""
        while "runtime started" not in (said := self.log(host).read_text()):
            assert self.nodes[host].poll() is None, said
            time.sleep(0.2)

    def end(self, host: int) -> None:
        """End all that a node is made of."""
        node = self.nodes.pop(host)
        with suppress(psutil.NoSuchProcess):
            there = [*psutil.Process(node.pid).children(recursive=True), psutil.Process(node.pid)]
            for process in there:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        node.wait()

    def raylet(self, host: int) -> psutil.Process:
        """The raylet of a node."""
        below = psutil.Process(self.nodes[host].pid).children(recursive=True)
        return next(each for each in below if each.name() == "raylet")

    def close(self) -> None:
        for host in list(self.nodes):
            self.end(host)
        for host in (0, 1):
            subprocess.run(["ip", "netns", "del", f"ray{host}"], capture_output=True)
        shutil.rmtree(self._ray, ignore_errors=True)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    try:
        found = Hosts(tmp_path)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here")
    try:
        for host in (0, 1):
            found.start(host)
            found.wait(host)
        yield found
    finally:
        found.close()


class Driver:
    """The command that is killed or loses what it started, given again when it is killed itself."""

    def __init__(self, hosts: Hosts, folder: Path, *more: str) -> None:
        self.hosts, self.folder = hosts, folder
        self.words = ["-m", "thor_tir", *WORDS, *more, "--output", str(folder)]
        self.words += ["--launcher", "ray", "--ray.address", hosts.address, "--ray.max-restarts", "100"]
        self.log = folder.with_suffix(".log")
        self.start()

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", "ray0", sys.executable, *self.words], env=self.hosts.env, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ranks(self) -> list[psutil.Process]:
        """Processes that work on this run below an actor."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                above = process.parent()
                if str(self.folder) in process.cmdline() and above is not None and above.name().startswith("ray::"):
                    found.append(process)
        return found

    def kill(self, kind: str, rng: Random) -> bool:
        """Kill one of a kind; false where there is none just now."""
        with suppress(psutil.NoSuchProcess, StopIteration):
            if kind == "driver":
                self.process.kill()
                self.process.wait()
                self.start()
                return True
            if kind == "raylet":
                self.hosts.raylet(1).kill()
                time.sleep(rng.uniform(0, 5))
                self.hosts.end(1)
                self.hosts.start(1)
                return True
            if not (ranks := self.ranks()):
                return False
            rank = rng.choice(ranks)
            if kind == "sandbox":
                below = rank.children(recursive=True)
                if below:
                    rng.choice(below).kill()
                return bool(below)
            victim = rank.parent() if kind == "actor" else rank
            assert victim is not None
            victim.kill()
            return True
        return False

    def killed_often(self, kills: int, rng: Random, apart_s: tuple[float, float]) -> Counter[str]:
        """Kill so often, each kind as often as the others, or until the run is at its end; the kills by kind."""
        fallen: Counter[str] = Counter()
        order = [kind for _ in range(kills) for kind in rng.sample(KINDS, len(KINDS))]
        while self.process.poll() is None and fallen.total() < kills:
            time.sleep(rng.uniform(*apart_s))
            kind = order[fallen.total()]
            if self.process.poll() is None and self.kill(kind, rng):
                fallen[kind] += 1
        return fallen


def killed_runs(hosts: Hosts, folder: Path, *more: str, kills: int, seed: int) -> tuple[list[Path], Counter[str]]:
    """Runs on which so many kills fall, another one once one is finished; their folders, and the kills by kind."""
    rng, fallen, folders = Random(seed), Counter[str](), []
    while fallen.total() < kills:
        here = folder / f"killed{len(folders)}"
        driver = Driver(hosts, here, *more)
        try:
            fallen += driver.killed_often(kills - fallen.total(), rng, (5.0, 25.0))
            assert driver.process.wait() == 0, driver.said
        finally:
            driver.process.kill()
        folders.append(here)
        print(f"\n{dict(fallen)} after {len(folders)} runs\n{driver.said[-3000:]}", flush=True)
    return folders, fallen


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_deterministic_run_on_two_hosts_has_the_bits_of_one_host_whatever_is_killed(
    hosts: Hosts, tmp_path: Path
) -> None:
    whole = tmp_path / "whole"
    command = [sys.executable, "-m", "thor_tir", *WORDS, "--deterministic", "--output", str(whole)]
    subprocess.run(command, check=True, capture_output=True)
    folders, fallen = killed_runs(hosts, tmp_path, "--deterministic", kills=16, seed=1)
    for folder in folders:
        for name in ("model/model.safetensors", "updates.jsonl"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes(), f"{name} of {folder} after {fallen}"
    print(f"deterministic, two hosts: {fallen.total()} kills in {len(folders)} runs: {dict(fallen)}")


def test_a_run_ahead_on_two_hosts_trains_or_counts_whatever_was_sampled(hosts: Hosts, tmp_path: Path) -> None:
    folders, fallen = killed_runs(hosts, tmp_path, "--max-staleness", "2", kills=10, seed=2)
    for folder in folders:
        updates, metrics = lines(folder / "updates.jsonl"), lines(folder / "metrics.jsonl")
        trained = Counter(id for update in updates for id in update["rows"])
        assert set(trained.values()) == {1}
        assert [row["key"] for row in metrics] == [str(number + 1) for number in range(ROUNDS)]
        assert len(trained) == sum(row["rows_episode"] + row["rows_step"] for row in metrics) > 0
        keys = Counter(row["key"] for row in lines(folder / "rollouts.jsonl"))
        assert set(keys.values()) == {1}
        left_out = sum(sum(row["dropped"].values()) for row in metrics)
        assert len(keys) == len(trained) + left_out
        print(f"ahead, two hosts: {len(keys)} rows sampled, {len(trained)} trained, {left_out} left out and counted")
    print(f"ahead, two hosts: {fallen.total()} kills in {len(folders)} runs: {dict(fallen)}")


def test_a_run_goes_on_with_fewer_processes_where_a_host_does_not_come_back(hosts: Hosts, tmp_path: Path) -> None:
    driver = Driver(hosts, tmp_path / "run", "--ray.min-processes", "1", "--ray.wait-s", "15")
    updates = tmp_path / "run" / "updates.jsonl"
    while driver.process.poll() is None and not (updates.exists() and lines(updates)):
        time.sleep(0.2)
    hosts.end(1)
    assert driver.process.wait() == 0, driver.said
    assert "places for 1 of 2 processes" in driver.said
    assert len(lines(tmp_path / "run" / "metrics.jsonl")) == ROUNDS
