"""Experiments are data: what they need, in which order, once each, and what is run of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.progress import Unseen
from thor_tir.reproduce.declared import Job, Layout
from thor_tir.reproduce.runner import MARK, left, note_done, plan, run_missing
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import EXPERIMENTS, TABLE3, TABLE5


class Heard(Unseen):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, title: str, total: int):
        raise AssertionError("stages have their own bars")

    def say(self, text: str) -> None:
        self.lines.append(text)


def layout(root: Path, model: str = "nano") -> Layout:
    return Layout(subject=replace(SUBJECTS[model], data="bench"), root=root, stages=STAGES)


def test_a_stage_follows_what_it_needs_and_stands_once_whatever_asks_for_it(tmp_path: Path) -> None:
    jobs = layout(tmp_path).jobs([*TABLE3.rows, *TABLE5.rows], [0, 1])
    folders = [job.folder for job in jobs]
    assert len(set(folders)) == len(folders)
    names = [job.folder.relative_to(tmp_path / "nano").as_posix() for job in jobs]
    for before, after in (("tirgen", "sft"), ("sft", "rl-joint"), ("rl-joint", "eval-joint-suffix")):
        assert names.index(f"seed-1/{before}") < names.index(f"seed-1/{after}")
    assert names.count("every-seed/eval-base") == 1
    assert names.index("seed-0/eval-joint") < names.index("seed-1/tirgen")  # a seed is finished before the next


def test_words_name_the_folders_of_the_stages_they_need(tmp_path: Path) -> None:
    (job,) = [j for j in layout(tmp_path).jobs(TABLE3.rows, [3]) if j.stage.name == "rl-episode"]
    place = tmp_path / "nano" / "seed-3"
    assert job.words[: job.words.index("--seed")] == ("--preset", "nano", "--model", f"{place}/sft/model")
    assert job.words[-2:] == ("--output", f"{place}/rl-episode")


def test_every_experiment_is_made_of_known_stages_and_compares_rows_that_it_has(tmp_path: Path) -> None:
    for experiment in EXPERIMENTS.values():
        layout(tmp_path).jobs(experiment.rows, [0])
        names = {row.name for row in experiment.rows}
        assert {name for pair in experiment.pairs for name in (pair.ours, pair.theirs)} <= names


def test_only_what_is_missing_is_run_and_a_stage_that_broke_off_is_run_again(tmp_path: Path) -> None:
    jobs = layout(tmp_path).jobs(TABLE3.rows[:3], [0])
    ran: list[str] = []

    def execute(command: str, words: Sequence[str]) -> None:
        ran.append(command)
        if command == "sft" and ran.count("sft") == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_missing(jobs, execute, Heard(), among=jobs)
    run_missing(jobs, execute, Heard(), among=jobs)
    assert ran == ["eval", "eval", "tirgen", "sft", "sft", "eval"]
    run_missing(jobs, execute, Heard(), among=jobs)
    assert len(ran) == 6


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("smollm2-135m", "about 42 s left and 2 stages of unknown length"),  # 30 + 12 in seed 1; two cold starts
        ("nano", "about 82 s left"),  # and 20 s for each of the two, as they usually take
    ],
)
def test_the_time_that_is_left_is_that_of_the_same_stages_in_other_seeds(tmp_path: Path, model: str, told: str) -> None:
    jobs = layout(tmp_path, model).jobs(TABLE3.rows[2:3], [0, 1])
    assert [job.name for job in jobs][:3] == ["seed 0, tirgen", "seed 0, sft", "seed 0, eval-sft"]
    note_done(jobs[0], 30.0)
    note_done(jobs[2], 12.0)
    todo = [each for each in plan(jobs) if not each.is_done]
    assert left(todo) == told


def test_a_folder_of_another_stage_is_refused_with_both_commands(tmp_path: Path) -> None:
    jobs = layout(tmp_path).jobs(TABLE3.rows[2:3], [0])
    note_done(jobs[0], 1.0)
    other = Job(stage=jobs[0].stage, seed=0, folder=jobs[0].folder, words=(*jobs[0].words, "--count", "7"))
    with pytest.raises(UsageError, match="is another stage than"):
        plan([other])
    (jobs[0].folder / MARK).write_text(json.dumps({"words": 3}), encoding="utf-8")
    with pytest.raises(UsageError, match="damaged"):
        plan(jobs)
