"""Runs programs on this host: a queue over workers, each with template processes that fork a fresh child per program.

The asyncio side of `sandbox/jail/`. It uses no threads and blocks the event loop for no longer than it takes to start a
process; the clock that ends programs is the template's, so a busy event loop makes answers late but never wrong.

A template that dies or falls silent is replaced and its program run once more; after that it is a machine fault.
"""

import asyncio
import dataclasses
import logging
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

from thor_tir.errors import SandboxLost, SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.jail.confinement import FULL, LANDLOCK, NONE
from thor_tir.sandbox.jail.program import ProgramRequest
from thor_tir.sandbox.jail.wire import Greeting
from thor_tir.sandbox.local.preload import HEAVY, LEAN, Preload, is_heavy
from thor_tir.sandbox.local.template_process import (
    TemplateLost,
    TemplateProcess,
    TemplateSpec,
    cpu_limit_s,
    interpret,
    launch,
)
from thor_tir.sandbox.protocol import Limits, Notebook

_LOG = logging.getLogger(__name__)

BOOT_S = 60.0
"""A template that has not finished its imports by then is given up."""
LEVELS = (FULL, LANDLOCK, NONE)
TRACEBACK_BYTES = 32_768
"""The end of a longer traceback is kept."""
HEAVY_STARTS = 2
"""A worker whose heavy template has failed to start so many times in a row tries no more."""
MAX_CODE_BYTES = 8 * 2**20
"""A longer source is refused before it is sent."""
ALONE = Notebook()


