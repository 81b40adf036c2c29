"""Things measured in turns, so that what else the machine does falls on all alike; medians and paired ratios."""

import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

Measure = Callable[[], float]
"""Does the work once and returns its rate: more is better."""

Clock = Literal["wall", "cpu"]
"""On a busy machine the processor time of this process is the steadier one; it counts no waiting."""


def now(clock: Clock) -> float:
    """Seconds by one of the clocks."""
    return perf_counter() if clock == "wall" else process_time()


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One side over all rounds."""

    name: str
    rates: tuple[float, ...]
    ratio: float
    """Median over the rounds of this side's rate over that of the last side in the same round."""

    @property
    def median(self) -> float:
        """Rate of the middle round."""
        return statistics.median(self.rates)


def interleaved(sides: Mapping[str, Measure], *, rounds: int) -> list[Measured]:
    """Measure every side once a round, in an order that turns with each round; ratios are to the last side.

    A round that nothing records goes first: it pays for imports, allocations and caches.
    """
    names = list(sides)
    rates: dict[str, list[float]] = {name: [] for name in names}
    for name in names:
        sides[name]()
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            rates[name].append(sides[name]())
    return rows_of(rates)


def rows_of(rates: Mapping[str, Sequence[float]]) -> list[Measured]:
    """What was measured in turns, with ratios to the last side."""
    names = list(rates)
    peer = rates[names[-1]]
    return [
        Measured(
            name=name,
            rates=tuple(rates[name]),
            ratio=statistics.median(ours / theirs for ours, theirs in zip(rates[name], peer, strict=True)),
        )
        for name in names
    ]


def machine() -> str:
    """The class of this machine, without anything that names it."""
    import torch

    flags = _cpu_line("flags").split()
    vector = next(
        (name for flag, name in (("amx_tile", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2")) if flag in flags), ""
    )
    cores = f"{os.cpu_count()} cores, {torch.get_num_threads()} threads used"
    return f"{_cpu_line('model name') or platform.machine()} {vector}, {cores}, torch {version('torch')}"


def _cpu_line(field: str) -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(field)), "")


def show(title: str, unit: str, rows: Sequence[Measured], notes: Sequence[str] = ()) -> None:
    """Print the table of one comparison."""
    table = Table(title=title, title_justify="left", box=SIMPLE)
    table.add_column("")
    for column in (unit, "lowest", "highest", f"over {rows[-1].name}"):
        table.add_column(column, justify="right")
    for row in rows:
        cells = [f"{rate:,.4g}" for rate in (row.median, min(row.rates), max(row.rates))]
        table.add_row(row.name, *cells, f"{row.ratio:.2f}x")
    console = Console(width=140)
    console.print(table)
    for note in (*notes, machine()):
        console.print(note, highlight=False)


def _plain(value: Any) -> Any:
    """A record as a table, and a path as text."""
    return str(value) if isinstance(value, Path) else asdict(value)


def save(path: Path | None, record: Mapping[str, Any]) -> None:
    """Write a comparison as JSON, with the machine it ran on."""
    if path is not None:
        path.write_text(json.dumps({"machine": machine(), **record}, indent=1, default=_plain) + "\n", encoding="utf-8")
