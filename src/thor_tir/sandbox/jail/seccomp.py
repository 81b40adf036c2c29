"""The list of system calls that a program may make, as a filter for the kernel.

What is not listed fails with EPERM; a foreign architecture kills; clone3 and a few newer calls answer ENOSYS, so that
the C library falls back to calls whose arguments a filter can read. `fork`, `exec`, sockets, ptrace, keyrings, shared
memory, mounts and namespaces are not listed. Threads are: clone with CLONE_THREAD.
"""

import ctypes
import errno
import struct
from collections.abc import Mapping, Sequence

from thor_tir.sandbox.jail import kernel

_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH = 0, 4
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000

ALLOWED: Mapping[str, Sequence[int]] = {
    "x86_64": (
        # read write close stat fstat lstat poll lseek mmap mprotect munmap brk
        *(0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12),
        # rt_sigaction rt_sigprocmask rt_sigreturn pread64 pwrite64 readv writev access pipe select sched_yield mremap
        *(13, 14, 15, 17, 18, 19, 20, 21, 22, 23, 24, 25),
        # msync mincore madvise dup dup2 pause nanosleep getitimer alarm setitimer getpid exit
        *(26, 27, 28, 32, 33, 34, 35, 36, 37, 38, 39, 60),
        # uname fcntl flock fsync fdatasync truncate ftruncate getdents getcwd chdir fchdir rename mkdir rmdir creat
        *(63, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85),
        # link unlink symlink readlink umask gettimeofday getrlimit getrusage sysinfo times get[e]uid get[e]gid
        *(86, 87, 88, 89, 95, 96, 97, 98, 99, 100, 102, 104, 107, 108),
        # getppid getpgrp getgroups getresuid getresgid getpgid getsid rt_sigpending rt_sigtimedwait rt_sigsuspend
        *(110, 111, 115, 118, 120, 121, 124, 127, 128, 130),
        # sigaltstack statfs fstatfs getpriority sched_getparam sched_getscheduler sched_get_priority_max and _min
        *(131, 137, 138, 140, 143, 145, 146, 147),
        # gettid time futex sched_getaffinity getdents64 set_tid_address fadvise64 clock_gettime clock_getres
        *(186, 201, 202, 204, 217, 218, 221, 228, 229),
        # clock_nanosleep exit_group epoll_wait epoll_ctl openat mkdirat newfstatat unlinkat renameat linkat symlinkat
        *(230, 231, 232, 233, 257, 258, 262, 263, 264, 265, 266),
        # readlinkat faccessat pselect6 ppoll set_robust_list get_robust_list utimensat fallocate eventfd2 epoll_create1
        *(267, 269, 270, 271, 273, 274, 280, 285, 290, 291),
        # dup3 pipe2 preadv pwritev renameat2 getrandom copy_file_range statx rseq close_range faccessat2 open
        *(292, 293, 295, 296, 316, 318, 326, 332, 334, 436, 439, 2),
        # epoll_create epoll_pwait getcpu membarrier sendfile arch_prctl wait4 waitid restart_syscall
        *(213, 281, 309, 324, 40, 158, 61, 247, 219),
    ),
    "aarch64": (
        # getcwd eventfd2 epoll_create1 epoll_ctl epoll_pwait dup dup3 fcntl flock mkdirat unlinkat symlinkat linkat
        *(17, 19, 20, 21, 22, 23, 24, 25, 32, 34, 35, 36, 37),
        # renameat statfs fstatfs truncate ftruncate fallocate faccessat chdir fchdir openat close pipe2 getdents64
        *(38, 43, 44, 45, 46, 47, 48, 49, 50, 56, 57, 59, 61),
        # lseek read write readv writev pread64 pwrite64 preadv pwritev sendfile pselect6 ppoll readlinkat fstat[at]
        *(62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 78, 79, 80),
        # fsync fdatasync utimensat exit exit_group waitid set_tid_address futex [sg]et_robust_list nanosleep
        *(82, 83, 88, 93, 94, 95, 96, 98, 99, 100, 101),
        # getitimer setitimer clock_gettime clock_getres clock_nanosleep sched_getscheduler sched_getparam
        *(102, 103, 113, 114, 115, 120, 121),
        # sched_getaffinity sched_yield sched_get_priority_max and _min restart_syscall sigaltstack rt_sigsuspend
        *(123, 124, 125, 126, 128, 132, 133),
        # rt_sigaction rt_sigprocmask rt_sigpending rt_sigtimedwait rt_sigreturn getpriority getresuid getresgid times
        *(134, 135, 136, 137, 139, 141, 148, 150, 153),
        # getpgid getsid getgroups uname getrlimit getrusage umask getcpu gettimeofday getpid getppid getuid geteuid
        *(155, 156, 158, 160, 163, 165, 166, 168, 169, 172, 173, 174, 175),
        # getgid getegid gettid sysinfo brk munmap mremap mmap fadvise64 mprotect msync mincore madvise wait4
        *(176, 177, 178, 179, 214, 215, 216, 222, 223, 226, 227, 232, 233, 260),
        # renameat2 getrandom membarrier copy_file_range statx rseq close_range faccessat2
        *(276, 278, 283, 285, 291, 293, 436, 439),
    ),
}
"""By number, since the filter outlives any table of names; the names stand above each row."""

