"""Does memory grow with the token budget and not with the number of rows? Peak of a training step in fresh processes.

    python benchmarks/memory.py [--model nano/actor]

Each point is a process of its own that takes one optimiser step and says how far its resident memory rose above what it
was before: with the budget fixed and ever more rows, and with the rows fixed and ever larger budgets.
"""

import json
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import machine, save
from scaling import rows_of
from subjects import subject
from thor_tir.learner.learner import Learner, LearnerConfig


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure the peak memory of training."""

    model: str = "nano/actor"
    counts: tuple[int, ...] = (16, 64, 256, 1024)
    """Rows, at the smallest budget."""
    budgets: tuple[int, ...] = (2048, 4096, 8192, 16384)
    """Tokens of a micro-batch, at the second-largest number of rows."""
    length: int = 128
    threads: int = 1
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""
    point: tuple[int, int] | None = None
    """Measure these rows and this budget alone, in this process, and print the bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One process."""

    rows: int
    budget: int
    peak_bytes: int
    """Above what the process held before the step."""


def here(rows: int, budget: int, options: Options) -> int:
    """Bytes by which one step raises the peak of this process."""
    torch.set_num_threads(options.threads)
    model, tokenizer = subject(options.model)
    learner = Learner(model, LearnerConfig(learning_rate=1e-6, micro_batch_tokens=budget))
    learner.step(rows_of(1, 32, len(tokenizer)))  # allocates gradients and the optimiser's moments
    work = rows_of(rows, options.length, len(tokenizer))
    before = _peak()
    learner.step(work)
    return _peak() - before


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(rows: int, budget: int, options: Options) -> Point:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--model", options.model, "--length", str(options.length)]
    command += ["--point", str(rows), str(budget), "--threads", str(options.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Point(rows=rows, budget=budget, peak_bytes=json.loads(done.stdout.splitlines()[-1]))


def main(options: Options) -> None:
    """Measure all points and print."""
    if options.point is not None:
        print(here(*options.point, options))
        return
    points = [apart(count, options.budgets[0], options) for count in options.counts]
    points += [apart(options.counts[-2], budget, options) for budget in options.budgets[1:]]
    title = f"Peak memory of a training step, {options.model}"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("rows", "tokens", "budget", "peak MB", "KB a token of the budget"):
        table.add_column(column, justify="right")
    for p in points:
        cells = (f"{p.peak_bytes / 1e6:,.0f}", f"{p.peak_bytes / p.budget / 1e3:.1f}")
        table.add_row(str(p.rows), f"{p.rows * options.length:,}", f"{p.budget:,}", *cells)
    console = Console(width=140)
    console.print(table)
    console.print(machine(), highlight=False)
    save(options.out, {"options": asdict(options), "points": points})


if __name__ == "__main__":
    main(tyro.cli(Options))
