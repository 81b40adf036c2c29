"""System calls that Python's standard library does not offer, by number, on the two architectures that are known."""

import ctypes
import errno
import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass

AUDIT_ARCH: Mapping[str, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""What a seccomp filter sees of the architecture (linux/audit.h)."""

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = (
    *(0x1, 0x2, 0x4, 0x8, 0x20, 0x1000, 0x4000),
    0x40000,
)
MNT_DETACH = 2
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
ADDR_NO_RANDOMIZE = 0x0040000
MADV_DONTFORK, MADV_COLLAPSE = 10, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """System-call numbers that differ between architectures, of the calls made here."""

    pivot_root: int
    capset: int
    seccomp: int


NUMBERS: Mapping[str, Numbers] = {
    "x86_64": Numbers(pivot_root=155, capset=126, seccomp=317),
    "aarch64": Numbers(pivot_root=41, capset=91, seccomp=277),
}
SYS_MOUNT_SETATTR = 442
SYS_LANDLOCK_CREATE_RULESET, SYS_LANDLOCK_ADD_RULE, SYS_LANDLOCK_RESTRICT_SELF = 444, 445, 446
"""The same on every architecture, as all calls since Linux 5.1 are."""

_libc = ctypes.CDLL(None, use_errno=True)
"""Opened once, before any fork."""


def machine() -> str:
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


def _checked(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def unshare(flags: int, what: str) -> None:
    """New namespaces for this process. Raises OSError, as the other functions here do."""
    _checked(_libc.unshare(ctypes.c_int(flags)), what)


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
    syscall(NUMBERS[machine()].pivot_root, new.encode(), old.encode(), what="pivot_root")


def drop_capabilities() -> None:
    """Empty every capability set of this process; with NO_NEW_PRIVS they never come back."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this process
    nothing = (ctypes.c_uint32 * 6)()
    syscall(NUMBERS[machine()].capset, ctypes.byref(header), ctypes.byref(nothing), what="capset")


def personality(flags: int) -> int:
    """Set the execution domain and return what it was; it takes effect at the next exec."""
    return int(_libc.personality(ctypes.c_ulong(flags)))


def advise(address: int, length: int, advice: int) -> bool:
    """madvise(2); whether the kernel took the advice."""
    return bool(_libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(length), ctypes.c_int(advice)) == 0)
