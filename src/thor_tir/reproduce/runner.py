"""Stages that are not done yet, run one after the other. Each is a command of THOR in a folder of its own.

A stage that has ended leaves `reproduced.json` in its folder: its words and the seconds that it took. Nothing else is
kept: a stage that was killed is run again by the same command, which continues what its folder holds. Processes that
share the folders divide the stages: each claims one that is not done and whose needs are.
"""

import json
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import inf
from os.path import abspath
from pathlib import Path
from statistics import fmean
from time import perf_counter, sleep

from thor_tir.ending import ended_by
from thor_tir.errors import UsageError
from thor_tir.problem import digest
from thor_tir.progress import Reporter, duration
from thor_tir.provenance import input_digests, recorded_inputs
from thor_tir.reproduce.declared import Experiment, Job, Layout
from thor_tir.reproduce.precision import IN_FLOAT32, as_begun
from thor_tir.storage.journal import make_folder, write_atomically
from thor_tir.storage.record_lock import held

MARK = "reproduced.json"
"""File that a finished stage leaves in its folder."""

Execute = Callable[[str, Sequence[str]], None]
"""Carries out a command of THOR with its words. Raises whatever it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A stage, and what is known of it before it is run."""

    job: Job
    """The stage."""
    is_done: bool
    """True where it was finished before."""
    seconds: float | None
    """Time that it took, or that the same stage took in other seeds, or usually takes; None where nobody knows."""


def plan(jobs: Sequence[Job]) -> list[Planned]:
    """What is done of these stages, and how long the rest may take. Raises UsageError for a stage of other words."""
    marks = {job.folder: _mark(job) for job in jobs}
    known: dict[str, list[float]] = {}
    for job in jobs:
        if (mark := marks[job.folder]) is not None:
            known.setdefault(job.stage.name, []).append(mark)
    return [
        Planned(
            job=job,
            is_done=(mark := marks[job.folder]) is not None,
            seconds=mark if mark is not None else _mean(known.get(job.stage.name), job.seconds),
        )
        for job in jobs
    ]


class OutOfTime(KeyboardInterrupt):
    """A stage has used the time of this call, which ends it as an interruption does."""


@contextmanager
def within(minutes: float) -> Iterator[None]:
    """Raises OutOfTime once so many minutes are over, in the main thread; 0 sets no bound."""

    with ended_by(signal.SIGALRM, OutOfTime):
        signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def measurable(experiment: Experiment, layout: Layout, seeds: Sequence[int]) -> Experiment:
    """The experiment with those rows alone that are finished in all of these seeds; its notes name the others."""
    unfinished = {row.name for row in experiment.rows if any(_mark(job) is None for job in layout.jobs([row], seeds))}
    if not unfinished:
        return experiment
    missing = f"Not measured yet: {', '.join(row.name for row in experiment.rows if row.name in unfinished)}."
    return replace(
        experiment,
        rows=tuple(row for row in experiment.rows if row.name not in unfinished),
        pairs=tuple(pair for pair in experiment.pairs if not {pair.ours, pair.theirs} & unfinished),
        notes=(*experiment.notes, missing),
    )


def run_missing(jobs: Sequence[Job], execute: Execute, reporter: Reporter, *, wait: float = 2.0) -> Iterator[None]:
    """Run the stages that are not done, in their order, and say before each how long the rest of all may take.

    It stops behind each, so that who asks can look at what there is. Where every stage that could be run is run by
    other processes, it looks again every `wait` seconds, and stops then too.
    """
    awaited: list[str] = []
    while todo := [job for job in jobs if _mark(job) is None]:
        unfinished = {job.folder for job in todo}
        ready = [job for job in todo if unfinished.isdisjoint(job.needs)]
        if any(_ran(job, jobs, execute, reporter) for job in ready):
            awaited = []
        else:
            names = [job.name for job in ready]
            if names != awaited:
                reporter.say(f"waits for other processes, which run {'; '.join(names)}")
            awaited = names
            sleep(wait)
        yield


def _ran(job: Job, among: Sequence[Job], execute: Execute, reporter: Reporter) -> bool:
    """Run a stage; False where another process runs it. The lock's file holds the seconds of calls that broke off."""
    with held(job.folder.parent / f".{job.folder.name}.lock") as file:
        if file is not None and _mark(job) is None:  # another process may just have ended it
            todo = [each for each in plan(among) if not each.is_done]
            reporter.say(f"stage {len(among) - len(todo) + 1} of {len(among)}, {job.name}; {left(todo)}")
            before, began = sum(float(line) for line in file if _is_number(line)), perf_counter()
            try:
                execute(job.stage.command, as_begun(job))
            finally:
                file.write(f"{perf_counter() - began:.3f}\n")
            note_done(job, before + perf_counter() - began)
        return file is not None


