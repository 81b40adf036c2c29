"""The sandbox against other ways of running programs, in one table.

    python benchmarks/sandbox.py [--bursts 7]

Rows take turns in short bursts, so that a busy moment of the machine falls on all of them; every figure is the median
over the bursts. `sandbox_rows.py` beside this file says what each row does.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.box import SIMPLE
from rich.table import Table

from rounds import save
from sandbox_rows import PRINT, SYMPY, measure, ratios
from thor_tir.console import ConsoleReporter


@dataclass(frozen=True, kw_only=True)
class SandboxBench:
    """Measure the sandbox against a cold interpreter, a bare fork, no isolation, and two kinds of pools, in turns."""

    bursts: int = 7
    """Turns of every row; each figure is the median over them. One takes about ten seconds."""
    out: Path | None = None
    """Where the ratios go as JSON, besides the table."""

    def run(self) -> None:
        """Measure and print one table and the ratios."""
        reporter = ConsoleReporter()
        rows = asyncio.run(measure(self.bursts, say=reporter.say))
        table = Table("", "print /s", "p50 ms", "p99 ms", "sympy /s", "p50 ms", "p99 ms", box=SIMPLE)
        for row in rows:
            cells = []
            for program in (PRINT, SYMPY):
                if program in row.programs:
                    figures = (row.rate(program), row.quantile_ms(program, 0.5), row.quantile_ms(program, 0.99))
                    cells += [f"{figure:,.1f}" for figure in figures]
                else:
                    cells += ["-"] * 3
            table.add_row(f"{row.name}: {row.absent}" if row.absent else row.name, *cells)
        reporter.console.print(table)
        found = ratios(rows)
        save(self.out, {"ratios": {claim: ratio for claim, ratio, _ in found}})
        for claim, ratio, goal in found:
            reporter.say(f"{ratio:8.2f}x  {claim} (goal {goal})")


if __name__ == "__main__":
    tyro.cli(SandboxBench).run()
