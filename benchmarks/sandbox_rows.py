"""How fast programs run here, against other ways of running them, in bursts that take turns.

A burst is a number of programs one after the other (or, with two workers, two at a time); a row's figures are medians
over its bursts, so that a busy moment of the machine falls on few of them. The peers: a cold interpreter, bubblewrap
around one, a bare fork of the same template that ends at once (what no sandbox of this kind can beat), the same
template without any layer, and a pool of interpreters that is not isolated at all.
"""

import asyncio
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from thor_tir.sandbox.jail import template
from thor_tir.sandbox.local.preload import HEAVY, LEAN
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

PRINT = "print(2**10)"
PANDAS = "import pandas, scipy.stats; print(2**10)"
"""Runs in the template that has the heavy libraries loaded."""
SYMPY = "import sympy; print(sympy.factorint(1234567890))"
_BARE = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from thor_tir.sandbox.jail import template
template.preload(sys.argv[2].split(","), -1)
template.settle()
template.collapse(os.open("/proc", os.O_RDONLY))
for line in sys.stdin:
    began = time.perf_counter()
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    print(time.perf_counter() - began, flush=True)
"""

Burst = Callable[[str, int], Awaitable[list[float]]]
"""Runs a program so many times and returns the seconds that each took."""


@dataclass(kw_only=True)
class Row:
    """One way of running programs."""

    name: str
    burst: Burst
    count: int
    """Programs in a burst."""
    programs: tuple[str, ...] = (PRINT, SYMPY)
    absent: str = ""
    """Why it could not be measured here."""
    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    """Per program and burst, what each run took."""
    rates: dict[str, list[float]] = field(default_factory=dict)
    """Per program and burst, programs a second."""

    async def take(self, program: str) -> None:
        """One burst."""
        began = time.perf_counter()
        taken = await self.burst(program, self.count)
        self.rates.setdefault(program, []).append(len(taken) / (time.perf_counter() - began))
        self.seconds.setdefault(program, []).append(taken)

    def rate(self, program: str) -> float:
        """Programs a second, the median burst."""
        return statistics.median(self.rates[program])

    def quantile_ms(self, program: str, share: float) -> float:
        """Milliseconds within which `share` of a burst's programs were done, the median burst."""
        return 1e3 * statistics.median(sorted(burst)[int(share * (len(burst) - 1))] for burst in self.seconds[program])


