"""An experiment in pieces: a bound on the time of a stage, tables of what is there, benchmarks where they are."""

import signal
from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.commands import reproduce as command
from thor_tir.errors import UsageError
from thor_tir.reproduce.declared import Layout
from thor_tir.reproduce.runner import OutOfTime, measurable, note_done, within
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import GSM8K, LADDER


def layout(root: Path, **changed: str) -> Layout:
    return Layout(subject=replace(SUBJECTS["smollm2-135m"], **changed), root=root, stages=STAGES)


def test_a_stage_that_takes_longer_than_its_time_is_ended_and_a_shorter_one_is_not() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(OutOfTime), within(1e-5):
        signal.pause()
    for minutes in (0, 60):
        with within(minutes):
            pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_table_of_unfinished_runs_holds_the_rows_that_are_finished_in_every_seed_and_names_the_others(tmp_path):
    found = layout(tmp_path)
    for seed, last in ((0, 5), (1, 2)):
        for row in LADDER.rows[:last]:
            for job in found.jobs([row], [seed]):
                note_done(job, 1.0)
    one, two = (measurable(LADDER, found, range(seeds)) for seeds in (1, 2))
    assert [row.name for row in one.rows] == [row.name for row in LADDER.rows]  # the best of eight takes RL's attempts
    assert one == LADDER
    assert [row.name for row in two.rows] == ["base, without tools", "base, with tools"]
    assert [(pair.ours, pair.theirs) for pair in two.pairs] == [("base, with tools", "base, without tools")]
    assert two.notes[-1].startswith("Not measured yet: cold start, RL, both levels")


def test_finished_rows_are_measured_in_every_seed_that_has_them(tmp_path, monkeypatch) -> None:
    found = layout(tmp_path)
    for seed, last in ((0, 4), (1, 4), (2, 3)):
        for row in LADDER.rows[:last]:
            for job in found.jobs([row], [seed]):
                note_done(job, 1.0)
    wrote = []
    record = lambda self, each, place, seeds, reporter: wrote.append((len(each.rows), list(seeds)))  # noqa: E731
    monkeypatch.setattr(command.Reproduce, "_write", record)
    command.Reproduce(names=("ladder",), model="smollm2-135m", seeds=3, measure=True, output=tmp_path).run()
    assert wrote == [(len(LADDER.rows) - 1, [0, 1])]  # all but self-correction


def test_a_stage_that_is_out_of_time_ends_the_call_with_a_sentence(tmp_path, monkeypatch, capsys) -> None:
    asked = []

    def carry_out(name, words, minutes):
        asked.append((name, minutes))
        if name == "tirgen":
            raise OutOfTime

    monkeypatch.setattr(command, "_carry_out", carry_out)
    monkeypatch.setattr(command.Reproduce, "_write", lambda self, each, *rest: asked.append(len(each.rows)))
    command.Reproduce(names=("ladder",), model="smollm2-135m", seeds=2, minutes=30, output=tmp_path).run()
    assert asked == [("eval", 30), ("eval", 30), ("tirgen", 30), 2]
    assert "has used its 30 minutes: the same command goes on with it" in " ".join(capsys.readouterr().out.split())


def test_a_benchmark_is_asked_in_the_folder_that_is_given(tmp_path) -> None:
    with pytest.raises(UsageError, match="give --data, the folder with its files"):
        layout(tmp_path).jobs(GSM8K.rows, [0])
    (first, *_) = layout(tmp_path, data="bench").jobs(GSM8K.rows, [0])
    assert first.words[first.words.index("--data") + 1] == "bench"
