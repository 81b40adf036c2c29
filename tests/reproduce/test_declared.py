"""Experiments are data: what they need, in which order, once each, and what is run of it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heard import Heard
from thor_tir import commands
from thor_tir.commands.reproduce import Reproduce, _carry_out
from thor_tir.errors import UsageError
from thor_tir.provenance import input_digests
from thor_tir.reproduce.declared import Job, Layout, Row, Stage, Subject
from thor_tir.reproduce.runner import MARK, folder_name, left, note_done, plan, run_missing
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import EXPERIMENTS, GSM8K, TABLE2, TABLE3, TABLE5


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
        list(run_missing(jobs, execute, Heard()))
    assert len(list(run_missing(jobs, execute, Heard()))) == 2  # it stops behind each stage
    assert ran == ["eval", "eval", "tirgen", "sft", "sft", "eval"]
    assert not list(run_missing(jobs, execute, Heard()))
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
    for damaged in ({"words": 3}, {"words": [], "seconds": float("nan")}, {"words": [], "seconds": -1}):
        (jobs[0].folder / MARK).write_text(json.dumps(damaged), encoding="utf-8")
        with pytest.raises(UsageError, match="damaged"):
            plan(jobs)


def elsewhere(words: Sequence[str], root: Path) -> list[str]:
    return [word.replace(f"{root}/", "../runs/") for word in words]


def test_a_finished_stage_is_known_again_however_its_folders_are_spelled(tmp_path: Path) -> None:
    jobs = layout(tmp_path).jobs([*TABLE2.rows, *GSM8K.rows], [1])
    for job in jobs:
        note_done(replace(job, words=tuple(elsewhere(job.words, tmp_path))), 1.0)
    assert all(each.is_done for each in plan(jobs))
    (chosen,) = [job for job in jobs if job.stage.name == "choose-reward"]
    assert "reward:../runs/nano/seed-1/reward" in elsewhere(chosen.words, tmp_path)
    mixed = [*elsewhere(chosen.words[:-1], tmp_path), "pass-rate-then-reward:/other/nano/seed-1/reward"]
    note_done(replace(chosen, words=tuple(mixed)), 1.0)
    with pytest.raises(UsageError, match="is another stage than"):
        plan([chosen])


def test_a_finished_stage_is_known_again_however_the_model_and_the_data_are_spelled(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subject = replace(SUBJECTS["nano"], actor="models/a", critic="models/a", data="bench")
    jobs = Layout(subject=subject, root=tmp_path, stages=STAGES).jobs(GSM8K.rows, [0])
    for job in jobs:
        note_done(job, 1.0)
    absolute = replace(subject, actor=f"{tmp_path}/models/a", data=f"{tmp_path}/./bench")
    assert all(
        each.is_done for each in plan(Layout(subject=absolute, root=Path(), stages=STAGES).jobs(GSM8K.rows, [0]))
    )
    other = Layout(subject=replace(subject, actor="models/b"), root=tmp_path, stages=STAGES)
    with pytest.raises(UsageError, match="is another stage than"):
        plan(other.jobs(GSM8K.rows, [0]))


def test_a_model_by_its_folder_shares_no_runs_with_a_model_by_name_and_keeps_those_it_has(tmp_path: Path) -> None:
    taken = ["nano", "results"]
    assert folder_name("models/mine", tmp_path, taken=taken) == "mine"
    assert folder_name("Qwen/Qwen3-8B", tmp_path, taken=taken) == "Qwen3-8B"
    assert folder_name("models/mine/sft/..", tmp_path, taken=taken) == "mine"  # not the folder above all runs
    name = folder_name("/some/nano", tmp_path, taken=taken)
    assert name.startswith("nano-")
    assert name != folder_name("/other/nano", tmp_path, taken=taken)
    assert folder_name("/some/results", tmp_path, taken=taken) != "results"
    mine = Layout(subject=replace(SUBJECTS["nano"], actor="/some/nano"), root=tmp_path, stages=STAGES)
    note_done(mine.jobs(TABLE3.rows[2:3], [0])[0], 1.0)
    assert folder_name("/some/nano/", tmp_path, taken=taken) == "nano"  # made before folders had names of their own
    assert folder_name("/other/nano", tmp_path, taken=taken) != "nano"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"preset": "paper", "model": "nano"}, "leave out --model"),
        ({"preset": "paper", "like": "nano", "minutes": 3}, "leave out --like and --minutes"),
        ({"like": "papr", "model": "x/y"}, "--like is one of nano, "),
        ({"like": "paper"}, "nano has options of its own"),
        ({"critic": "x/y", "problems": "x"}, "--critic, --problems: for a model that is given by its folder"),
        ({"preset": "paper", "critic": "x/y"}, "leave out --critic"),
        ({"model": "x/y", "problems": "./none.jsonl"}, "none.jsonl"),
        ({"model": "x/y", "test_problems": "none.jsonl"}, "--test-problems none.jsonl: give a file that is there"),
        ({"model": "x/y", "count": 5}, "--count is the number of --problems"),
        ({"names": ("gsm8k",), "model": "x/y", "problems": "x"}, "gsm8k has problems of its own"),
        ({"data": "bench"}, "none of table3 asks a benchmark"),
        ({"measure": True, "dry_run": True}, "leave out --dry-run"),
    ],
)
def test_options_that_nothing_would_read_are_refused(options, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        Reproduce(**{"names": ("table3",), "output": tmp_path, **options}).run()


def test_an_embedded_model_has_the_packaged_critic_and_another_itself(tmp_path: Path) -> None:
    embedded, other = (Reproduce(names=("table3",), model=model, output=tmp_path) for model in ("nano/actor", "x/y"))
    assert (embedded._subject().critic, other._subject().critic) == ("nano/critic", "x/y")


def test_a_tirgen_that_left_no_sample_is_not_finished(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(commands, "run", lambda *_: None)
    words = ["--output", str(tmp_path)]
    (tmp_path / "dataset.jsonl").write_text("{}\n")
    _carry_out("tirgen", words, minutes=0)
    (tmp_path / "dataset.jsonl").write_text("")
    with pytest.raises(UsageError, match=r"has no sample to train on .* --critic"):
        _carry_out("tirgen", words, minutes=0)


def test_the_presets_of_another_command_are_not_those_of_this_one(capsys) -> None:
    with pytest.raises(SystemExit):
        commands.run("reproduce", ["table3", "--preset", "papr"])
    assert "nano-thinker" not in capsys.readouterr().err


def test_counts_of_one_are_singular(tmp_path: Path, capsys) -> None:
    Reproduce(names=("gsm8k",), preset="paper", seeds=1, output=tmp_path).run()
    assert "9 stages of 1 seed: " in capsys.readouterr().out


def test_options_of_a_model_go_to_a_command_and_to_a_stage_of_it_once() -> None:
    stages = {name: Stage(name=name, command="tirgen", words=("--count", "9")) for name in ("tirgen", "more")}
    subject = Subject(
        name="x", actor="a", critic="c", preset="nano", words={"tirgen": ("--attempts", "2"), "more": ("--count", "99")}
    )
    layout = Layout(subject=subject, root=Path("runs"), stages=stages)
    jobs = layout.jobs([Row(name=name, evaluation=name) for name in stages], [0])
    assert [job.words[:-2] for job in jobs] == [
        ("--count", "9", "--attempts", "2"),
        ("--count", "9", "--attempts", "2", "--count", "99"),
    ]


def test_a_model_by_its_folder_has_a_critic_and_problems_of_its_own(tmp_path: Path, monkeypatch) -> None:
    """Each command reads them by its own option, and is not trained on what its rows are asked."""
    train, asked = tmp_path / "{mine}.jsonl", tmp_path / "test.jsonl"
    for file, number in ((train, 3), (asked, 4)):
        file.write_text(f'{{"question": "What is {number} + {number}?", "answer": "{2 * number}"}}\n', encoding="utf-8")
    ran: dict[str, Any] = {}

    def carry_out(name: str, words: list[str], minutes: float) -> None:
        ran.setdefault(name, commands.parsed(name, words))
        place = Path(words[words.index("--output") + 1])
        place.mkdir(parents=True, exist_ok=True)
        read = [word for word in words if word in (str(train), str(asked))]
        (place / "run.json").write_text(json.dumps({"inputs": input_digests(read)}), encoding="utf-8")

    monkeypatch.setattr("thor_tir.commands.reproduce._carry_out", carry_out)
    monkeypatch.setattr(Reproduce, "_write", lambda *_: None)
    monkeypatch.setattr("thor_tir.commands.reproduce._check_models", lambda *_: None)
    command = Reproduce(
        names=("table3", "figure4"),
        model="models/mine",
        critic="models/other",
        problems=str(train),
        count=7,
        test_problems=str(asked),
        seeds=1,
        output=tmp_path,
    )
    command.run()
    assert (ran["tirgen"].actor, ran["tirgen"].critic) == ("models/mine", "models/other")
    assert (ran["tirgen"].problems, ran["rl"].problems, ran["eval"].problems) == (str(train), str(train), str(asked))
    assert ran["tirgen"].filter.benchmarks == (str(asked),)
    assert (ran["tirgen"].filter.overlap_share, ran["tirgen"].count) == (1, 7)
    assert ran["rl"].rl.validation_problems == str(asked)
    with pytest.raises(UsageError, match="is another stage than"):
        replace(command, critic="").run()
    replace(command, measure=True).run()
    asked.write_text('{"question": "What is 5 + 5?", "answer": "10"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match=r"test.jsonl is another file than when .*eval-base.* was made"):
        command.run()
