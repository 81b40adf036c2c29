"""Survey of this host for the local sandbox: each answer comes from a program that tried."""

import asyncio
import platform
import sys
from dataclasses import dataclass

from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.jail import landlock
from thor_tir.sandbox.jail.confinement import FULL
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class JailLayer:
    """One thing that keeps programs from harm; it holds here or does not."""

    name: str
    """Name of the layer."""
    is_available: bool
    """True if the layer holds on this machine."""
    detail: str
    """Finding, or the meaning of the lack and a remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFinding:
    """Confinement of programs on this host."""

    level: str
    """`full`, `landlock`, or empty where programs cannot be confined."""
    missing: tuple[str, ...]
    """Reasons why it is not a stronger level, with the remedy."""
    layers: tuple[JailLayer, ...]
    """Each layer, tried by a program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """A program that prints `held` if a layer holds, or ends as `ends` says."""

    layer: str
    """Name of the layer that is tried."""
    code: str
    """Program that tries it."""
    finding: str
    """Finding where the layer holds."""
    remedy: str
    """Meaning of the lack, and what to do."""
    ends: Status = Status.OK
    """Way in which the program ends where the layer holds."""


_LIMITS = Limits(timeout_s=10.0, memory_bytes=64 * 2**20)
_CALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
_TRIALS = (
    _Trial(
        layer="process",
        code="print('held')",
        finding="a fresh process for every program",
        remedy="the sandbox needs Linux on x86-64 or aarch64",
    ),
    _Trial(
        layer="memory",
        code=f"x = bytearray({4 * _LIMITS.memory_bytes})",
        finding="an allocation above the limit is refused",
        remedy="this host does not limit address space",
        ends=Status.MEMORY,
    ),
    _Trial(
        layer="pid namespace",
        code="import os\nprint('held' if os.getppid() <= 1 else '')",
        finding="programs see no process but their own",
        remedy="programs have numbers among the host's processes; they may still signal none but themselves",
    ),
    _Trial(
        layer="read-only root",
        code="import os\nprint('' if os.path.exists('/proc/1') or os.path.exists('/etc/passwd') else 'held')",
        finding="of the host's files programs see the interpreter and the system's libraries, read-only",
        remedy="the host's files are there, and Landlock alone keeps them from being opened",
    ),
    _Trial(
        layer="working folder",
        code="open('x', 'w').write('x')\nprint('held')",
        finding="a small folder of its own for every program",
        remedy="programs cannot write files: only level `full` has a folder that can be thrown away safely",
    ),
    _Trial(
        layer="network",
        code="import socket\ntry:\n    socket.socket()\nexcept PermissionError:\n    print('held')",
        finding="no socket of any family",
        remedy="programs can open sockets: this kernel lacks seccomp",
    ),
    _Trial(
        layer="system-call filter",
        code=_CALL + "pid = libc.fork()\nif pid == 0: os._exit(0)\nprint('held' if pid == -1 else '')",
        finding="calls that are not on the list fail, fork and exec among them",
        remedy="this kernel lacks seccomp, so programs are confined at no level",
    ),
    _Trial(
        layer="no rights",
        code=_CALL + "print('held' if libc.setuid(0) == -1 and libc.prctl(39, 0, 0, 0, 0) != 0 else '')",
        finding="no capability, and no way to one",
        remedy="programs could change their identity",
    ),
)


_ELSEWHERE = (
    f"{platform.system()} has none of the kernel's means of confining programs: run `thor sandbox serve` on a Linux "
    "host and give its address with --sandbox.endpoints"
)


def probe() -> HostFinding:
    """Build the sandbox and let programs try. Starts an event loop of its own. Takes about a second."""
    return asyncio.run(_probe())


async def _probe() -> HostFinding:
    try:
        async with LocalSandbox(LocalSandboxConfig(workers=1, limits=_LIMITS, modules=())) as sandbox:
            layers = [_layer(trial, await sandbox.run(trial.code)) for trial in _TRIALS]
            missing = tuple(f"{reason}. {_remedy(reason)}" for reason in sandbox.missing)
            return HostFinding(level=sandbox.level, missing=missing, layers=(*layers, _landlock(sandbox.level)))
    except SandboxUnavailable as fault:
        return HostFinding(level="", missing=(str(fault) if sys.platform == "linux" else _ELSEWHERE,), layers=())


def _layer(trial: _Trial, result: ExecutionResult) -> JailLayer:
    holds = result.status is trial.ends and (trial.ends is not Status.OK or result.stdout == "held\n")
    return JailLayer(name=trial.layer, is_available=holds, detail=trial.finding if holds else trial.remedy)


def _landlock(level: str) -> JailLayer:
    version = landlock.abi() if sys.platform == "linux" else 0
    if version == 0:
        detail = (
            "the kernel has none (Linux 5.13, `lsm=` with landlock): the second line behind the namespaces is missing"
        )
    else:
        detail = f"version {version}: files by list" + (", no signals out (from version 6)" if version >= 6 else "")
        detail += "" if level == FULL else "; the first line here, in place of namespaces"
    return JailLayer(name="landlock", is_available=version > 0, detail=detail)


def _remedy(reason: str) -> str:
    """Remedy for the layer that a reason names."""
    if "namespace" in reason or "read-only root" in reason:
        return (
            "Allow unprivileged user namespaces: `sysctl user.max_user_namespaces=15000`; on Ubuntu 24.04 also "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile with `userns,`; in Docker "
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined`"
        )
    return "See docs/sandbox.md"
