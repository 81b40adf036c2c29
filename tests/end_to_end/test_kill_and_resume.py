"""A deterministic run that is killed again and again ends with the results of one that was left alone."""

import json
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from small_runs import Runs, at_lines
from thor_tir.engines.loading import load_model
from thor_tir.errors import UsageError
from thor_tir.storage.journal import Journal


@pytest.fixture(scope="module")
def runs():
    try:
        load_model("nano/actor")
    except UsageError:
        pytest.skip("the embedded models are not there")
    server = Runs()
    yield server
    server.close()


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "seconds" not in k and k != "tokens_per_s"}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def journals(folder: Path) -> dict[str, list[object]]:
    """Everything a run keeps of its work, in the order in which it was written, without wall-clock times."""
    paths = [p for stage in ("tirgen", "sft", "rl", "eval") for p in (folder / stage).rglob("*.jsonl")]
    return {
        str(path.relative_to(folder)): [
            without_times(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()
        ]
        for path in sorted(paths)
    }


def assert_equal_runs(left_alone: Path, killed: Path) -> None:
    ours, theirs = journals(killed), journals(left_alone)
    assert set(ours) == set(theirs)
    for name, rows in ours.items():
        keys = Counter(row["key"] for row in rows if "key" in row)
        assert not [key for key, count in keys.items() if count > 1], name
        different = [row.get("key") for row, other in zip(rows, theirs[name], strict=True) if row != other]
        assert not different, f"{name} differs in {len(different)} of {len(rows)} rows, first in {different[0]}"
    for stage in ("sft", "rl"):
        weights = [(folder / stage / "model" / "model.safetensors").read_bytes() for folder in (left_alone, killed)]
        assert weights[0] == weights[1], f"the weights after {stage} differ"
    results = [without_times(json.loads((folder / "results.json").read_text())) for folder in (killed, left_alone)]
    for row in (row for each in results for row in each["runs"]):
        row.pop("model")  # a path within the run
    assert results[0] == results[1]


def test_a_run_killed_within_tirgen_between_both_levels_of_rl_and_within_evaluation_gives_the_same_results(
    runs, tmp_path
):
    left_alone, killed = tmp_path / "left alone", tmp_path / "killed"
    runs.run("small", left_alone)
    # RL's one round has 4 * 4 = 16 episodes: after them come the repairs, from the same prefixes. A process that did
    # both must not go on from keys and values that one which did only the latter does not have.
    for journal, lines in (
        ("tirgen/no_tools.jsonl", 1),
        ("rl/rollouts.jsonl", 16),
        ("eval/RL-+-self-correction/attempts/reasoning_gym.jsonl", 1),
    ):
        assert runs.run("small", killed, at_lines(killed / journal, lines))
    runs.run("small", killed)
    assert_equal_runs(left_alone, killed)


@pytest.mark.slow
def test_a_run_killed_in_every_stage_gives_the_same_results(runs, tmp_path):
    runs.run("larger", tmp_path / "left alone")
    for seed in range(2):
        folder = tmp_path / f"killed {seed}"
        assert runs.run_with_kills("larger", folder, Random(seed), most=20) >= 8
        assert_equal_runs(tmp_path / "left alone", folder)


@pytest.mark.parametrize("cut", [1, 40, 90])
def test_what_a_kill_left_of_a_chunk_is_cut_off_so_that_the_chunk_is_done_again_whole(tmp_path, cut):
    """A kill may come between two pages of one long write, and then some whole lines of a chunk are on disk."""
    path = tmp_path / "held.jsonl"
    journal = Journal(path, hold=True)
    for chunk in range(2):
        for unit in range(3):
            journal.add(f"{chunk}/{unit}", {"text": "x" * 20})
        journal.commit()
    first, second = path.read_bytes().split(b"1/0")[0].count(b"\n"), len(path.read_bytes())
    assert first == 3
    with path.open("r+b") as file:
        file.truncate(second - cut)
    assert [row["key"] for row in Journal(path, hold=True)] == ["0/0", "0/1", "0/2"]
    assert path.read_bytes().count(b"\n") == 3
