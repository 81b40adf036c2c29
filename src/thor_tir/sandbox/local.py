"""Runs programs on this host: a queue over template processes, each of which forks a fresh child per program.

The asyncio side of `sandbox/template.py`; `sandbox/confinement.py` lists what is stopped and what is not. It uses no
threads and blocks the event loop for no longer than it takes to start a process; the clock that ends programs is the
template's, so a busy event loop makes answers late but never wrong.

A template that dies or falls silent is replaced and its program run once more; after that it is a machine fault.
A program that keeps its template's uid can bring this about on purpose by killing the template.
"""

import asyncio
import logging
import os
import sys
from dataclasses import dataclass, field
from typing import Any, Self

from thor_tir.execution import ExecutionResult
from thor_tir.faults import SandboxUnavailable, UsageError
from thor_tir.sandbox.interpretation import cpu_limit_s, interpret
from thor_tir.sandbox.link import TemplateLost, TemplateProcess, launch
from thor_tir.sandbox.protocol import Limits

_LOG = logging.getLogger(__name__)

BOOT_S = 60.0
"""A template that has not finished its imports by then is given up."""


@dataclass(frozen=True, kw_only=True)
class LocalSandboxConfig:
    """How many programs run at once, with what they start, and what they may use."""

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Programs that run at the same time."""
    limits: Limits = field(default_factory=Limits)
    """For programs that come without their own."""
    modules: tuple[str, ...] = (
        *("math", "cmath", "fractions", "decimal", "random", "statistics", "itertools", "functools", "collections"),
        *("heapq", "bisect", "re", "numpy", "numpy.random", "numpy.linalg", "sympy"),
    )
    """Imported before any program runs. One that is not installed is skipped and named in the log."""
    python: str = sys.executable
    """Interpreter of the programs. For root to give programs an unprivileged uid, everybody must be able to read it."""
    grace_s: float = 10.0
    """A template that has not answered this long after its program's time was up is replaced."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}; a sandbox needs at least one")


class LocalSandbox:
    """A `Sandbox` on this host, usable between `async with` and its end, from one event loop."""

    def __init__(self, config: LocalSandboxConfig | None = None) -> None:
        self.config = config or LocalSandboxConfig()
        self._workers: list[_Worker] = []
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()
        self._recovering: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Start every worker. Raises SandboxUnavailable when one cannot be started."""
        self._workers = [_Worker(self.config) for _ in range(self.config.workers)]
        try:
            boots = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
        except asyncio.CancelledError:
            await self.close()
            raise
        for failure in (boot for boot in boots if isinstance(boot, BaseException)):
            await self.close()
            raise failure
        for worker in self._workers:
            self._idle.put_nowait(worker)
        _LOG.info("sandbox: %d workers, level %s", len(self._workers), self.level)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def level(self) -> str:
        """How programs are confined, e.g. `process+memory+nonet`; `sandbox/confinement.py` explains the words."""
        return next((worker.level for worker in self._workers), "")

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        """Run one program, first come first served. Cancelling the call stops the program.

        Raises SandboxUnavailable when the machine failed twice, or when the sandbox is closed.
        """
        worker = await self._idle.get()
        if worker is None or self._is_closed:
            self._idle.put_nowait(None)  # for whoever waits behind
            raise SandboxUnavailable("the sandbox is closed")
        try:
            result = await worker.run(code, limits or self.config.limits)
        except asyncio.CancelledError:
            self._recover(worker)
            raise
        except SandboxUnavailable:
            self._idle.put_nowait(worker)
            raise
        self._idle.put_nowait(worker)
        return result

    def _recover(self, worker: "_Worker") -> None:
        """Offer the worker again when its program has been stopped, which the cancelled caller does not wait for."""
        task = asyncio.create_task(worker.recover())
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)
        task.add_done_callback(lambda _: self._idle.put_nowait(worker))

    async def close(self) -> None:
        """Stop what runs, end every process and remove every folder. Calls that wait raise SandboxUnavailable."""
        self._is_closed = True
        await asyncio.gather(*self._recovering)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._idle.put_nowait(None)


class _Worker:
    """One slot: a template process, or the promise of one."""

    def __init__(self, config: LocalSandboxConfig) -> None:
        self.level = ""
        self._config = config
        self._template: TemplateProcess | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Raises SandboxUnavailable."""
        try:
            await self._start()
        except TemplateLost as fault:
            raise SandboxUnavailable(f"no template process could be started: {fault}") from fault

    async def run(self, code: str, limits: Limits) -> ExecutionResult:
        """Run one program, twice if the first template is lost. Raises SandboxUnavailable."""
        request = _request(code, limits)
        reasons: list[str] = []
        while len(reasons) < 2 and not self._is_closed:
            try:
                current = self._template or await self._start()
                facts = await current.ask(request, limits.timeout_s + self._config.grace_s)
            except TemplateLost as fault:
                reasons.append(str(fault))
                _LOG.warning("sandbox: a template process was lost: %s", fault)
                await self._stop()
            else:
                if facts["ending"] != "cancel":  # only closing cancels a program whose caller still waits
                    return interpret(facts, limits, self.level)
        raise SandboxUnavailable("the sandbox was closed" if self._is_closed else "; then ".join(reasons))

    async def recover(self) -> None:
        """Make ready for the next program after a `run` was cancelled at any point."""
        if self._template is not None and not await self._template.abandon(self._config.grace_s):
            await self._stop()

    async def close(self) -> None:
        """End the process and everything it started; a `run` in progress raises SandboxUnavailable."""
        self._is_closed = True
        await self._stop()

    async def _stop(self) -> None:
        if self._template is not None:
            ending, self._template = self._template, None
            await ending.end()

    async def _start(self) -> TemplateProcess:
        self._template, ours = launch(self._config.python, self._config.modules)
        newborn = self._template
        try:
            await newborn.connect(ours, BOOT_S)
        except TemplateLost:
            await self._stop()
            raise
        self.level = newborn.hello["level"]
        if missing := newborn.hello["missing"]:
            _LOG.warning("sandbox: not installed and so not preloaded: %s", ", ".join(missing))
        return newborn


def _request(code: str, limits: Limits) -> dict[str, Any]:
    return {
        "code": code,
        "timeout_s": limits.timeout_s,
        "cpu_s": cpu_limit_s(limits),
        "memory_bytes": limits.memory_bytes,
        "output_bytes": limits.output_bytes,
        "processes": 0,
        "file_bytes": 32 * 2**20,
    }
