"""System calls that Python's standard library does not offer, by number, on the two architectures that are known."""

import contextlib
import ctypes
import errno
import os
import platform
import signal
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from thor_tir.sandbox.jail import calls

AUDIT_ARCH: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Architectures as a seccomp filter sees them (linux/audit.h)."""

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    *(0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000),
    0x40000,
)
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4
_CLONE_FILES = 0x400
_M_ARENA_MAX = -8
_SIGINFO_BYTES = 128
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT = 0x0040000, 0x0200000
MADV_DONTFORK, MADV_COLLAPSE = 10, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """System-call numbers that differ between architectures, of the calls made here."""

    pivot_root: int
    """Number of pivot_root."""
    capset: int
    """Number of capset."""
    seccomp: int
    """Number of seccomp."""
    waitid: int
    """Number of waitid."""


NUMBERS: Mapping[str, Numbers] = {
    "x86_64": Numbers(pivot_root=155, capset=126, seccomp=317, waitid=247),
    "aarch64": Numbers(pivot_root=41, capset=91, seccomp=277, waitid=95),
}
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""The same on every architecture, as all calls since Linux 5.1 are."""

_libc = ctypes.CDLL(None, use_errno=True)
"""Opened once, before any fork."""
_libc_with_gil = ctypes.PyDLL(None)
"""The same, for calls during which no other Python thread may run."""


def architecture() -> str:
    """This machine's architecture. Raises OSError where its system calls are not known."""
    name = platform.machine()
    if name not in NUMBERS:
        raise OSError(errno.ENOSYS, f"system calls of the architecture {name!r} are not known")
    return name


def syscall(number: int, *arguments: object, what: str) -> int:
    """A raw system call; `what` names it in the OSError that it may raise."""
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
    return result


class Call:
    """A system call with its arguments made ready, so that a fresh process touches few pages of memory to make it."""

    def __init__(self, number: int, *arguments: object, what: str) -> None:
        self._arguments = (ctypes.c_long(number), *arguments)
        self._number = number
        self._what = what
        self._make = _libc_with_gil.syscall

    def __call__(self) -> None:
        """Raises OSError."""
        if self._make(*self._arguments) != 0:
            syscall(self._number, *self._arguments[1:], what=self._what)  # once more, to learn what is wrong


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags: int, what: str) -> None:
    """New namespaces for this process. Raises OSError, as the other functions here do."""
    _checked(_libc.unshare(ctypes.c_int(flags)), what)


def fork() -> int:
    """fork(2) of a process with one thread, without the interpreter's own hooks; the child goes on as the parent was.

    The hooks (new locks, new random states, one thread in the books) cost more than the call itself. They are for
    processes with threads, and here the random states are set from the request.
    """
    return int(_libc_with_gil.fork())


def fork_sharing_descriptors() -> int:
    """As `fork`, but what one of the two opens or closes is open or closed for the other."""
    number = calls.numbers(calls.BOUND, architecture())["clone"]
    return int(_libc_with_gil.syscall(ctypes.c_long(number), ctypes.c_long(_CLONE_FILES | signal.SIGCHLD), 0, 0, 0, 0))


class OutcomeBuffer:
    """Room for the end of a child, filled without making an object, so that the caller's memory stays as it is."""

    def __init__(self) -> None:
        self.data = ctypes.create_string_buffer(ForkOutcome.SIZE)
        """See `ForkOutcome`."""
        data, usage = ctypes.byref(self.data), ctypes.byref(self.data, _SIGINFO_BYTES)
        # Plain integers and references: a ctypes number would make an object of each call, and leave the free blocks of
        # the allocator in another order.
        self._arguments = (NUMBERS[architecture()].waitid, int(os.P_ALL), 0, data, os.WEXITED, usage)
        self._make = _libc_with_gil.syscall

    def await_end(self) -> None:
        """Wait for the only child to end."""
        self._make(*self._arguments)


class ForkOutcome:
    """End of a child and its use of the machine, from the kernel's siginfo_t and rusage, as on every 64-bit Linux."""

    SIZE = 128 + 144

    def __init__(self, data: bytes) -> None:
        _, _, how, _, _, _, status = struct.unpack_from("=7i", data)
        self.code: int = status if how == os.CLD_EXITED else -status
        """Exit code, or the signal's number below zero."""
        user_s, user_us, system_s, system_us, peak_kib = struct.unpack_from("=5q", data, _SIGINFO_BYTES)
        self.cpu_s: float = user_s + system_s + 1e-6 * (user_us + system_us)
        self.peak_bytes: int = 1024 * peak_kib


def sweep(whom: int, number: int) -> None:
    """Signal processes (see kill(2)) and wait until this one has no children; it is no fault if there is none."""
    if _libc_with_gil.kill(whom, number) == 0:
        while _libc_with_gil.waitpid(-1, None, os.WNOHANG if whom != -1 else 0) > 0:
            pass


def prctl(option: int, *values: int, what: str) -> None:
    """One process attribute."""
    padded = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(ctypes.c_int(option), *padded), what)


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """mount(2)."""
    _checked(
        _libc.mount(
            source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags), data.encode()
        ),
        f"mount {kind or 'bind'} on {target}",
    )


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(target.encode(), flags), f"unmount {target}")


def bind_read_only(source: str, target: str) -> None:
    """Make `source`, with whatever is mounted under it, visible at `target`, where nothing of it can be changed."""
    mount(source, target, None, MS_BIND | MS_REC)
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, 0, 0, 0)
    syscall(
        SYS_MOUNT_SETATTR,
        ctypes.c_int(AT_FDCWD),
        target.encode(),
        ctypes.c_uint(AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(32),
        what=f"make {target} read-only",
    )


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    syscall(NUMBERS[architecture()].pivot_root, new.encode(), old.encode(), what="pivot_root")


def dying_with_the_parent() -> Call:
    """Have the calling process killed when its parent ends."""
    number = calls.numbers(calls.BOUND, architecture())["prctl"]
    return Call(number, ctypes.c_int(PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL), 0, 0, 0, what="death signal")


def dropping_capabilities() -> Call:
    """Empty every capability set of the calling process; with NO_NEW_PRIVS they never come back."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    nothing = (ctypes.c_uint32 * 6)()
    return Call(NUMBERS[architecture()].capset, ctypes.byref(header), ctypes.byref(nothing), what="capset")


def share_one_arena() -> None:
    """All threads to come allocate from one heap; one of its own would take 64 MiB of address space for each."""
    with contextlib.suppress(AttributeError):  # only the C library of GNU has it
        _libc.mallopt(_M_ARENA_MAX, 1)


def personality(flags: int) -> int:
    """Set the execution domain and return what it was; it takes effect at the next exec."""
    return int(_libc.personality(ctypes.c_ulong(flags)))


def advise(address: int, length: int, advice: int) -> bool:
    """madvise(2); true if the kernel took the advice."""
    return bool(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_int(advice)) == 0)
