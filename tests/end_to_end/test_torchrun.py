"""`thor rl` under torchrun: two processes do what one does, and what a kill leaves of them goes on in any number."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from thor_tir.engines.loading import load_model
from thor_tir.errors import UsageError

pytestmark = pytest.mark.slow

OPTIONS = {
    "--model": "nano/actor",
    "--count": "8",
    "--num-rounds": "2",
    "--problems-per-round": "4",
    "--num-generations": "4",
    "--step.num-generations": "4",
    "--validate-every": "1",
    "--num-validation": "4",
}


@pytest.fixture(autouse=True)
def needs_the_embedded_model():
    try:
        load_model("nano/actor")
    except UsageError:
        pytest.skip("the embedded models are not there")


def start(size: int, folder: Path, *more: str) -> subprocess.Popen[str]:
    options = [word for option in OPTIONS.items() for word in option]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(size)] if size > 1 else []
    command = [sys.executable, *torchrun, "-m", "thor_tir", "rl", "--deterministic", *options]
    command += ["--output", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill(process: subprocess.Popen[str]) -> None:
    """torchrun and all that it started, the sandboxes of both processes included."""
    everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everybody:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate()
    psutil.wait_procs(everybody, timeout=30)


def finish(size: int, folder: Path, *more: str) -> str:
    process = start(size, folder, *more)
    told, complaints = process.communicate()
    assert process.returncode == 0, complaints
    return told


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def tokens(folder: Path) -> dict[str, Any]:
    return {row["key"]: [_ids(step) for step in row["trajectory"]["steps"]] for row in lines(folder / "rollouts.jsonl")}


def _ids(value: Any) -> Any:
    """A step without what sampling and running took, and without log-probabilities, whose last bit may differ."""
    if isinstance(value, dict):
        return {k: _ids(v) for k, v in value.items() if k not in ("logprobs", "seconds")}
    return [_ids(entry) for entry in value] if isinstance(value, list) else value


def assert_same_runs(one: Path, other: Path) -> None:
    ours, theirs = lines(one / "updates.jsonl"), lines(other / "updates.jsonl")
    assert [update["rows"] for update in ours] == [update["rows"] for update in theirs]
    for name in ("loss", "grad_norm"):
        assert [u[name] for u in ours] == pytest.approx([u[name] for u in theirs], rel=1e-4, abs=1e-5)
    assert tokens(one) == tokens(other)


def test_two_processes_sample_and_train_what_one_does_also_after_a_kill(tmp_path):
    finish(1, tmp_path / "one")
    told = finish(2, tmp_path / "two")
    assert told.count("model:") == 1  # the second process is silent
    assert_same_runs(tmp_path / "two", tmp_path / "one")

    killed = tmp_path / "killed"
    process = start(2, killed)
    while process.poll() is None and not lines(killed / "updates.jsonl"):
        time.sleep(0.05)
    kill(process)
    assert len(lines(killed / "updates.jsonl")) < 2
    finish(1, killed)
    assert_same_runs(killed, tmp_path / "one")


class Hosts:
    """Two hosts on one network: namespaces of this machine, each of which has a folder of its own."""

    NETWORK = "10.77.31"

    def __init__(self) -> None:
        for command in (
            *(f"ip netns add thor{host}" for host in (0, 1)),
            "ip link add thor0 netns thor0 type veth peer name thor1 netns thor1",
            *(f"ip -n thor{host} addr add {self.NETWORK}.{host + 1}/24 dev thor{host}" for host in (0, 1)),
            *(f"ip -n thor{host} link set {link} up" for host in (0, 1) for link in ("lo", f"thor{host}")),
        ):
            subprocess.run(command.split(), check=True, capture_output=True)

    def close(self) -> None:
        for host in (0, 1):
            subprocess.run(["ip", "netns", "del", f"thor{host}"], capture_output=True)

    def start(self, folder: Path, *more: str) -> list[subprocess.Popen[str]]:
        options = [word for option in OPTIONS.items() for word in option]
        meeting = ["--nnodes", "2", "--master-addr", f"{self.NETWORK}.1", "--master-port", "29511"]
        return [
            subprocess.Popen(
                [
                    *("ip", "netns", "exec", f"thor{host}", sys.executable, "-m", "torch.distributed.run", *meeting),
                    *("--node-rank", str(host), "--nproc-per-node", "1", "-m", "thor_tir", "rl", "--deterministic"),
                    *(*options, "--output", str(folder / f"host{host}"), *more),
                ],
                env={**os.environ, "GLOO_SOCKET_IFNAME": f"thor{host}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for host in (0, 1)
        ]


@pytest.fixture
def hosts():
    try:
        found = Hosts()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("network namespaces cannot be made here")
    yield found
    found.close()


def test_two_hosts_without_a_folder_in_common_do_what_one_process_does_also_after_a_kill(hosts, tmp_path):
    finish(1, tmp_path / "one")
    first = tmp_path / "host0"
    processes = hosts.start(tmp_path)
    while all(process.poll() is None for process in processes) and not lines(first / "updates.jsonl"):
        time.sleep(0.05)
    for process in processes:
        kill(process)
    assert len(lines(first / "updates.jsonl")) < 2
    processes = hosts.start(tmp_path)
    ends = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    assert_same_runs(first, tmp_path / "one")
    assert not (tmp_path / "host1" / "model").exists()
    assert not any((tmp_path / "host1").rglob("*.safetensors"))


def test_adapters_trained_by_two_processes_become_a_model_that_is_evaluated_as_any_other(tmp_path):
    finish(2, tmp_path, "--lora-r", "4")
    evaluation = ["eval", "--model", str(tmp_path / "model"), "--num-problems", "2", "--samples", "1"]
    command = [sys.executable, "-m", "thor_tir", *evaluation, "--output", str(tmp_path / "eval")]
    subprocess.run(command, check=True, capture_output=True)
    (row,) = json.loads((tmp_path / "eval" / "results.json").read_text())["sets"]
    assert row["n"] == 2
