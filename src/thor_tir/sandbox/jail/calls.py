"""The system calls that a program may make, by name, with their numbers on x86-64 and on aarch64.

What is not here fails, see `seccomp.py`. Not here are, above all, fork, exec, sockets, ptrace, keyrings, shared memory,
mounts, namespaces, io_uring, bpf and memfd_create.
"""

from collections.abc import Iterable, Mapping

ABSENT = -1
"""The architecture never had the call."""

FREE: Mapping[str, tuple[int, int]] = {
    # files: open, read, write, and what is known of them
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, ABSENT),
    "openat": (257, 56),
    "creat": (85, ABSENT),
    "close": (3, 57),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "preadv": (295, 69),
    "pwritev": (296, 70),
    "sendfile": (40, 71),
    "copy_file_range": (326, 285),
    "stat": (4, ABSENT),
    "fstat": (5, 80),
    "lstat": (6, ABSENT),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "listxattr": (194, 11),
    "llistxattr": (195, 12),
    "flistxattr": (196, 13),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "access": (21, ABSENT),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, ABSENT),
    "readlinkat": (267, 78),
    "getdents": (78, ABSENT),
    "getdents64": (217, 61),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "ftruncate": (77, 46),
    "fallocate": (285, 47),
    "fadvise64": (221, 223),
    "dup": (32, 23),
    "dup2": (33, ABSENT),
    "dup3": (292, 24),
    "close_range": (436, 436),
    "umask": (95, 166),
    # folders and names: only where the file system lets them
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "rename": (82, ABSENT),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "mkdir": (83, ABSENT),
    "mkdirat": (258, 34),
    "rmdir": (84, ABSENT),
    "unlink": (87, ABSENT),
    "unlinkat": (263, 35),
    "link": (86, ABSENT),
    "linkat": (265, 37),
    "symlink": (88, ABSENT),
    "symlinkat": (266, 36),
    # waiting: pipes, polls, events
    "pipe": (22, ABSENT),
    "pipe2": (293, 59),
    "poll": (7, ABSENT),
    "ppoll": (271, 73),
    "select": (23, ABSENT),
    "pselect6": (270, 72),
    "epoll_create": (213, ABSENT),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, ABSENT),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    # memory
    "brk": (12, 214),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "msync": (26, 227),
    "mincore": (27, 232),
    "madvise": (28, 233),
    # threads and locks
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "get_robust_list": (274, 100),
    "set_tid_address": (218, 96),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120),
    "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168),
    "gettid": (186, 178),
    "arch_prctl": (158, ABSENT),
    # signals to oneself
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigpending": (127, 136),
    "rt_sigtimedwait": (128, 137),
    "rt_sigsuspend": (130, 133),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "pause": (34, ABSENT),
    # clocks and alarms
    "time": (201, ABSENT),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "alarm": (37, ABSENT),
    "times": (100, 153),
    # who and where one is
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getpgrp": (111, ABSENT),
    "getpgid": (121, 155),
    "getsid": (124, 156),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getgroups": (115, 158),
    "getresuid": (118, 148),
    "getresgid": (120, 150),
    "getpriority": (140, 141),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    # the end, chance
    "exit": (60, 93),
    "exit_group": (231, 94),
    "wait4": (61, 260),
    "waitid": (247, 95),
    "getrandom": (318, 278),
}
"""Allowed with any argument."""

UNMEDIATED: Mapping[str, tuple[int, int]] = {
    "truncate": (76, 45),
    "chmod": (90, ABSENT),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utime": (132, ABSENT),
    "utimes": (235, ABSENT),
    "futimesat": (261, ABSENT),
    "utimensat": (280, 88),
}
"""Landlock does not mediate these (`truncate` not before Linux 6.2), so they are allowed only where the program sees no
host file that it owns."""

BOUND: Mapping[str, tuple[int, int]] = {
    "clone": (56, 220),
    "fcntl": (72, 25),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "prlimit64": (302, 261),
    "setrlimit": (160, 164),
    "ioctl": (16, 29),
    "prctl": (157, 167),
}
"""Allowed for some arguments only; `seccomp.py` says for which. `setrlimit` can but lower what is set."""

UNKNOWN: Mapping[str, tuple[int, int]] = {"clone3": (435, 435), "openat2": (437, 437), "fchmodat2": (452, 452)}
"""Answered as by a kernel that never heard of them, so that the C library falls back to calls that can be filtered."""

_COLUMNS = {"x86_64": 0, "aarch64": 1}


def numbers(table: Mapping[str, tuple[int, int]], architecture: str) -> dict[str, int]:
    """One architecture's numbers of the calls that it has."""
    column = _COLUMNS[architecture]
    return {name: pair[column] for name, pair in table.items() if pair[column] != ABSENT}


def all_tables() -> Iterable[Mapping[str, tuple[int, int]]]:
    """Every table of this file."""
    return (FREE, UNMEDIATED, BOUND, UNKNOWN)
