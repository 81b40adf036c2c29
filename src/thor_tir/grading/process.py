"""One grading process seen from outside: started lazily, killed when it overstays, started again."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass

from thor_tir.faults import GraderUnavailable
from thor_tir.grading.frames import HEADER, Row, frame

_START_S = 120.0
"""Imports on a loaded machine; no answer's limit counts while they last."""


@dataclass(frozen=True, kw_only=True)
class GraderLimits:
    """What the comparison of one answer may use."""

    timeout_s: float = 5.0
    """Wall-clock time after which the process is killed. An alarm inside it rings at half of that."""
    memory_bytes: int = 2**30
    """Address space on top of what the imported libraries hold."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0 or self.memory_bytes <= 0:
            raise ValueError(f"timeout_s and memory_bytes must be positive, found {self}")


class ItemLost(Exception):
    """No reply to one request: the process died or was killed over it. A fresh one answers the next."""

    def __init__(self, reason: str, *, timed_out: bool) -> None:
        super().__init__(reason)
        self.timed_out = timed_out


class GraderProcess:
    """One worker process; one request at a time."""

    def __init__(self, limits: GraderLimits) -> None:
        self.limits = limits
        self._process: asyncio.subprocess.Process | None = None
        self._prepared: set[str] = set()

    @property
    def pid(self) -> int | None:
        """Of the running process; None before the first request and after a kill."""
        return self._process.pid if self._process else None

    async def prepare(self, kind: str) -> None:
        """Have a process running that has imported what `kind` ("math" or "gym") needs.

        Raises GraderUnavailable, with what the process wrote, where that cannot be had.
        """
        if self._process is None:
            self._process = await _spawn()
        if kind in self._prepared:
            return
        try:
            await self._exchange({"do": "prepare", "kind": kind, "memory_bytes": self.limits.memory_bytes}, _START_S)
        except ItemLost as lost:
            raise GraderUnavailable(f"the grading process does not start: {lost}") from lost
        self._prepared.add(kind)

    async def ask(self, request: Row) -> Row:
        """The reply to one request of a prepared kind. Raises ItemLost where none came in time."""
        timeout_s = self.limits.timeout_s
        bounds = {"alarm_s": timeout_s / 2, "cpu_s": int(timeout_s) + 2}
        return await self._exchange(request | bounds | {"do": "judge"}, timeout_s)

    async def kill(self) -> str:
        """End the process and whatever it started, wait until it is gone, and return its last line on stderr."""
        process, self._process = self._process, None
        self._prepared = set()
        if process is None:
            return ""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        # Reading to the end closes the pipes together with the process, so that nothing is left to the event loop.
        _, stderr = await process.communicate()
        return (stderr.decode(errors="replace").strip().splitlines() or ["nothing on stderr"])[-1]

    async def _exchange(self, request: Row, limit_s: float) -> Row:
        try:
            return await asyncio.wait_for(self._round_trip(request), limit_s)
        except TimeoutError as error:
            await self.kill()
            raise ItemLost(f"killed after {limit_s:g} s without a reply", timed_out=True) from error
        except (EOFError, ConnectionError) as error:
            last_words = await self.kill()
            raise ItemLost(f"died without a reply ({last_words})", timed_out=False) from error
        except asyncio.CancelledError:
            await self.kill()  # or its late reply would be taken for the next one's
            raise

    async def _round_trip(self, request: Row) -> Row:
        assert self._process is not None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(frame(request))
        await stdin.drain()
        (size,) = HEADER.unpack(await stdout.readexactly(HEADER.size))
        reply: Row = json.loads(await stdout.readexactly(size))
        return reply


async def _spawn() -> asyncio.subprocess.Process:
    # A fresh interpreter, never a fork: the parent may hold an accelerator, threads and gigabytes. `-P` keeps the
    # working directory, where a model's programs may have written, out of the import path.
    environment = os.environ | {"SYMPY_GROUND_TYPES": "python", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = (sys.executable, "-P", "-W", "ignore", "-m", "thor_tir.grading.worker")
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
    except OSError as error:
        raise GraderUnavailable(f"the grading process cannot be started: {error}") from error
