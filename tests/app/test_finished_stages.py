"""A finished stage that is met again: skipped while its files are what they were, finished again where they are not."""

import asyncio
import json
from pathlib import Path

import pytest

from thor_tir.app.stages.quickstart import _once


class Stage:
    """Writes a model of two files, or a data set, and counts how often it was run."""

    def __init__(self, folder: Path, *, is_file: bool = False) -> None:
        self.folder, self.is_file, self.runs, self.said = folder, is_file, 0, []

    async def work(self) -> Path:
        self.runs += 1
        if self.is_file:
            (self.folder / "dataset.jsonl").write_text("rows")
            return self.folder / "dataset.jsonl"
        (self.folder / "model").mkdir(parents=True, exist_ok=True)
        (self.folder / "model" / "model.safetensors").write_bytes(b"weights" * 100)
        (self.folder / "model" / "config.json").write_text("{}")
        return self.folder / "model"

    def meet(self) -> None:
        self.folder.mkdir(exist_ok=True)
        asyncio.run(_once(self.folder, self.work, self.said.append))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    path.write_bytes(b"W" + path.read_bytes()[1:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b" ")


def test_a_stage_whose_files_are_whole_is_not_run_again(tmp_path):
    stage = Stage(tmp_path / "rl")
    stage.meet()
    stage.meet()
    assert (stage.runs, stage.said) == (1, [])


@pytest.mark.parametrize("harm", [cut, flip, empty, longer, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_of_a_finished_stage_is_noticed_and_made_again(tmp_path, harm, name):
    stage = Stage(tmp_path / "rl")
    stage.meet()
    whole = (tmp_path / "rl" / "model" / name).read_bytes()
    harm(tmp_path / "rl" / "model" / name)
    stage.meet()
    assert stage.runs == 2
    assert stage.said == [
        f"model/{name} in {tmp_path / 'rl'} is damaged or missing: the stage that made it is finished again"
    ]
    assert (tmp_path / "rl" / "model" / name).read_bytes() == whole
    stage.meet()
    assert stage.runs == 2


def test_a_changed_data_set_is_noticed_too(tmp_path):
    stage = Stage(tmp_path / "tirgen", is_file=True)
    stage.meet()
    longer(tmp_path / "tirgen" / "dataset.jsonl")
    stage.meet()
    assert stage.runs == 2


def test_a_folder_that_was_moved_is_still_whole(tmp_path):
    stage = Stage(tmp_path / "rl")
    stage.meet()
    (tmp_path / "rl").rename(tmp_path / "elsewhere")
    moved = Stage(tmp_path / "elsewhere")
    moved.meet()
    assert moved.runs == 0


def test_the_seconds_of_a_stage_are_those_of_all_its_runs(tmp_path):
    stage = Stage(tmp_path / "rl")
    stage.meet()
    done = tmp_path / "rl" / "done.json"
    done.write_text(json.dumps(json.loads(done.read_text()) | {"seconds": 100.0}))
    cut(tmp_path / "rl" / "model" / "model.safetensors")
    stage.meet()
    assert json.loads(done.read_text())["seconds"] >= 100
