"""What this host offers the local sandbox, found by doing it: each answer comes from a program that tried."""

import asyncio
from dataclasses import dataclass

from thor_tir.execution import ExecutionResult, Status
from thor_tir.faults import SandboxUnavailable
from thor_tir.sandbox.local import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One thing that keeps programs from harm, and whether it holds here."""

    name: str
    is_available: bool
    detail: str
    """What was seen, or what the lack of it means and what to do."""


_LIMITS = Limits(timeout_s=10.0, memory_bytes=64 * 2**20)
_GREEDY = f"x = bytearray({4 * _LIMITS.memory_bytes})"
_INTERFACES = "import socket; print(*(name for _, name in socket.if_nameindex() if name != 'lo'))"
_UID = "import os; print(os.getuid())"
_FORK = "import ctypes, os\nfor _ in range(200):\n    if ctypes.CDLL(None).fork() == 0: os._exit(0)\nprint('unbounded')"


def probe() -> tuple[Layer, ...]:
    """The layers of the local sandbox on this host, `process` first; no other is tried if that fails.

    Starts an event loop of its own, so call it outside one. Takes about a second.
    """
    return asyncio.run(_probe())


async def _probe() -> tuple[Layer, ...]:
    try:
        async with LocalSandbox(LocalSandboxConfig(workers=1, limits=_LIMITS, modules=())) as sandbox:
            first = await sandbox.run("print('alive')")
            words = sandbox.level.split("+")
            others = [
                _memory(await sandbox.run(_GREEDY)),
                _network(await sandbox.run(_INTERFACES)),
                _uid(await sandbox.run(_UID), is_promised="uid" in words),
                _tasks(await sandbox.run(_FORK) if "nproc" in words else None),
            ]
    except SandboxUnavailable as fault:
        return (Layer(name="process", is_available=False, detail=str(fault)),)
    detail = f"a program came back after {first.seconds * 1e3:.0f} ms"
    return (Layer(name="process", is_available=first.stdout == "alive\n", detail=detail), *others)


def _memory(result: ExecutionResult) -> Layer:
    holds = result.status is Status.MEMORY
    detail = "an allocation above the limit is refused" if holds else "this host does not limit address space"
    return Layer(name="memory", is_available=holds, detail=detail)


def _network(result: ExecutionResult) -> Layer:
    holds = result.succeeded and not result.stdout.strip()
    detail = (
        "programs see no interface"
        if holds
        else "programs can reach the network: allow user namespaces (sysctl user.max_user_namespaces)"
    )
    return Layer(name="nonet", is_available=holds, detail=detail)


def _uid(result: ExecutionResult, *, is_promised: bool) -> Layer:
    holds = is_promised and result.stdout.strip() not in ("", "0")
    detail = (
        f"programs run as uid {result.stdout.strip()}"
        if holds
        else "programs keep the uid of this process: run as root with an interpreter that everybody can read"
    )
    return Layer(name="uid", is_available=holds, detail=detail)


def _tasks(result: ExecutionResult | None) -> Layer:
    holds = result is not None and "unbounded" not in result.stdout
    detail = (
        "the kernel bounds the number of tasks"
        if holds
        else "only Python's audit hook stops new processes: the kernel does not count those of uid 0"
    )
    return Layer(name="nproc", is_available=holds, detail=detail)
