"""Every number in the tables of system calls is the one that the kernel's own headers give."""

import platform
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from thor_tir.sandbox.jail import calls, kernel

GENERIC = Path("/usr/include/asm-generic/unistd.h")
"""The table that aarch64 uses, the same on every host."""
NATIVE = (Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm/unistd_64.h"))
"""The table of x86-64, on hosts of that kind."""
NEWER = {"fchmodat2": 452, "openat2": 437, "clone3": 435, "faccessat2": 439, "close_range": 436}
"""Younger than some headers; numbers from 424 on are the same on every architecture (Linux 5.1)."""


def defined(header: Path) -> dict[str, int]:
    """Numbers by name; a name may be given as another one (`__NR_fcntl` as `__NR3264_fcntl`)."""
    raw = dict(re.findall(r"^#define\s+(__NR\w+)\s+(\w+)", header.read_text(), re.MULTILINE))
    resolved = {name: raw.get(value, value) for name, value in raw.items()}
    return {
        name.removeprefix("__NR_"): int(value)
        for name, value in resolved.items()
        if name.startswith("__NR_") and value.isdigit()
    }


def tables_of(architecture: str) -> Mapping[str, int]:
    return {name: at for table in calls.all_tables() for name, at in calls.numbers(table, architecture).items()}


def assert_same(ours: Mapping[str, int], theirs: Mapping[str, int]) -> None:
    known = {**NEWER, **theirs}
    assert {name: known.get(name) for name in ours} == ours


def test_the_numbers_of_aarch64_are_those_of_the_generic_header() -> None:
    if not GENERIC.exists():
        pytest.skip(f"{GENERIC} is not here; it comes with linux-libc-dev")
    theirs = defined(GENERIC)
    assert len(theirs) > 250
    assert_same(tables_of("aarch64"), theirs)
    own = {"pivot_root", "capset", "seccomp", "waitid"}
    assert {name: getattr(kernel.NUMBERS["aarch64"], name) for name in own} == {name: theirs[name] for name in own}


def test_a_call_that_aarch64_has_is_not_said_to_be_absent_there() -> None:
    if not GENERIC.exists():
        pytest.skip(f"{GENERIC} is not here; it comes with linux-libc-dev")
    absent = {name for table in calls.all_tables() for name in table} - tables_of("aarch64").keys()
    assert absent.isdisjoint(defined(GENERIC))


def test_the_numbers_of_x86_64_are_those_of_its_header() -> None:
    if (header := next((path for path in NATIVE if path.exists()), None)) is None:
        pytest.skip(f"no header of x86-64 on this {platform.machine()} host; it comes with linux-libc-dev")
    theirs = defined(header)
    assert_same(tables_of("x86_64"), theirs)
    own = {"pivot_root", "capset", "seccomp", "waitid"}
    assert {name: getattr(kernel.NUMBERS["x86_64"], name) for name in own} == {name: theirs[name] for name in own}


def test_no_call_stands_in_two_tables_or_has_the_number_of_another() -> None:
    names = [name for table in calls.all_tables() for name in table]
    assert len(names) == len(set(names))
    for architecture in kernel.AUDIT_ARCH:
        numbers = list(tables_of(architecture).values())
        assert len(numbers) == len(set(numbers))


def test_nothing_that_starts_processes_or_reaches_out_is_allowed() -> None:
    feared = "fork vfork execve execveat socket socketpair connect ptrace process_vm_readv mount umount2 unshare setns"
    feared += " pivot_root chroot bpf io_uring_setup userfaultfd memfd_create memfd_secret keyctl add_key shmget msgget"
    feared += " semget perf_event_open pidfd_open pidfd_getfd kexec_load init_module open_by_handle_at setsid setpgid"
    feared += (
        " setuid seccomp landlock_create_ruleset mknod mknodat sched_setaffinity setpriority personality quotactl flock"
    )
    feared += (
        " syslog reboot swapon clock_settime settimeofday acct vhangup fanotify_init inotify_init1 name_to_handle_at"
    )
    assert {name for table in calls.all_tables() for name in table}.isdisjoint(feared.split())