CHMOD_FAMILY: Mapping[str, Sequence[int]] = {
    "x86_64": (90, 91, 268, 132, 235, 261, 280),  # chmod fchmod fchmodat utime utimes futimesat utimensat
    "aarch64": (52, 53, 88),  # fchmod fchmodat utimensat
}
"""Landlock does not mediate these, so they are allowed only where the program sees no host file that it owns."""

_SPECIAL: Mapping[str, Mapping[str, int]] = {
    "x86_64": {
        "clone": 56,
        "kill": 62,
        "tkill": 200,
        "tgkill": 234,
        "prlimit64": 302,
        "setrlimit": 160,
        "ioctl": 16,
        "prctl": 157,
    },
    "aarch64": {
        "clone": 220,
        "kill": 129,
        "tkill": 130,
        "tgkill": 131,
        "prlimit64": 261,
        "setrlimit": 164,
        "ioctl": 29,
        "prctl": 167,
    },
}
_NOT_THERE = (435, 437, 452)  # clone3, openat2, fchmodat2: the same numbers everywhere
_HARMLESS_IOCTLS = (
    0x5401,
    0x5413,
    0x541B,
    0x5421,
    0x5450,
    0x5451,
)  # TCGETS TIOCGWINSZ FIONREAD FIONBIO FIONCLEX FIOCLEX
_HARMLESS_PRCTLS = (15, 16, 3, 40)  # PR_SET_NAME PR_GET_NAME PR_GET_DUMPABLE PR_GET_TID_ADDRESS


def _op(code: int, k: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, k & 0xFFFFFFFF)


def _argument(index: int) -> int:
    return 16 + 8 * index  # the low half; both architectures are little-endian


def _allow_if(number: int, index: int, values: Sequence[int]) -> list[bytes]:
    """Allow call `number` if its argument is one of `values`, else EPERM."""
    body = [_op(_LOAD, _argument(index))]
    body += [_op(_JUMP_EQUAL, value, len(values) - at, 0) for at, value in enumerate(values)]
    body += [_op(_RETURN, _ERRNO | errno.EPERM), _op(_RETURN, _ALLOW)]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def _allow_threads(number: int) -> list[bytes]:
    body = [
        _op(_LOAD, _argument(0)),
        _op(_JUMP_SET, _CLONE_THREAD, 1, 0),
        _op(_RETURN, _ERRNO | errno.EPERM),
        _op(_RETURN, _ALLOW),
    ]
    return [_op(_JUMP_EQUAL, number, 0, len(body)), *body]


def program(architecture: str, *, pid: int, may_chmod: bool) -> bytes:
    """The filter as the kernel takes it: for a process that will have the number `pid` in its own namespace."""
    special = _SPECIAL[architecture]
    allowed = sorted({*ALLOWED[architecture]} - {*CHMOD_FAMILY[architecture]})
    if may_chmod:
        allowed = sorted({*allowed, *CHMOD_FAMILY[architecture]})
    ops = [
        _op(_LOAD, _ARCH),
        _op(_JUMP_EQUAL, kernel.AUDIT_ARCH[architecture], 1, 0),
        _op(_RETURN, _KILL),
        _op(_LOAD, _NR),
    ]
    if architecture == "x86_64":
        ops += [_op(_JUMP_AT_LEAST, _X32, 0, 1), _op(_RETURN, _KILL)]
    ops += _any_of(allowed, _ALLOW)
    ops += _any_of(_NOT_THERE, _ERRNO | errno.ENOSYS)
    ops += _allow_threads(special["clone"])
    ops += _allow_if(special["kill"], 0, (0, pid))
    ops += _allow_if(special["tgkill"], 0, (pid,))
    ops += _allow_if(special["prlimit64"], 0, (0, pid))
    ops += _any_of((special["setrlimit"],), _ALLOW)
    ops += _allow_if(special["ioctl"], 1, _HARMLESS_IOCTLS)
    ops += _allow_if(special["prctl"], 0, _HARMLESS_PRCTLS)
    ops.append(_op(_RETURN, _ERRNO | errno.EPERM))
    return b"".join(ops)


def _any_of(numbers: Sequence[int], verdict: int) -> list[bytes]:
    """Return `verdict` for runs of neighbouring numbers: two comparisons a run."""
    ops: list[bytes] = []
    for first, last in _runs(sorted(numbers)):
        if first == last:
            ops += [_op(_JUMP_EQUAL, first, 0, 1), _op(_RETURN, verdict)]
        else:  # first <= number, and not last + 1 <= number
            ops += [_op(_JUMP_AT_LEAST, first, 0, 2), _op(_JUMP_AT_LEAST, last + 1, 1, 0), _op(_RETURN, verdict)]
    return ops


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


class Filter:
    """A filter kept in memory in the form that the kernel reads, so that a fresh child needs one call to install it."""

    def __init__(self, code: bytes) -> None:
        self._code = ctypes.create_string_buffer(code, len(code))
        self._header = ctypes.create_string_buffer(
            struct.pack("=HxxxxxxQ", len(code) // 8, ctypes.addressof(self._code))
        )

    def install(self) -> None:
        """From here on this process can only do what the filter allows. Needs NO_NEW_PRIVS. Raises OSError."""
        set_mode_filter = 1
        kernel.syscall(
            kernel.NUMBERS[kernel.machine()].seccomp,
            ctypes.c_uint(set_mode_filter),
            ctypes.c_uint(0),
            self._header,
            what="seccomp",
        )
