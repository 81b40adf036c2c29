"""Processes that Ray places: same bits as those of this host, whatever is killed on the way."""

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random

import psutil
import pytest

from thor_tir import commands
from thor_tir.errors import UsageError
from thor_tir.on_ray import RayOptions

FEW = ("--problems-per-round", "4", "--num-generations", "4", "--step.num-generations", "4", "--num-rounds", "4")
SMALL = ("--problems", "reasoning_gym:gcd", "--count", "40", "--validate-every", "0", "--engine.num-threads", "1")
WORDS = ("rl", "--deterministic", "--processes", "2", "--model", "nano/actor", *SMALL, *FEW)


@pytest.mark.parametrize(
    "wrong", [{"cpus": 0.0}, {"gpus": -1.0}, {"max_restarts": -1}, {"wait_s": 0.0}], ids=lambda wrong: next(iter(wrong))
)
def test_places_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="--ray"):
        RayOptions(**wrong)  # type: ignore[arg-type]
    assert RayOptions(cpus=2, gpus=1).bundle == {"CPU": 2, "GPU": 1}


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--launcher ray needs ray, .*thor-tir\[ray\]"):
        commands.run("rl", ["--launcher", "ray", "--output", str(tmp_path / "run")])


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thor_tir", *WORDS, "--output", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
    )


def victims(folder: Path) -> list[psutil.Process]:
    """Processes that work on this run, and the actors above them; the driver is none of them."""
    found = []
    for process in psutil.process_iter():
        try:
            words, above = process.cmdline(), process.parent()
        except psutil.Error:
            continue
        if str(folder) in words and above is not None and above.name().startswith("ray::"):
            found += [process, above]
    return found


@pytest.mark.slow  # five minutes: a cluster is started, and its processes begin anew after each kill
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'thor-tir[ray]'")
def test_a_run_on_ray_has_the_bits_of_one_without_although_its_processes_are_killed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said, _ = (plain := started(whole)).communicate()
    assert plain.returncode == 0, said
    rng, kills = Random(0), 0
    on_ray = started(killed, "--launcher", "ray", "--ray.max-restarts", "20", "--ray.cpus", "0.5")
    while on_ray.poll() is None and kills < 5:
        time.sleep(rng.uniform(8, 25))
        if on_ray.poll() is None and (there := victims(killed)):
            rng.choice(there).kill()
            kills += 1
    said, _ = on_ray.communicate()
    assert on_ray.returncode == 0, said
    assert kills > 0
    assert said.count("the group is placed anew") >= 1, said
    for name in ("model/model.safetensors", "updates.jsonl"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), f"{kills} kills\n{said}"
    print(f"{kills} kills\n{said}")


@pytest.mark.slow  # half a minute
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'thor-tir[ray]'")
def test_a_cluster_without_places_ends_the_run_with_what_it_has(tmp_path: Path) -> None:
    process = started(tmp_path / "run", "--launcher", "ray", "--ray.cpus", "1000", "--ray.wait-s", "3")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "no 2 places of 1000 CPU after 3 s" in said
