"""Stages that are not done yet, run one after the other. Each is a command of THOR in a folder of its own.

A stage that has ended leaves `reproduced.json` in its folder: its words and the seconds that it took. Nothing else is
kept: a stage that was killed is run again by the same command, which continues what its folder holds.
"""

import json
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from time import perf_counter

from thor_tir.ending import ended_by
from thor_tir.errors import UsageError
from thor_tir.progress import Reporter, duration
from thor_tir.reproduce.declared import Experiment, Job, Layout
from thor_tir.storage.journal import make_folder, write_atomically

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


def run_missing(jobs: Sequence[Job], execute: Execute, reporter: Reporter, *, among: Sequence[Job]) -> None:
    """Run the stages that are not done, in their order, and say before each how long the rest of all may take."""
    for job in jobs:
        if _mark(job) is not None:
            continue
        todo = [each for each in plan(among) if not each.is_done]
        reporter.say(f"stage {len(among) - len(todo) + 1} of {len(among)}, {job.name}; {left(todo)}")
        began = perf_counter()
        execute(job.stage.command, job.words)
        note_done(job, perf_counter() - began)


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


def _mark(job: Job) -> float | None:
    """Seconds that a finished stage took; None where it is not finished."""
    path: Path = job.folder / MARK
    if not path.exists():
        return None
    try:
        found: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        words, seconds = found["words"], float(str(found["seconds"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged: {error}; delete it, and the stage is looked at again") from error
    if words != [job.stage.command, *job.words]:
        raise UsageError(
            f"{job.folder} was made by `thor {' '.join(map(str, words)) if isinstance(words, list) else words}`, which "
            f"is another stage than `thor {' '.join([job.stage.command, *job.words])}`; give another --output"
        )
    return seconds


def _mean(values: Sequence[float] | None, otherwise: float | None) -> float | None:
    return fmean(values) if values else otherwise
