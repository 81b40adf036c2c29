"""All claims about speed in one table: goal, measured, peer, machine class, date; what docs/performance.md shows.

    python benchmarks/run_all.py [--only sandbox startup] [--quick] [--again]

Runs what has no result in `--folder` yet, each in a process of its own, and goes on behind one that fails or whose peer
is not installed; a run that was ended goes on where it was. `--again` measures anew. Rows of what was not run keep what
docs/results/performance.json has of them, with its date. `scripts/quote_results.py` then brings the page up to date.
"""

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from claims import CLAIMS, WORKS, Claim, command
from rounds import machine
from thor_tir.errors import UsageError
from thor_tir.provenance import commit
from thor_tir.storage.journal import write_atomically

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results" / "performance.json"
HEAD = ("claim", "goal", "measured", "beside", "", "machine", "date")
NEVER = ("not run", "", "", "")
"""Measured, verdict, machine and date of a claim that nobody measured."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure claims, and write one table."""

    only: tuple[str, ...] = ()
    """Names of what is run; all without any."""
    quick: bool = False
    """Fewer rounds and smaller sizes; the table says so."""
    again: bool = False
    """Measure anew what has a result already."""
    folder: Path = ROOT / "runs" / "benchmarks"
    """Place of the result of each work, with date and commit."""
    minutes: float = 60
    """Most minutes of one work."""
    results: Path = RESULTS
    """File of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The end of one work."""

    status: Literal["measured", "failed", "skipped"]
    """Way in which it ended."""
    why: str = ""
    """Reason of one that did not measure."""
    found: Any = None
    """What it found."""
    date: str = ""
    """Day."""
    commit: str | None = None
    """Commit of the sources."""
    machine: str = ""
    """Class of the machine."""
    quick: bool = False
    """True for fewer rounds and smaller sizes."""


def done(name: str, options: Options) -> Done:
    """Run a work to its end."""
    work, out = WORKS[name], options.folder / f"{name}.out.json"
    about = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "commit": commit(), "machine": machine(), "quick": options.quick}
    if work.needs and importlib.util.find_spec(work.needs) is None:
        return Done(status="skipped", why=f"{work.needs} is not installed", **about)
    if not (ROOT / work.place).exists():
        return Done(status="skipped", why=f"there is no {work.place}", **about)
    line = command(work, str(out), quick=options.quick)
    place = ROOT / "benchmarks" if work.saves else ROOT
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    began = perf_counter()
    try:
        ran = subprocess.run(
            line, cwd=place, capture_output=True, text=True, timeout=60 * options.minutes, env=environment
        )
    except subprocess.TimeoutExpired:
        return Done(status="failed", why=f"took more than {options.minutes:g} minutes", **about)
    (options.folder / f"{name}.txt").write_text(ran.stdout + ran.stderr)
    last = (ran.stdout.strip() or ran.stderr.strip()).rpartition("\n")[2]
    if ran.returncode:
        return Done(status="failed", why=last[-200:] or f"exit status {ran.returncode}", **about)
    found = json.loads(out.read_text()) if work.saves else {"seconds": perf_counter() - began, **counted(last)}
    return Done(status="measured", found=found, **about)


def counted(line: str) -> Mapping[str, int]:
    """Tests that passed and failed, as the last line of pytest says."""
    numbers = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed)", line)}
    return {"passed": 0, "failed": 0} | numbers


def kept(name: str, options: Options) -> Done | None:
    """The result of an earlier run of the same extent, if there is one."""
    path = options.folder / f"{name}.json"
    found = Done(**json.loads(path.read_text())) if path.exists() else None
    return found if found is not None and found.status == "measured" and found.quick <= options.quick else None


def row_of(claim: Claim, ended: Done | None, before: Mapping[str, Sequence[str]]) -> list[str]:
    """A row of the table: as it was measured now, or as it stands there from before."""
    number = None if ended is None or ended.status != "measured" else read(claim, ended.found)
    if ended is None or number is None:
        measured, verdict, place, date = before.get(claim.title, NEVER)
    else:
        measured = f"{number:,.3g}{claim.unit}" if abs(number) < 1000 else f"{number:,.0f}{claim.unit}"
        verdict = "met" if claim.is_met(number) else "missed" + f": {claim.why}" * bool(claim.why)
        kind, _, cores = ended.machine.partition(", ")
        place = f"{kind.replace(' ', '-')}/{cores.partition(' ')[0]}" + "/few-rounds" * ended.quick
        date = ended.date
    return [claim.title, claim.goal, measured, claim.peer, verdict, place, date]


def read(claim: Claim, found: Any) -> float | None:
    """The number of a claim; None where a run of fewer parts than all did not measure it."""
    try:
        return claim.read(found)
    except (LookupError, ValueError, StopIteration):
        return None


def earlier(path: Path) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
    """The file of the table, and of each claim what was measured, the verdict, the machine and the date."""
    whole = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"schema": 1, "tables": {}}
    rows = whole["tables"].get("claims", {"rows": []})["rows"]
    return whole, {row[0]: (row[2], row[4], row[5], row[6]) for row in rows}


def main(options: Options) -> None:
    """Run, print, and write the table."""
    if unknown := [name for name in options.only if name not in WORKS]:
        raise SystemExit(f"nothing is called {', '.join(unknown)}; known: {', '.join(WORKS)}")
    options.folder.mkdir(parents=True, exist_ok=True)
    console, ends = Console(width=180), dict[str, Done]()
    for name in WORKS:
        known = kept(name, options)
        if options.only and name not in options.only:
            if known is not None:
                ends[name] = known
            continue
        if known is None or options.again:
            console.print(f"{name} ...", highlight=False)
            known = done(name, options)
            write_atomically(options.folder / f"{name}.json", json.dumps(asdict(known), indent=1) + "\n")
        ends[name] = known
        if known.status != "measured":
            console.print(f"{name} was {known.status}: {known.why}", highlight=False)
    whole, before = earlier(options.results)
    rows = [row_of(claim, ends.get(claim.work), before) for claim in CLAIMS]
    titles = {claim.title for claim in CLAIMS}
    others = [row for row in whole["tables"].get("claims", {"rows": []})["rows"] if row[0] not in titles]
    whole["tables"]["claims"] = {"head": list(HEAD), "rows": [*rows, *others]}
    whole["figures"] = whole.get("figures", {}) | {
        work: next(row[2].replace("×", " times") for claim, row in zip(CLAIMS, rows, strict=True) if claim.work == work)
        for work in ("rollout", "trl")
        if work in ends and ends[work].status == "measured"
    }
    whole["made"] = {"command": "python benchmarks/run_all.py", "date": f"{datetime.now(UTC):%Y-%m-%d}"} | {
        "machine": whole.get("made", {}).get("machine", machine())
    }
    write_atomically(options.results, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    table = Table(title="Claims", title_justify="left", box=SIMPLE)
    for head in HEAD:
        table.add_column(head)
    for row in whole["tables"]["claims"]["rows"]:
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    try:
        main(tyro.cli(Options))
    except UsageError as error:
        raise SystemExit(str(error)) from error