def _is_number(line: str) -> bool:
    with suppress(ValueError):
        return 0 <= float(line) < inf
    return False


def note_done(job: Job, seconds: float) -> None:
    """Record that a stage has ended."""
    make_folder(job.folder)
    words = [job.stage.command, *job.words]
    write_atomically(job.folder / MARK, json.dumps({"words": words, "seconds": seconds}, indent=1) + "\n")


def left(planned: Sequence[Planned]) -> str:
    """The time that stages may take, as far as it is known."""
    known = [each.seconds for each in planned if each.seconds is not None]
    unknown = len(planned) - len(known)
    parts = [f"about {duration(sum(known))} left"] if known else []
    parts += (
        [f"{unknown} stages of unknown length" if unknown > 1 else "one stage of unknown length"] if unknown else []
    )
    return " and ".join(parts) or "nothing left"


def folder_name(model: str, root: Path, *, taken: Sequence[str]) -> str:
    """The name of the folder, below `root`, with the runs of a model that is given by its folder or hub name.

    It is the model's own name, and for one that is `taken` that and some letters that go with its place, so that two
    models never share a folder; runs that this model had already in a folder of its bare name stay there.
    """
    place = Path(abspath(model))
    begun = (_read(mark)[0] for mark in root.glob(f"{place.name}/seed-*/tirgen/{MARK}"))
    actors = [words[words.index("--actor") + 1] for words in begun if "--actor" in words[:-1]]
    if place.name not in taken or any(_are_one(actor, model) for actor in actors):
        return place.name
    return f"{place.name}-{digest(str(place))[:8]}"


def _read(path: Path) -> tuple[list[str], float]:
    """The words of a finished stage and the seconds that it took. Raises UsageError for a damaged file."""
    try:
        found: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        words, seconds = found["words"], float(str(found["seconds"]))
        if not isinstance(words, list):
            raise ValueError("its words are no list")
        if not 0 <= seconds < inf:
            raise ValueError(f"no stage takes {seconds} seconds")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error}; delete it, and the stage is looked at again") from error
    return list(map(str, words)), seconds


def _mark(job: Job) -> float | None:
    """Seconds that a finished stage took; None where it is not finished."""
    path: Path = job.folder / MARK
    if not path.exists():
        return None
    words, seconds = _read(path)
    if not _is_same(words, job):
        raise UsageError(
            f"{job.folder} was made by `thor {' '.join(words)}`, which is another stage than "
            f"`thor {' '.join([job.stage.command, *job.words])}`; give another --output"
        )
    return seconds


def check_files(jobs: Sequence[Job], files: Sequence[str]) -> None:
    """Raise UsageError for a finished stage that read one of the files when it held something else."""
    now = {file: set(input_digests([file]).values()) for file in files if Path(file).is_file()}
    for job in jobs:
        read = [file for file in now if file in job.words]
        before = set(recorded_inputs(job.folder).values()) if read and _mark(job) is not None else set()
        if before and (changed := [file for file in read if not now[file] <= before]):
            raise UsageError(f"{changed[0]} is another file than when {job.folder} was made; give another --output")


def _is_same(old: Sequence[str], job: Job) -> bool:
    """True for the words of this stage, however its folders, the model's and others are spelled.

    The folder of all runs may have been elsewhere; it is one folder in all of the words. The precision may be that of
    another machine.
    """
    apart = set(IN_FLOAT32.values())
    old, new = ([word for word in words if word not in apart] for words in (old, [job.stage.command, *job.words]))
    spellings = set()
    model = job.folder.parts[-3]
    root = str(job.folder).removesuffix(str(Path(*job.folder.parts[-3:])))
    ours = re.compile(f"(.*?){re.escape(root)}({re.escape(model)}/(?:seed-[0-9]+|every-seed)/.*)")
    for was, now in zip(old, new, strict=False):
        own = ours.fullmatch(now)
        if own is not None and was.startswith(own[1]) and was.endswith(own[2]):
            spellings.add(was.removeprefix(own[1]).removesuffix(own[2]))
        elif not _are_one(was, now):
            return False
    return len(old) == len(new) and len(spellings) < 2


def _are_one(one: str, other: str) -> bool:
    """True for two spellings of one place, perhaps behind the same word and a colon, and for equal words."""
    (head, _, place), (head_of_other, _, other_place) = one.rpartition(":"), other.rpartition(":")
    is_place = bool(place and other_place) and Path(place).resolve() == Path(other_place).resolve()
    return one == other or (head == head_of_other and is_place)


def _mean(values: Sequence[float] | None, otherwise: float | None) -> float | None:
    return fmean(values) if values else otherwise
