"""Processes that Ray places: same bits as those of this host, whatever is killed on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest

from thor_tir import commands, on_ray
from thor_tir.commands.evaluation import Eval
from thor_tir.engines.vllm.address_file import AddressFile
from thor_tir.errors import MachineFault, UsageError
from thor_tir.on_ray import Lost, RayOptions

FEW = ("--problems-per-round", "4", "--num-generations", "4", "--step.num-generations", "4", "--num-rounds", "4")
SMALL = ("--problems", "reasoning_gym:gcd", "--count", "40", "--validate-every", "0", "--engine.num-threads", "1")
WORDS = ("rl", "--deterministic", "--processes", "2", "--model", "nano/actor", *SMALL, *FEW)


@pytest.mark.parametrize(
    "wrong",
    [{"cpus": 0.0}, {"gpus": -1.0}, {"max_restarts": -1}, {"wait_s": 0.0}, {"min_processes": -1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_places_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="--ray"):
        RayOptions(**wrong)  # type: ignore[arg-type]
    assert RayOptions(cpus=2, gpus=1).bundle == {"CPU": 2, "GPU": 1}


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--launcher ray needs ray, .*\.\[ray\]"):
        commands.run("rl", ["--launcher", "ray", "--output", str(tmp_path / "run")])


def test_a_cluster_that_does_not_answer_is_one_sentence_at_once() -> None:
    with pytest.raises(MachineFault, match=r"no Ray cluster answers at 127\.0\.0\.1:1 \(.*refused\)"):
        on_ray._check_answers("127.0.0.1:1")
    for elsewhere in ("", "auto", "local"):
        on_ray._check_answers(elsewhere)


class Placed:
    """Stands for a cluster: groups end as they are asked to, one placement after another."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, ends: dict[str, list[int | str]]) -> None:
        self.ends, self.words = ends, {}
        monkeypatch.setattr(on_ray, "need", lambda *what: None)
        monkeypatch.setattr(on_ray, "_cluster", lambda options: nullcontext())
        monkeypatch.setattr(on_ray._Keeper, "_placed", lambda keeper, group: nullcontext([group.name]))
        monkeypatch.setattr(on_ray, "_run", self.run)

    def run(self, actors: list[str], words: Callable[[str, int], list[str]], say: object) -> int:
        (name,) = actors
        self.words[name] = words("10.0.0.1", 29500)
        end = self.ends[name].pop(0) if self.ends.get(name) else 0
        if isinstance(end, str):
            raise Lost(end)
        return end


def test_parts_are_placed_by_themselves_and_united_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Placed(monkeypatch, {"part 2 of 3": ["its host is gone"]})
    united: list[Eval] = []
    monkeypatch.setattr(Eval, "unite", lambda options: united.append(options))
    words = ["--launcher", "ray", "--processes", "3", "--output", str(tmp_path)]
    commands.run("eval", words)
    assert cluster.words == {f"part {n} of 3": ["eval", *words, "--shard", f"{n}/3"] for n in (1, 2, 3)}
    assert [options.output for options in united] == [tmp_path]
    assert "part 2 of 3: its host is gone: the group is placed anew" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"leave out --ray\.min-processes"):
        commands.run("rl", [*words, "--deterministic", "--ray.min-processes", "1"])
    with pytest.raises(UsageError, match="--shard 1/2 is one part"):
        commands.run("eval", [*words, "--shard", "1/2"])


def test_engines_are_placed_one_by_one_and_the_file_of_addresses_goes_with_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster = Placed(monkeypatch, {})
    placed: list[tuple[int, str, int]] = []
    monkeypatch.setattr(AddressFile, "place", lambda file, *where: (placed.append(where), file.path.touch()))
    file = tmp_path / "addresses.txt"
    words = ["--model", "m", "--replicas", "2", "--launcher", "ray", "--output", str(file)]
    commands.run("engine up", words)
    assert sorted(placed) == [(number, "10.0.0.1", 29500) for number in (0, 1)]
    where = ["--replicas", "1", "--host", "10.0.0.1", "--port", "29500"]
    for number in (0, 1):
        own = ["--output", str(tmp_path / f"engine-{number}" / "addresses.txt")]
        assert cluster.words[f"engine {number}"] == ["engine", "up", *words, *where, *own]
    assert not file.exists()
    with pytest.raises(UsageError, match=r"--ray\.gpus 1 in place of --devices"):
        commands.run("engine up", [*words, "--devices", "0", "1"])


def test_a_group_that_is_lost_too_often_ends_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    Placed(monkeypatch, {"a": ["gone"] * 3, "b": [7]})
    groups = {name: on_ray.Group(size=1, words=lambda host, port: [host], name=name) for name in "ab"}
    with pytest.raises(MachineFault, match="a: gone, and the group was placed anew 2 times already"):
        on_ray.start_on_ray([groups["a"]], RayOptions(max_restarts=2), print)
    assert on_ray.start_on_ray([groups["b"]], RayOptions(), print) == 7


def started(folder: Path, *more: str, words: Sequence[str] = WORDS) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "thor_tir", *words, "--output", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_memory_usage_threshold": "0.98"},  # else busy hosts kill
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
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
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
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
def test_a_cluster_without_places_ends_the_run_with_what_it_has(tmp_path: Path) -> None:
    process = started(tmp_path / "run", "--launcher", "ray", "--ray.cpus", "1000", "--ray.wait-s", "3")
    said, _ = process.communicate()
    assert process.returncode == 1
    assert "no 2 places of 1000 CPU after 3 s" in said


EVAL = ("eval", "--problems", "reasoning_gym:gcd", "--num-problems", "24", "--samples", "4", "--concurrency", "4")


@pytest.mark.slow  # two minutes
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install '.[ray]'")
def test_an_evaluation_on_ray_has_the_attempts_of_one_without_although_a_part_is_killed(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    said, _ = (plain := started(whole, words=EVAL)).communicate()
    assert plain.returncode == 0, said
    on_ray = started(killed, "--processes", "3", "--launcher", "ray", "--ray.cpus", "0.5", words=EVAL)
    kills = 0
    while on_ray.poll() is None and kills < 2:
        time.sleep(0.5)
        if len(attempts(killed)) > 8 * (kills + 1) and (there := victims(killed)):
            there[-1].kill()
            kills += 1
    said, _ = on_ray.communicate()
    assert on_ray.returncode == 0, said
    assert said.count(" of 3: process 1 of 1 ended") == kills == 2, said
    assert attempts(killed) == attempts(whole)
    assert (killed / "results.json").exists()


def attempts(folder: Path) -> dict[str, list[int]]:
    """The tokens of every attempt, each of which was made once."""
    lines = [line for file in folder.glob("attempts/*.jsonl") for line in file.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    found = {row["key"]: ids(row["trajectory"]["steps"]) for row in rows}
    assert len(found) == len(rows)
    return found


def ids(steps: list[dict[str, Any]]) -> list[int]:
    parts = [step[name] for step in steps for name in ("thought", "action", "observation")]
    return [token for part in parts if part is not None for token in part["ids"]]
