"""What a trained token costs against the number of rows and their length: straight lines, printed with the fit.

    python benchmarks/scaling.py [--model nano/actor]

  rows     rows of one length, more and more of them in one optimiser step: seconds = fixed + per_token * tokens
  lengths  as many tokens, in fewer and longer rows: per token, the matrix products stay and attention grows with the
           length, so seconds per token = base + per_position * length

`deviation` is the largest distance of a point from its line, as a share of the point. A trainer that pads to the
longest row, keeps all logits or does work by the square of the batch would bend the first line; only attention tilts
the second.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import Clock, machine, now, save
from subjects import parameters, subject
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how the cost of training grows."""

    model: str = "nano/actor"
    counts: tuple[int, ...] = (8, 16, 32, 64, 128)
    """Rows of a step, each of `length` tokens."""
    length: int = 128
    lengths: tuple[int, ...] = (32, 64, 128, 256, 512)
    """Tokens of a row, in steps of `tokens` tokens."""
    tokens: int = 8192
    micro_batch_tokens: int = 2048
    rounds: int = 3
    threads: int = 1
    clock: Clock = "wall"
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A straight line through measured points."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    slope: float
    offset: float
    deviation: float
    """Largest distance of a point, as a share of it."""


def rows_of(count: int, length: int, vocabulary: int) -> list[TrainingSample]:
    """Random rows whose second half is trained; no two begin alike."""
    draw = random.Random(count * 10_000 + length)
    trained = tuple(place >= length // 2 for place in range(length))
    return [
        TrainingSample(
            id=str(number),
            token_ids=tuple(draw.randrange(vocabulary) for _ in range(length)),
            trained=trained,
            old_logprobs=tuple(-3.0 if t else float("nan") for t in trained),
            terms=(Term(name="episode", formula="surrogate", advantage=1.0 if number % 2 else -1.0),),
        )
        for number in range(count)
    ]


def fitted(name: str, x: Sequence[float], y: Sequence[float]) -> Line:
    """Least squares of relative distances, so that small points count as much as large ones."""
    weights = 1 / np.asarray(y)
    slope, offset = np.polyfit(x, y, 1, w=weights)
    away = max(abs(offset + slope * a - b) / b for a, b in zip(x, y, strict=True))
    return Line(name=name, x=tuple(x), y=tuple(y), slope=float(slope), offset=float(offset), deviation=float(away))


def seconds(learner: Learner, works: Sequence[list[TrainingSample]], options: Options) -> list[float]:
    """Median seconds of an optimiser step over each of the works, measured in turns after one that is not counted."""
    taken: list[list[float]] = [[] for _ in works]
    for number in range(options.rounds + 1):
        for place, rows in enumerate(works):
            began = now(options.clock)
            learner.step(rows)
            if number:
                taken[place].append(now(options.clock) - began)
    return [median(times) for times in taken]


def show_lines(lines: Sequence[Line], options: Options, model: Any) -> None:
    """Print points and lines."""
    title = f"Cost of training, {options.model} ({parameters(model) / 1e6:.2f} M parameters)"
    table = Table(title=title, title_justify="left", box=SIMPLE)
    for column in ("", "at", "measured", "on the line"):
        table.add_column(column, justify="right")
    for line in lines:
        for x, y in zip(line.x, line.y, strict=True):
            table.add_row(line.name, f"{x:g}", f"{y:.4g}", f"{line.offset + line.slope * x:.4g}")
        table.add_row(line.name, "fit", f"{line.offset:.3g} + {line.slope:.3g} x", f"deviation {line.deviation:.0%}")
    console = Console(width=140)
    console.print(table)
    console.print(machine(), highlight=False)


def main(options: Options) -> None:
    """Measure both lines and print."""
    torch.set_num_threads(options.threads)
    model, tokenizer = subject(options.model)
    config = LearnerConfig(learning_rate=1e-6, micro_batch_tokens=options.micro_batch_tokens)
    learner = Learner(model, config)
    by_count = [rows_of(count, options.length, len(tokenizer)) for count in options.counts]
    by_length = [rows_of(options.tokens // length, length, len(tokenizer)) for length in options.lengths]
    taken = seconds(learner, [*by_count, *by_length], options)
    tokens = [float(count * options.length) for count in options.counts]
    per_token = [
        1e6 * t / (len(rows) * length)
        for t, rows, length in zip(taken[len(tokens) :], by_length, options.lengths, strict=True)
    ]
    lines = [
        fitted("seconds by tokens of a step", tokens, taken[: len(tokens)]),
        fitted("us a token by length of rows", [float(n) for n in options.lengths], per_token),
    ]
    show_lines(lines, options, model)
    save(options.out, {"options": asdict(options), "parameters": parameters(model), "lines": lines})


if __name__ == "__main__":
    main(tyro.cli(Options))