def of_sandbox(sandbox: LocalSandbox, width: int) -> Burst:
    """`width` programs at a time through a sandbox."""

    async def burst(program: str, count: int) -> list[float]:
        async def lane(share: int) -> list[float]:
            return [await _timed(sandbox.run(program)) for _ in range(share)]

        lanes = await asyncio.gather(*(lane(count // width) for _ in range(width)))
        return [seconds for lane_ in lanes for seconds in lane_]

    return burst


async def _timed(work: Awaitable[Any]) -> float:
    began = time.perf_counter()
    result = await work
    assert result.ran, result
    return time.perf_counter() - began


def of_command(command: Sequence[str]) -> Burst:
    """A fresh process for every program, which is the command's last argument."""

    async def burst(program: str, count: int) -> list[float]:
        taken = []
        for _ in range(count):
            began = time.perf_counter()
            subprocess.run([*command, program], stdout=subprocess.PIPE, check=True)  # noqa: ASYNC221  # one at a time
            taken.append(time.perf_counter() - began)
        return taken

    return burst


def of_bare_fork(process: "subprocess.Popen[str]") -> Burst:
    """Fork, exit and wait in a process that has imported what templates import."""

    async def burst(program: str, count: int) -> list[float]:
        assert process.stdin is not None
        assert process.stdout is not None
        taken = []
        for _ in range(count):
            process.stdin.write("\n")
            process.stdin.flush()
            taken.append(float(process.stdout.readline()))
        return taken

    return burst


def of_pool(workers: int, *, is_fresh: bool) -> Burst:
    """`exec` in interpreters that are not isolated; `is_fresh` starts a pool for every batch of one, as the paper's
    released code does."""

    async def burst(program: str, count: int) -> list[float]:
        taken = []
        pool = None if is_fresh else _pool(workers)
        for _ in range(count):
            began = time.perf_counter()
            with pool or _pool(workers) as current:
                current.apply(execute, (program,))
                taken.append(time.perf_counter() - began)
                if not is_fresh:
                    taken[1:] = [_seconds(current, program) for _ in range(count - 1)]
                    return taken
        return taken

    return burst


def _pool(workers: int) -> Any:
    return multiprocessing.get_context("spawn").Pool(workers)


def _seconds(pool: Any, program: str) -> float:
    began = time.perf_counter()
    pool.apply(execute, (program,))
    return time.perf_counter() - began


def execute(program: str) -> str:
    """What a worker of a pool does with a program."""
    with redirect_stdout(StringIO()) as printed:
        exec(program, {})
    return printed.getvalue()


async def contenders(stack: AsyncExitStack) -> list[Row]:
    """All ways of running programs, ready to take turns until `stack` ends. Raises SandboxUnavailable."""
    one, two, open_ = [
        await stack.enter_async_context(LocalSandbox(config))
        for config in (
            LocalSandboxConfig(workers=1),
            LocalSandboxConfig(workers=2),
            LocalSandboxConfig(workers=1, strongest="none", least="none"),
        )
    ]
    source = str(Path(template.__file__).parents[3])

    def template_of(modules: Sequence[str]) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", _BARE, source, ",".join(modules)]
        process = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env={"OMP_NUM_THREADS": "1"})
        stack.callback(process.communicate)
        return process

    bare, heavy = template_of(LEAN), template_of((*LEAN, *HEAVY))  # before anything is measured
    return [
        Row(name="cold interpreter (python -I)", burst=of_command([sys.executable, "-I", "-c"]), count=4),
        _bubblewrap(),
        Row(name="bare fork of the template", burst=of_bare_fork(bare), count=50, programs=(PRINT,)),
        Row(name="bare fork of the heavy template", burst=of_bare_fork(heavy), count=50, programs=(PRINT,)),
        Row(name="the template without layers", burst=of_sandbox(open_, 1), count=50),
        Row(name=f"level {one.level}, 1 worker", burst=of_sandbox(one, 1), count=50, programs=(PRINT, SYMPY, PANDAS)),
        Row(name=f"level {two.level}, 2 workers", burst=of_sandbox(two, 2), count=100),
        Row(name="pool, not isolated", burst=of_pool(1, is_fresh=False), count=50),
        Row(name="pool for every batch of one", burst=of_pool(2, is_fresh=True), count=1, programs=(SYMPY,)),
    ]


async def measure(bursts: int, *, say: Callable[[str], None]) -> list[Row]:
    """All rows. Takes about `bursts` times ten seconds. Raises SandboxUnavailable."""
    async with AsyncExitStack() as stack:
        rows = await contenders(stack)
        for number in range(bursts):
            say(f"burst {number + 1} of {bursts}")
            for row in rows:
                for program in row.programs:
                    await row.take(program)
        return rows


def _bubblewrap() -> Row:
    program = shutil.which("bwrap") or "bwrap"
    jail = [program, "--ro-bind", "/", "/", "--unshare-all", "--die-with-parent", sys.executable, "-I", "-c"]
    row = Row(name="bubblewrap, cold", burst=of_command(jail), count=4)
    try:
        subprocess.run([*jail, "pass"], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        row.programs, row.absent = (), "not installed (Debian package bubblewrap)"
    except subprocess.CalledProcessError as fault:
        row.programs, row.absent = (), f"does not run here: {fault.stderr.strip()}"
    return row


def ratios(rows: Sequence[Row]) -> list[tuple[str, float, str]]:
    """What the figures come to: a claim, its ratio, and the goal."""
    by_name = {row.name.partition(",")[0]: row for row in rows}
    cold, bare = by_name["cold interpreter (python -I)"], by_name["bare fork of the template"]
    heavy = by_name["bare fork of the heavy template"]
    open_, fresh = by_name["the template without layers"], by_name["pool for every batch of one"]
    one, two = (row for row in rows if row.name.startswith("level"))
    return [
        ("sympy: programs a second over a cold interpreter", one.rate(SYMPY) / cold.rate(SYMPY), ">= 80"),
        ("print: programs a second over a cold interpreter", one.rate(PRINT) / cold.rate(PRINT), ">= 2.5"),
        ("print: p50 over a bare fork", one.quantile_ms(PRINT, 0.5) / bare.quantile_ms(PRINT, 0.5), "<= 1.7"),
        ("bare fork: heavy template over lean", heavy.quantile_ms(PRINT, 0.5) / bare.quantile_ms(PRINT, 0.5), "<= 1.5"),
        ("pandas over print: p50", one.quantile_ms(PANDAS, 0.5) / one.quantile_ms(PRINT, 0.5), "<= 1.5"),
        ("print: p50 over no layers", one.quantile_ms(PRINT, 0.5) / open_.quantile_ms(PRINT, 0.5), "<= 1.2"),
        ("print: two workers over one", two.rate(PRINT) / one.rate(PRINT), ">= 1.8"),
        ("sympy: two workers over one", two.rate(SYMPY) / one.rate(SYMPY), ">= 1.8"),
        ("sympy: over a pool for every batch of one", one.rate(SYMPY) / fresh.rate(SYMPY), ">= 50"),
    ]
