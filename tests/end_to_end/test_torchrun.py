"""`thor rl` under torchrun: two processes do what one does, and what a kill leaves of them goes on in any number."""

import json
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


def test_adapters_trained_by_two_processes_become_a_model_that_is_evaluated_as_any_other(tmp_path):
    finish(2, tmp_path, "--lora-r", "4")
    evaluation = ["eval", "--model", str(tmp_path / "model"), "--num-problems", "2", "--samples", "1"]
    command = [sys.executable, "-m", "thor_tir", *evaluation, "--output", str(tmp_path / "eval")]
    subprocess.run(command, check=True, capture_output=True)
    (row,) = json.loads((tmp_path / "eval" / "results.json").read_text())["sets"]
    assert row["n"] == 2
