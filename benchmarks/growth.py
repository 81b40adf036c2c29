"""Cost against size: run folders and data sets of ten thousand, a hundred thousand and a million rows, and trajectories
of ever more tool calls; seconds and peak memory of each command, and their ratios for each tenfold.

    python benchmarks/growth.py [--sizes 10000 100000 1000000] [--only show view] [--folder /tmp/growth]

Every figure is of a process of its own. `user` is processor time, `peak` the largest resident memory; `bytes a row` is
the growth of the peak over the growth of the rows between the two largest sizes. Linear work takes ten times as long on
ten times the rows, at most; the start of the command, about half a second, makes it less on few.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import machine, save
from synthetic_runs import EVAL, SAMPLES, data_set, grown_evaluation, grown_rl, rl_command, seed_runs
from thor_tir.errors import UsageError

OPEN = "from thor_tir.storage.journal import Journal; from pathlib import Path; j = Journal(Path({path!r})); "
JOURNAL = OPEN.format(path="eval/attempts/problems.jsonl")
LOAD = """
import sys
from random import Random
from thor_tir.problems.sources import load_problems, Split
from thor_tir.rl.collect import problems_of_round
from thor_tir.rl.config import RLConfig
found = load_problems({name!r}, split=Split.TRAIN, count=None, seed=0)
assert len(found.problems) == {rows}, len(found.problems)
print(problems_of_round(found.problems, 3, RLConfig())[0].id)
"""
CALLS = """
import asyncio, sys
sys.path.insert(0, {here!r})
from long_trajectory import grow
grow({calls})
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how cost grows with the size of what is there."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Rows of run folders and data sets."""
    calls: tuple[int, ...] = (10, 100, 1000)
    """Tool calls of a trajectory."""
    only: tuple[str, ...] = ()
    """Beginnings of the names of what is measured; all without any."""
    folder: Path = Path(gettempdir()) / "thor-growth"
    """Place of the folders, which are made once and stay; a million rows take about nine gigabytes."""
    most_gb: float = 12.0
    """Address space of a measured process; one that wants more fails, and the table says so."""
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One process."""

    seconds: float
    """From its start to its end."""
    user: float
    """Processor time."""
    peak_mb: float
    """Largest resident memory."""
    failed: str = ""
    """Last line of a process that failed."""


def python(code: str) -> list[str]:
    """A command that runs a program."""
    return ["-c", code]


def command(*words: str) -> list[str]:
    """A command of ours."""
    return ["-m", "thor_tir", *words]


RUNS: Mapping[str, list[str]] = {
    "journal: open": python(JOURNAL),
    "journal: open, read every row": python(JOURNAL + "print(sum(1 for row in j))"),
    "eval: the same command again": command(*EVAL),
    "eval select: vote, pass-rate": command("eval", "select", "eval", "--select", "vote", "pass-rate"),
    "show: the list": command("show", "eval"),
    "show: failed calls": command("show", "eval", "--failed"),
    "show: one trajectory": command("show", "eval", "gcd-7/1"),
    "view: export": command("view", "eval", "--export", "page.html"),
    "view: server, all read": command("view", "eval", "--port", "0"),
    "rl: one more round": command(*rl_command(2)),
}
"""What is measured on a run folder."""


def measured(words: Sequence[str], folder: Path, most_gb: float, *, serves: bool = False) -> Cost:
    """Run a process to its end, or, of a server, until it has answered everything."""
    limit = f'ulimit -v {int(most_gb * 2**20)}; exec "$@"'
    began = time.perf_counter()
    with subprocess.Popen(
        ["bash", "-c", limit, "bash", sys.executable, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    ) as process:
        assert process.stdout is not None
        said: list[str] = []
        if serves:
            said.append(process.stdout.readline())
            visited(re.sub(r"\s", "", said[0].partition(": ")[2]))
            process.terminate()
        said += process.stdout.readlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    failed = "" if process.returncode == 0 or serves else (said or [""])[-1].strip()[-100:] or str(process.returncode)
    return Cost(
        seconds=time.perf_counter() - began,
        user=used.ru_utime + used.ru_stime,
        peak_mb=used.ru_maxrss / 1024,
        failed=failed,
    )


def visited(address: str) -> None:
    """Wait until a page's server has read all rows, and ask what a page asks; prints the seconds of each answer."""

    def asked(path: str) -> tuple[Any, float]:
        began = time.perf_counter()
        with urllib.request.urlopen(f"{address}{path}", timeout=300) as answer:
            return json.loads(answer.read()), time.perf_counter() - began

    while asked("api/state")[0]["runs"][0]["unread"]:
        pass
    pages = {
        "outcomes": "api/0/outcomes",
        "facets": "api/0/facets",
        "list": "api/0/trajectories",
        "failed": "api/0/trajectories?call=failed&sort=longest",
        "one": "api/0/trajectory?file=attempts/problems&key=gcd-7/1",
    }
    taken = {name: asked(path)[1] for name, path in pages.items()}
    print("  server: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in taken.items()), flush=True)


def made(options: Options, size: int) -> Path:
    """The folder of one size, made where it is not there."""
    folder = options.folder / str(size)
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        seed_runs(options.folder / "seed")
        grown_evaluation(options.folder / "seed", folder, size)
        grown_rl(options.folder / "seed", folder / "training", size)
        for ending in ("jsonl", "parquet"):
            data_set(folder / f"set.{ending}", size)
        (folder / "done").touch()
    return folder


def run_costs(name: str, words: list[str], options: Options) -> dict[int, Cost]:
    """One command on the folders of all sizes."""
    costs = {}
    for size in options.sizes:
        folder = made(options, size)
        more = ["--num-problems", str(size // SAMPLES)] if name.startswith("eval: ") else []
        if name.startswith("rl: "):
            folder = folder / "training"
            shutil.rmtree(folder / "kept", ignore_errors=True)
            shutil.copytree(folder / "rl", folder / "kept")
        costs[size] = measured([*words, *more], folder, options.most_gb, serves="server" in name)
        if name.startswith("rl: "):  # as it was before the round
            shutil.rmtree(folder / "rl")
            (folder / "kept").rename(folder / "rl")
        tell(name, size, costs[size])
    return costs


def tell(name: str, size: int, cost: Cost) -> None:
    """One line as soon as it is known."""
    figures = f"{cost.seconds:.1f} s, {cost.user:.1f} s of processor time, {cost.peak_mb:,.0f} MB"
    print(f"{name}, {size:,}: {figures} {cost.failed}", flush=True)


def set_costs(ending: str, options: Options) -> dict[int, Cost]:
    """Load, validate, join repeated questions and draw a round from data sets of all sizes."""
    costs = {}
    for size in options.sizes:
        code = LOAD.format(name=f"set.{ending}", rows=size)
        costs[size] = measured(python(code), made(options, size), options.most_gb)
        tell(ending, size, costs[size])
    return costs


def call_costs(options: Options) -> dict[int, Cost]:
    """A trajectory of ever more calls, of a policy that answers at once: sampled, journaled, read, flattened."""
    costs = {}
    for calls in options.calls:
        code = CALLS.format(here=str(Path(__file__).parent), calls=calls)
        costs[calls] = measured(python(code), Path.cwd(), options.most_gb)
        tell("calls", calls, costs[calls])
    return costs


def table_of(costs: Mapping[str, Mapping[int, Cost]]) -> Table:
    """Seconds and memory by size, with the ratio of the two largest sizes."""
    shown = Table(title="Cost against size", title_justify="left", box=SIMPLE)
    for head in ("", "rows", "seconds", "processor time", "peak MB", "time, tenfold", "bytes a row"):
        shown.add_column(head, justify="right" if head else "left")
    for name, by_size in costs.items():
        before: tuple[int, Cost] | None = None
        for size, cost in by_size.items():
            cells = [f"{cost.seconds:.1f}", f"{cost.user:.1f}", f"{cost.peak_mb:,.0f}"]
            if cost.failed:
                cells = [cost.failed, "", f"{cost.peak_mb:,.0f}"]
            if before is not None and not cost.failed and not before[1].failed:
                grown = (cost.peak_mb - before[1].peak_mb) * 2**20 / (size - before[0])
                cells += [f"{cost.user / before[1].user:.1f}x", f"{grown:,.0f}"]
            shown.add_row(name if before is None else "", f"{size:,}", *cells)
            before = size, cost
    return shown


def main(options: Options) -> None:
    """Measure and print."""
    options.folder.mkdir(parents=True, exist_ok=True)
    works: dict[str, Callable[[], dict[int, Cost]]] = {
        name: lambda name=name, words=words: run_costs(name, words, options)  # type: ignore[misc]
        for name, words in RUNS.items()
    }
    works["data set: JSONL"] = lambda: set_costs("jsonl", options)
    works["data set: Parquet"] = lambda: set_costs("parquet", options)
    works["calls of one trajectory"] = lambda: call_costs(options)
    chosen = {n: work for n, work in works.items() if not options.only or n.startswith(options.only)}
    if not chosen:
        raise UsageError(f"nothing is called {', '.join(options.only)}; known: {', '.join(works)}")
    costs = {name: work() for name, work in chosen.items()}
    console = Console(width=140)
    console.print(table_of(costs))
    console.print(machine(), highlight=False)
    save(
        options.out,
        {"options": asdict(options), "costs": {n: {s: asdict(c) for s, c in by.items()} for n, by in costs.items()}},
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
