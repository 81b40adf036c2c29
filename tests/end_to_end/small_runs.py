"""Whole runs in processes that may be killed. As a program: runs each `size folder` line in a child.

The children are forks of one process that has imported everything and computed nothing, so a restart costs no imports.
"""

import asyncio
import os
import select
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

SIZES = {"small": (8, 4, 1, 4), "larger": (24, 12, 2, 12)}
"""Problems for TIRGen, for RL, rounds of RL, test problems."""


def config_of(size: str):
    from thor_tir.recipes.settings import quickstart

    num_tirgen, num_rl, num_rounds, num_test = SIZES[size]
    whole = quickstart(deterministic=True)
    rl, evaluation = whole.rl, whole.eval
    return replace(
        whole,
        num_tirgen=num_tirgen,
        num_rl=num_rl,
        words_samples=1,
        sft=replace(whole.sft, epochs=1, batch_rows=4),
        rl=replace(
            rl,
            num_rounds=num_rounds,
            problems_per_round=4,
            episode=replace(rl.episode, group_size=4),
            step=replace(rl.step, group_size=4),
        ),
        eval=replace(evaluation, num_problems=num_test, samples=1, best_of=2),
        machinery=replace(whole.machinery, concurrency=8),  # several chunks a stage, so that kills fall between them
    )


class Quiet:
    def advance(self, units: int = 1) -> None:
        pass

    def note(self, line: str) -> None:
        pass

    @contextmanager
    def stage(self, title: str, total: int):
        yield self

    def say(self, text: str) -> None:
        pass


class Runs:
    """Starts runs and kills them."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def close(self) -> None:
        self._server.communicate()

    def run(self, size: str, folder: Path, is_time_to_die: Callable[[], bool] = lambda: False) -> bool:
        """Run until the end, or kill at once when it is time; whether it was killed."""
        self._server.stdin.write(f"{size} {folder}\n")
        pid = int(self._server.stdout.readline())
        while not select.select([self._server.stdout], [], [], 0.002)[0]:
            if is_time_to_die():
                os.kill(pid, signal.SIGKILL)  # its parent has not waited for it yet, so the id is still its own
                break
        code = int(self._server.stdout.readline())
        assert code in (0, -signal.SIGKILL), f"the run in {folder} ended with {code}; its traceback is on stderr"
        return code != 0

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


def _serve() -> None:
    from thor_tir.recipes.quickstart import run

    for line in sys.stdin:
        size, _, folder = line.strip().partition(" ")
        pid = os.fork()
        if not pid:
            code = 1
            try:
                sys.stdin.close()
                os.dup2(2, 1)
                asyncio.run(run(config_of(size), Path(folder), Quiet()))
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status, flush=True)


if __name__ == "__main__":
    _serve()
