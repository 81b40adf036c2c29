"""What a command costs before it works: the help of every command, five pairs graded, a sandbox ready, a first token.

    python benchmarks/startup.py [--rounds 5]

Each figure is of fresh processes with warm caches: the least over the rounds, since whatever else the machine does can
only add. Processor time is of the process and its children; a first token is timed until it is on the screen.
"""

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from rounds import machine, save
from thor_tir.commands.table import COMMANDS

PAIRS = "".join(
    f'{{"id": "{number}", "kind": "answer", "pred": "{pred}", "gold": "{gold}"}}\n'
    for number, (pred, gold) in enumerate([("1/2", "0.5"), ("78", "77"), ("0.25", "1/4"), ("12", "12"), ("3", "4")])
)
QUESTION = "Find the Greatest Common Divisor (GCD) of these numbers: 436, 576. Give only the GCD as your final answer."
SANDBOX = """
import asyncio
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
async def first():
    async with LocalSandbox(LocalSandboxConfig(workers=1)) as sandbox:
        print((await sandbox.run("print(6 * 7)")).stdout)
asyncio.run(first())
"""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how long commands take to begin."""

    rounds: int = 3
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One thing that is begun."""

    name: str
    seconds: float
    """From the start of the process to its end, or to the first token."""
    cpu: float
    """Processor time."""
    goal: str


def finished(words: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and processor time of a process that runs to its end."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, words
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def first_token(folder: Path) -> tuple[float, float]:
    """Seconds and processor time until `thor solve` has written something on a terminal beyond the question."""
    screen, terminal = pty.openpty()
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "thor_tir", "solve", QUESTION], cwd=folder, stdout=terminal)
    os.close(terminal)
    seen = b""
    while b"common divisor" not in seen.replace(QUESTION.encode(), b"").lower() and b"I " not in seen:
        seen += os.read(screen, 4096)
    seconds = time.perf_counter() - began
    ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")
    process.kill()
    process.wait()
    os.close(screen)
    return seconds, cpu


def least(work: Callable[[], tuple[float, float]], rounds: int) -> tuple[float, float]:
    """Least seconds and least processor time over the rounds, after one that is not counted."""
    taken = [work() for _ in range(rounds + 1)][1:]
    return min(s for s, _ in taken), min(c for _, c in taken)


def main(options: Options) -> None:
    """Measure and print."""
    starts = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pairs.jsonl").write_text(PAIRS)
        helps = {
            command: least(lambda c=command: finished(["-m", "thor_tir", *c.split(), "--help"], folder), options.rounds)
            for command in ("", *COMMANDS)
        }
        for command, (seconds, cpu) in sorted(helps.items(), key=lambda item: -item[1][1]):
            starts.append(
                Start(
                    name=f"thor {command} --help".replace("  ", " "), seconds=seconds, cpu=cpu, goal="1 s of processor"
                )
            )
        works = {
            ("thor grade of five pairs", "0.5 s"): lambda: finished(
                ["-m", "thor_tir", "grade", "--jsonl", "pairs.jsonl", "--output", "verdicts.jsonl"], folder
            ),
            ("sandbox ready, one program run", "1 s"): lambda: finished(["-c", SANDBOX], folder),
            ("thor solve on nano, first token", "4 s"): lambda: first_token(folder),
        }
        for (title, goal), work in works.items():
            seconds, cpu = least(work, options.rounds)
            starts.append(Start(name=title, seconds=seconds, cpu=cpu, goal=goal))
    table = Table(title="Start-up", title_justify="left", box=SIMPLE)
    for head in ("", "seconds", "processor time", "goal"):
        table.add_column(head, justify="right" if head else "left")
    for start in starts:
        table.add_row(start.name, f"{start.seconds:.2f}", f"{start.cpu:.2f}", start.goal)
    console = Console(width=140)
    console.print(table)
    console.print(machine(), highlight=False)
    save(options.out, {"options": asdict(options), "starts": [asdict(start) for start in starts]})


if __name__ == "__main__":
    main(tyro.cli(Options))