@dataclass(frozen=True, kw_only=True)
class LocalSandboxConfig:
    """Number of programs at once, libraries that they start with, and their bounds."""

    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Programs that run at the same time."""
    limits: Limits = field(default_factory=Limits)
    """Limits of programs that come without their own."""
    least: Literal["full", "landlock", "none"] = "landlock"
    """The weakest confinement to accept: `full` has namespaces, `landlock` does without them, `none` stops nothing but
    runaway programs and is for hosts that are thrown away."""
    strongest: Literal["full", "landlock", "none"] = "full"
    """The level to begin with; lower it to see how THOR works on a host that offers less."""
    modules: tuple[str, ...] = LEAN
    """Imported before any program runs. One that is not installed is skipped."""
    heavy_modules: tuple[str, ...] = HEAVY
    """Imported by a second template, which starts with the first program that asks for one of them. A module of either
    template whose import starts a thread is left out and named in the log; programs then import it themselves."""
    python: str = sys.executable
    """Interpreter of the programs."""
    folder_bytes: int = 32 * 2**20
    """Size of a program's working directory, which is emptied after it; only level `full` has one."""
    folder_files: int = 2000
    """Most files in a program's folder."""
    recycle_after: int = 5000
    """Programs that a template forks before it is replaced by a fresh one."""
    grace_s: float = 10.0
    """A template that has not answered this long after its program's time was up is replaced."""
    tolerance: int = 8
    """Number of programs in a row that could not be run, after which the host is said to run none."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"workers is {self.workers}; a sandbox needs at least one")
        if self.tolerance < 1:
            raise UsageError(f"tolerance is {self.tolerance}; one program must fail before the host is given up")
        if LEVELS.index(self.strongest) > LEVELS.index(self.least):
            raise UsageError(f"strongest is {self.strongest!r}, which is weaker than the least, {self.least!r}")


class LocalSandbox:
    """A `Sandbox` on this host, usable between `async with` and its end, from one event loop."""

    def __init__(self, config: LocalSandboxConfig | None = None) -> None:
        self.config = config or LocalSandboxConfig()
        self.missing: tuple[str, ...] = ()
        """Reasons why no stronger level holds, one sentence a level; empty at `full`."""
        self._preload = Preload(self.config.modules, self.config.heavy_modules)
        self._level = ""
        self._workers: list[_Worker] = []
        self._idle: asyncio.Queue[_Worker | None] = asyncio.Queue()
        self._recovering: set[asyncio.Task[None]] = set()
        self._faults = 0
        """Programs that could not be run since the last one that could."""
        self._is_closed = False

    async def __aenter__(self) -> Self:
        """Start every worker. Raises SandboxUnavailable when one cannot be started at an acceptable level."""
        try:
            self._workers = [await self._start_first()]
            others = [_Worker(self.config, self._preload, self._level) for _ in range(self.config.workers - 1)]
            self._workers += others
            boots = await asyncio.gather(*(worker.start() for worker in others), return_exceptions=True)
        except BaseException:
            await self.close()
            raise
        for failure in (boot for boot in boots if isinstance(boot, BaseException)):
            await self.close()
            raise failure
        for worker in self._workers:
            self._idle.put_nowait(worker)
        _LOG.info("sandbox: %d workers, level %s", len(self._workers), self.level)
        return self

    async def _start_first(self) -> "_Worker":
        """A worker at the strongest level that can be had; sets `level` and `missing`."""
        allowed = LEVELS[LEVELS.index(self.config.strongest) : LEVELS.index(self.config.least) + 1]
        for level in allowed:
            worker = _Worker(self.config, self._preload, level)
            try:
                await worker.start()
            except SandboxUnavailable as fault:
                self.missing = (*self.missing, f"{level}: {fault}")
            else:
                self._level = level
                if self.missing or level == NONE:
                    _LOG.warning("sandbox: level %s only. %s", level, "; ".join(self.missing))
                return worker
        raise SandboxUnavailable(
            f"programs cannot be confined on this host ({'; '.join(self.missing)}). `thor doctor` names what is "
            "missing; run `thor sandbox serve` on a Linux host, or accept the level `none`, which is unsafe"
        )

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def level(self) -> str:
        """Level of confinement: `full`, `landlock` or `none`; `docs/sandbox.md` says what each stops."""
        return self._level

    @property
    def left_out(self) -> tuple[str, ...]:
        """Modules that no template imports, since their import starts a thread; programs can, and take longer."""
        return tuple(sorted(self._preload.left_out))

    async def run(
        self,
        code: str,
        limits: Limits | None = None,
        *,
        stdin: str = "",
        seed: int = 0,
        notebook: Notebook = ALONE,
    ) -> ExecutionResult:
        """Run one program, first come first served, alone or as a cell. Cancelling the call stops the program.

        Raises SandboxUnavailable when the machine failed twice, or when the sandbox is closed, and SandboxLost when it
        failed at program after program.
        """
        came = time.monotonic()
        worker = await self._idle.get()
        if worker is None or self._is_closed:
            self._idle.put_nowait(None)  # for whoever waits behind
            raise SandboxUnavailable("the sandbox is closed")
        waited_s = time.monotonic() - came
        try:
            request = _request(code, stdin, seed, limits or self.config.limits, self.config.heavy_modules, notebook)
            result = await worker.run(request)
        except asyncio.CancelledError:
            self._recover(worker)
            raise
        except SandboxUnavailable as fault:
            self._idle.put_nowait(worker)
            self._count(fault)
            raise
        self._idle.put_nowait(worker)
        self._faults = 0
        return dataclasses.replace(result, queue_s=waited_s)

    def _count(self, fault: SandboxUnavailable) -> None:
        """Raise SandboxLost for the last of a row of faults."""
        self._faults += not self._is_closed
        if self._faults >= self.config.tolerance:
            raise SandboxLost(
                f"{self._faults} programs in a row could not be run on this host ({fault}); see that it has memory, "
                "processes and room on its disk to spare"
            ) from fault

    def _recover(self, worker: "_Worker") -> None:
        """Offer the worker again when its program has been stopped, which the cancelled caller does not wait for."""
        task = asyncio.create_task(worker.recover())
        self._recovering.add(task)
        task.add_done_callback(self._recovering.discard)
        task.add_done_callback(lambda _: self._idle.put_nowait(worker))

    async def close(self) -> None:
        """Stop what runs and end every process. Calls that wait raise SandboxUnavailable."""
        self._is_closed = True
        await asyncio.gather(*self._recovering)
        await asyncio.gather(*(worker.close() for worker in self._workers))
        self._idle.put_nowait(None)


@dataclass(frozen=True, kw_only=True)
class _Request:
    limits: Limits
    """Limits of the program."""
    is_heavy: bool
    """True if the program needs the template with the heavy modules."""
    program: ProgramRequest
    """The request for the process that runs it."""


def _request(
    code: str, stdin: str, seed: int, limits: Limits, heavy_modules: Sequence[str], notebook: Notebook
) -> _Request:
    sources = (*notebook.earlier, code)
    if (length := sum(map(len, sources))) > MAX_CODE_BYTES:
        raise UsageError(f"a program of {length} characters; the sandbox takes up to {MAX_CODE_BYTES}")
    if notebook.extra_s:
        limits = dataclasses.replace(limits, timeout_s=limits.timeout_s + notebook.extra_s)
    return _Request(
        limits=limits,
        is_heavy=any(is_heavy(source, heavy_modules) for source in sources),
        program=ProgramRequest(
            code=code,
            stdin=stdin,
            seed=seed,
            memory_bytes=limits.memory_bytes,
            cpu_s=cpu_limit_s(limits),
            told_bytes=min(TRACEBACK_BYTES, limits.output_bytes // 2),
            earlier=notebook.earlier,
            echoes=notebook.echoes,
        ),
    )


class _Worker:
    """One slot: it runs one program at a time, in a fork of its lean or of its heavy template."""

    def __init__(self, config: LocalSandboxConfig, preload: Preload, level: str) -> None:
        self._config = config
        self._preload = preload
        self._level = level
        self._templates: dict[bool, TemplateProcess] = {}
        """The heavy one under True, the lean one under False."""
        self._forks: dict[bool, int] = {}
        self._has_heavy = bool(config.heavy_modules)
        self._heavy_faults = 0
        """Starts of the heavy template that failed since the last one that did not."""
        self._is_closed = False

    async def start(self) -> None:
        """Raises SandboxUnavailable."""
        try:
            await self._start(is_heavy=False)
        except TemplateLost as fault:
            raise SandboxUnavailable(f"no template process could be started: {fault}") from fault

    async def run(self, request: _Request) -> ExecutionResult:
        """Run one program, twice if the first template is lost. Raises SandboxUnavailable."""
        reasons: list[str] = []
        while len(reasons) < 2 and not self._is_closed:
            try:
                template = await self._template(is_heavy=request.is_heavy and self._has_heavy)
                patience_s = request.limits.timeout_s + self._config.grace_s
                report = await template.ask(request.program, request.limits, patience_s)
            except TemplateLost as fault:
                reasons.append(str(fault))
                _LOG.warning("sandbox: a template process was lost: %s", fault)
                await self._stop()
            else:
                if report.ending != "cancel":  # only closing cancels a program whose caller still waits
                    return interpret(report, request.limits, self._level, runs=len(reasons) + 1)
        raise SandboxUnavailable("the sandbox was closed" if self._is_closed else "; then ".join(reasons))

    async def recover(self) -> None:
        """Make ready for the next program after a `run` was cancelled at any point."""
        for template in list(self._templates.values()):
            if not await template.abandon(self._config.grace_s):
                await self._stop()
                return

    async def close(self) -> None:
        """End the processes and everything they started; a `run` in progress raises SandboxUnavailable."""
        self._is_closed = True
        await self._stop()

    async def _stop(self) -> None:
        while self._templates:
            _, ending = self._templates.popitem()
            await ending.end()

    async def _template(self, *, is_heavy: bool) -> TemplateProcess:
        """The template of a kind, started if need be and replaced when it has forked often enough.

        The lean one stands in for a heavy one that cannot be started or has nothing more to offer.
        """
        if self._forks.get(is_heavy, 0) >= self._config.recycle_after and is_heavy in self._templates:
            await self._templates.pop(is_heavy).end()
        if is_heavy not in self._templates:
            try:
                await self._start(is_heavy=is_heavy)
            except TemplateLost as fault:
                if not is_heavy or self._is_closed:
                    raise
                self._do_without_heavy(fault)
        if is_heavy not in self._templates:
            return await self._template(is_heavy=False)
        self._forks[is_heavy] = self._forks.get(is_heavy, 0) + 1
        return self._templates[is_heavy]

    def _do_without_heavy(self, fault: TemplateLost) -> None:
        self._heavy_faults += 1
        self._has_heavy = self._heavy_faults < HEAVY_STARTS
        _LOG.warning(
            "sandbox: the template with %s cannot be started, so programs import them themselves: %s",
            ", ".join(dict.fromkeys(name.partition(".")[0] for name in self._config.heavy_modules)),
            fault,
        )

    async def _start(self, *, is_heavy: bool) -> None:
        """Start a template, again without the modules that start threads. Raises TemplateLost."""
        while True:
            modules = self._preload.modules(is_heavy=is_heavy)
            try:
                greeting = await self._launch(modules, is_heavy=is_heavy)
            except TemplateLost as fault:
                threads = fault.words.threads if fault.words else ()
                if not {*threads} & {*modules} or self._is_closed:
                    raise
                self._preload.leave_out(threads)
            else:
                break
        if is_heavy:
            self._heavy_faults = 0
        if is_heavy and {*modules} <= {*self._preload.modules(is_heavy=False), *greeting.missing}:
            self._has_heavy = False  # none of its libraries can be preloaded
            await self._templates.pop(is_heavy).end()
        elif greeting.missing:
            _LOG.info("sandbox: cannot be imported and so are not preloaded: %s", ", ".join(greeting.missing))

    async def _launch(self, modules: tuple[str, ...], *, is_heavy: bool) -> Greeting:
        newborn, ours = launch(
            TemplateSpec(
                python=self._config.python,
                modules=modules,
                level=self._level,
                folder_bytes=self._config.folder_bytes,
                folder_files=self._config.folder_files,
            )
        )
        self._templates[is_heavy] = newborn
        self._forks[is_heavy] = 0
        try:
            return await newborn.connect(ours, BOOT_S)
        except TemplateLost:
            if self._templates.pop(is_heavy, None) is newborn:  # else it was closed meanwhile
                await newborn.end()
            raise
