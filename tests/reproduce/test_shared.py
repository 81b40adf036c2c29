"""Several processes that run one experiment divide its stages."""

import errno
import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import sleep

import pytest

from heard import Heard
from thor_tir.commands import parsed
from thor_tir.commands import reproduce as command
from thor_tir.errors import UsageError
from thor_tir.reproduce.declared import Job, Layout
from thor_tir.reproduce.precision import in_float32
from thor_tir.reproduce.runner import MARK, note_done, run_missing
from thor_tir.reproduce.stages import STAGES, SUBJECTS
from thor_tir.reproduce.tables import TABLE3
from thor_tir.storage.record_lock import held

FORK = multiprocessing.get_context("fork")


def jobs_of(root: Path, seeds: Sequence[int]) -> list[Job]:
    return Layout(subject=SUBJECTS["nano"], root=root, stages=STAGES).jobs(TABLE3.rows, seeds)


def notes(log: Path) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def noting(log: Path, jobs: Sequence[Job], seconds: float) -> Callable[[str, Sequence[str]], None]:
    """Writes down who runs which stage, and whether all that it needs was there."""
    by_words = {job.words: job for job in jobs}

    def execute(command: str, words: Sequence[str]) -> None:
        job = by_words[tuple(words)]
        there = all((folder / MARK).exists() for folder in job.needs)
        with log.open("a") as file:
            file.write(f"{os.getpid()} {job.folder} {there}\n")
        sleep(seconds)

    return execute


def run_all(jobs: Sequence[Job], log: Path, seconds: float) -> None:
    for _ in run_missing(jobs, noting(log, jobs, seconds), Heard(), wait=0.01):
        pass


def started(jobs: Sequence[Job], log: Path, seconds: float) -> multiprocessing.process.BaseProcess:
    process = FORK.Process(target=run_all, args=(jobs, log, seconds))
    process.start()
    return process


def test_two_processes_run_every_stage_once_and_none_before_what_it_needs(tmp_path: Path) -> None:
    jobs, log = jobs_of(tmp_path, [0, 1]), tmp_path / "log"
    both = [started(jobs, log, 0.02) for _ in range(2)]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert sorted(folder for _, folder, _ in notes(log)) == sorted(str(job.folder) for job in jobs)
    assert {there for _, _, there in notes(log)} == {"True"}
    assert {int(who) for who, _, _ in notes(log)} == {process.pid for process in both}


def test_the_stage_of_a_process_that_is_killed_is_run_by_the_other(tmp_path: Path) -> None:
    jobs, log = jobs_of(tmp_path, [0]), tmp_path / "log"
    held = started(jobs, log, 3600)
    while not notes(log):
        sleep(0.01)
    other = started(jobs, log, 0)
    while len(notes(log)) < 3:  # the stages that need nothing that is missing
        sleep(0.01)
    assert held.pid is not None
    os.kill(held.pid, signal.SIGKILL)
    other.join()
    held.join()
    assert other.exitcode == 0
    ran = [folder for _, folder, _ in notes(log)]
    assert sorted(ran) == sorted([ran[0], *(str(job.folder) for job in jobs)])
    assert {int(who) for who, _, _ in notes(log)[1:]} == {other.pid}


def test_who_waits_for_another_process_says_so_once_and_goes_on_when_it_ends(tmp_path: Path) -> None:
    jobs, log, heard = jobs_of(tmp_path, [0])[:1], tmp_path / "log", Heard()
    other = started(jobs, log, 0.3)
    while not notes(log):
        sleep(0.01)
    turns = list(run_missing(jobs, noting(log, jobs, 0), heard, wait=0.01))
    other.join()
    assert len(turns) > 2
    assert heard.lines == [f"waits for other processes, which run {jobs[0].name}"]
    assert len(notes(log)) == 1


