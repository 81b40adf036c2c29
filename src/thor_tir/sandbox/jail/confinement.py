"""Levels of confinement, and the steps by which each program's process is locked in before it sees a program.

What the steps need is made ready once, in the template.
"""

import os
import resource
import tempfile
from dataclasses import dataclass

from thor_tir.sandbox.jail import kernel, landlock, root
from thor_tir.sandbox.jail.kernel import Call
from thor_tir.sandbox.jail.seccomp import installation, program

FULL, LANDLOCK, NONE = "full", "landlock", "none"
"""Levels, strongest first. `none` is for those who said that they know what it means."""
THREADS = 64
"""Tasks of a program; each also needs address space for its stack."""
OPEN_FILES = 64
PROGRAM_PID = 2
"""Every program's pid at level `full`, where its namespace holds only the template and itself."""
_PREVIOUS_PID = str(PROGRAM_PID - 1).encode()
READY_FD, FEED_FD = 3, 4
"""Descriptors of a program's process until its program begins; then it has 0, 1 and 2 alone."""


class Missing(Exception):
    """A layer of the level that was asked for is not to be had here; the message names it and what the kernel said."""

    def __init__(self, layer: str, reason: str) -> None:
        super().__init__(f"{layer}: {reason}")
        self.layer = layer


@dataclass(frozen=True, slots=True, kw_only=True)
class JailPlace:
    """The surroundings of a template when it starts."""

    level: str
    """Level of confinement."""
    paths: tuple[str, ...]
    """Paths that programs may read."""
    proc: int
    """A descriptor of the host's /proc, closed before the first program; -1 where there is none."""


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """One worker's means of locking its programs in."""

    level: str
    """Level of confinement."""
    folder: str
    """Working directory of programs."""
    final: tuple[Call, ...]
    """System calls that close the jail once its descriptors are in place: Landlock, capabilities, the filter of
    calls."""
    has_own_pid: bool
    """True if a filter for the program's own number has still to follow, which is not known beforehand."""
    last_pid: int
    """A descriptor through which the next pid is chosen; -1 where it is not."""
    mapped: int
    """Bytes that a program's process has mapped before its program begins."""
    folder_bytes: int
    """Size of a program's folder in bytes."""

    def number_next(self) -> None:
        """Give the next child of the template the number PROGRAM_PID."""
        if self.last_pid >= 0:
            os.pwrite(self.last_pid, _PREVIOUS_PID, 0)

    def lock(self) -> None:
        """Confine this freshly forked process. Raises OSError when something that the level promises fails."""
        os.setsid()
        os.chdir(self.folder)
        _limit(resource.RLIMIT_NPROC, THREADS + 2)  # the template and the program's first thread
        for call in self.final:
            call()
        if self.has_own_pid:
            _filter(os.getpid(), may_change=self.level == FULL)()
        os.closerange(FEED_FD + 1, 4096)

    def limit(self, memory_bytes: int, cpu_s: int) -> None:
        """Bounds that each request brings. Raises OSError or ValueError."""
        if self.mapped:
            _limit(resource.RLIMIT_AS, self.mapped + memory_bytes)
        _limit(resource.RLIMIT_CPU, cpu_s, spare=1)  # SIGXCPU at the first, SIGKILL at the second


# The template holds itself to these as well, so that each of its children has them from birth. It must be able to fork,
# though, where the host counts all processes of its user.
_BOUNDS = {
    resource.RLIMIT_CORE: 0,
    resource.RLIMIT_NOFILE: OPEN_FILES,
    resource.RLIMIT_MEMLOCK: 0,
}


def _limit(what: int, bound: int, *, spare: int = 0) -> None:
    ceiling = resource.getrlimit(what)[1]
    if ceiling == resource.RLIM_INFINITY:
        resource.setrlimit(what, (bound, bound + spare))
    else:
        resource.setrlimit(what, (min(bound, ceiling), min(bound + spare, ceiling)))


def _filter(pid: int, *, may_change: bool) -> Call:
    return installation(program(kernel.architecture(), pid=pid, may_change=may_change))


def prepare_confinement(place: JailPlace, *, mapped: int, folder_bytes: int, folder_files: int) -> Confinement:
    """The means of confining children of this process. Raises Missing where the level lacks a layer that it needs."""
    last_pid, final = -1, []
    if place.level == FULL:
        root.renew_work(folder_bytes, folder_files, is_mounted=False)
        last_pid = _open_last_pid(place.proc)
    if place.level != NONE:
        _give_up_rights(place)
        final = [*_rules(place), kernel.dropping_capabilities()]
    if place.level != FULL:  # there a program ends with its namespace
        final.insert(0, kernel.dying_with_the_parent())
    if last_pid >= 0:
        final.append(_filter(PROGRAM_PID, may_change=True))
    for what, bound in (*_BOUNDS.items(), (resource.RLIMIT_FSIZE, folder_bytes)):
        _limit(what, bound)
    return Confinement(
        level=place.level,
        folder={FULL: root.WORK, NONE: tempfile.gettempdir()}.get(place.level, "/"),
        final=tuple(final),
        has_own_pid=place.level != NONE and last_pid < 0,
        last_pid=last_pid,
        mapped=mapped,
        folder_bytes=folder_bytes,
    )


def _give_up_rights(place: JailPlace) -> None:
    try:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1, what="no new privileges")
        _filter(PROGRAM_PID, may_change=False)
    except OSError as fault:
        raise Missing("system-call filter", fault.strerror or str(fault)) from fault


def _rules(place: JailPlace) -> list[Call]:
    if landlock.abi() == 0:
        if place.level == FULL:
            return []  # the second line only; the probe reports it
        raise Missing("landlock", "the kernel has none, and there are no namespaces in its place")
    readable = [*place.paths, *root.DEVICES]
    writable = [root.BOX] if place.level == FULL else []
    if root.swallows_all():
        writable.append(root.NULL)
    return [landlock.restriction(landlock.ruleset(readable, writable))]


def _open_last_pid(proc: int) -> int:
    try:
        descriptor = os.open("sys/kernel/ns_last_pid", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        os.pwrite(descriptor, _PREVIOUS_PID, 0)
    except OSError:  # before Linux 5.9 only real root may choose; programs then have the numbers that come
        return -1
    return descriptor
