"""Whole runs in processes that may be killed, see `forks.py`."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

from forks import Forks, serve
from thor_tir.progress import Unseen

SIZES = {"small": (8, 4, 1, 4), "larger": (24, 12, 2, 12)}
"""Problems for TIRGen, for RL, rounds of RL, test problems."""


def config_of(size: str):
    from thor_tir.app.config import quickstart

    num_tirgen, num_rl, num_rounds, num_test = SIZES[size]
    whole = quickstart(deterministic=True)
    rl, evaluation = whole.rl, whole.eval
    return replace(
        whole,
        num_tirgen=num_tirgen,
        num_rl=num_rl,
        no_tools_samples=1,
        sft=replace(whole.sft, num_train_epochs=1, train_batch_size=4),
        rl=replace(
            rl,
            num_rounds=num_rounds,
            problems_per_round=4,
            episode=replace(rl.episode, num_generations=4),
            step=replace(rl.step, num_generations=4),
        ),
        eval=replace(evaluation, num_problems=num_test, samples=1, best_of=2),
        resources=replace(whole.resources, concurrency=8),  # several chunks a stage, so that kills fall between them
    )


class Quiet(Unseen):
    @contextmanager
    def stage(self, title: str, total: int):
        yield self

    def say(self, text: str) -> None:
        pass


class Runs:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._forks = Forks(Path(__file__))
        self.close = self._forks.close

    def run(self, size: str, folder: Path, is_time_to_die: Callable[[], bool] = lambda: False) -> bool:
        """Run until the end, or kill at once when it is time; whether it was killed."""
        (pid,) = self._forks.start(size, folder)
        while not self._forks.have_ended(within_s=0.002):
            if is_time_to_die():
                os.kill(pid, signal.SIGKILL)
                break
        return self._forks.were_killed(folder)

    def run_with_kills(self, size: str, folder: Path, rng: Random, *, most: int) -> int:
        """Kill and restart until it ends, each time after some more writes; how often it was killed."""
        for kills in range(most):
            if not self.run(size, folder, after_writes(folder, rng.randint(1, 4))):
                return kills
        assert not self.run(size, folder)
        return most


def after_writes(folder: Path, number: int) -> Callable[[], bool]:
    """Whether so many changes have been seen since this was called."""
    seen, events = written(folder), 0

    def is_time() -> bool:
        nonlocal seen, events
        now = written(folder)
        events += now != seen
        seen = now
        return events >= number

    return is_time


def at_lines(path: Path, number: int) -> Callable[[], bool]:
    """Whether a journal holds so many lines."""
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= number


def written(folder: Path) -> list[tuple[str, int]]:
    """Journals with their sizes, and checkpoints."""
    found = []
    for stage in ("tirgen", "sft", "rl", "eval"):
        found += [(str(path), path.stat().st_size) for path in sorted((folder / stage).glob("*.jsonl"))]
        found += [(str(path), 0) for path in sorted((folder / stage / "checkpoints").glob("0*"))]
    return found


if __name__ == "__main__":
    from thor_tir.app.stages.quickstart import run_quickstart

    serve(lambda _, size, folder: asyncio.run(run_quickstart(config_of(size), Path(folder), Quiet())))