@pytest.mark.parametrize("finished_elsewhere", [(0,), (1,), (0, 1)])
def test_tables_are_written_of_the_seeds_that_are_finished_whoever_ran_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_elsewhere: tuple[int, ...]
) -> None:
    written: list[list[int]] = []
    monkeypatch.setattr(command, "_carry_out", lambda name, words, minutes: None)
    monkeypatch.setattr(command.Reproduce, "_write", lambda self, each, layout, seeds, *rest: written.append(seeds))
    for job in jobs_of(tmp_path, finished_elsewhere):
        note_done(job, 1.0)
    command.Reproduce(names=("table3",), seeds=2, output=tmp_path).run()
    assert written == [list(finished_elsewhere), [0, 1]][len(finished_elsewhere) - 1 :]


def test_a_table_of_fewer_seeds_never_replaces_one_of_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One process measures the first seed, slowly, while another one ends the second."""
    log, jobs = tmp_path / "log", jobs_of(tmp_path, [0, 1])
    for job in jobs[:-1]:
        note_done(job, 1.0)

    def slowly(self: command.Reproduce, each: object, layout: Layout, seeds: Sequence[int], *rest: object) -> None:
        with log.open("a") as file:
            file.write(f"begins {len(seeds)}\n")
        sleep(0.5 if len(seeds) == 1 else 0)
        (tmp_path / "table").write_text(str(len(seeds)))

    monkeypatch.setattr(command, "_carry_out", lambda name, words, minutes: None)
    monkeypatch.setattr(command.Reproduce, "_write", slowly)
    slow = FORK.Process(target=command.Reproduce(names=("table3",), seeds=2, output=tmp_path).run)
    with held(jobs[-1].folder.parent / f".{jobs[-1].folder.name}.lock"):
        slow.start()
        while not notes(log):
            sleep(0.01)
        note_done(jobs[-1], 1.0)
        quick = FORK.Process(target=command.Reproduce(names=("table3",), seeds=2, output=tmp_path).run)
        quick.start()
        slow.join()
        quick.join()
    assert (slow.exitcode, quick.exitcode) == (0, 0)
    assert (tmp_path / "table").read_text() == "2"


def test_fewer_seeds_than_are_there_measure_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[list[int]] = []
    monkeypatch.setattr(command.Reproduce, "_write", lambda self, each, layout, seeds, *rest: written.append(seeds))
    for job in jobs_of(tmp_path, [0, 1, 4]):
        note_done(job, 1.0)
    for measure in (False, True):
        command.Reproduce(names=("table3",), seeds=1, output=tmp_path, measure=measure).run()
    assert written == [[0, 1, 4], [0, 1, 4]]


def test_the_time_of_a_stage_that_was_stopped_counts(tmp_path: Path) -> None:
    (job,) = jobs_of(tmp_path, [0])[:1]
    calls: list[str] = []

    def execute(name: str, words: Sequence[str]) -> None:
        calls.append(name)
        sleep(0.2)
        if len(calls) < 3:
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            list(run_missing([job], execute, Heard()))
    list(run_missing([job], execute, Heard()))
    assert json.loads((job.folder / MARK).read_text())["seconds"] >= 0.6


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("thor_tir.storage.record_lock.fcntl.lockf", refuse)
    with pytest.raises(UsageError, match=r"cannot be locked \(No locks available\)"):
        list(run_missing(jobs_of(tmp_path, [0])[:1], lambda name, words: None, Heard()))


@pytest.mark.parametrize(("was_half", "is_half"), [(True, False), (False, True), (True, True), (False, False)])
def test_a_stage_goes_on_in_the_precision_in_which_it_was_begun(tmp_path: Path, was_half: bool, is_half: bool) -> None:
    small = SUBJECTS["smollm2-135m"]
    halves = {True: small, False: replace(small, words=in_float32(small))}
    (job,) = Layout(subject=halves[is_half], root=tmp_path, stages=STAGES).jobs(TABLE3.rows[2:3], [0])[:1]
    job.folder.mkdir(parents=True)
    options = {"resources": {"engine": {"bf16": was_half, "name": "local"}}}
    (job.folder / "config.json").write_text(json.dumps(options), encoding="utf-8")
    asked: list[Sequence[str]] = []
    list(run_missing([job], lambda name, words: asked.append(words), Heard()))
    (words,) = asked
    assert ("--engine.no-bf16" in words) is not was_half
    assert parsed("tirgen", list(words)).resources.engine.bf16 is was_half
