"""What keeps a program in its place: found out once per template process, applied once per program.

The words of the level, each a layer that holds:

  process   a fresh forked process in its own session, with limits on CPU time, file size and open files
  memory    an address-space limit
  nonet     a network namespace without interfaces
  uid       an unprivileged uid of its own; only root can give it, and only if that uid can read the interpreter
  nproc     a limit on tasks; it has no effect on programs that keep uid 0

Not stopped: reading files that the user may read, signals to the user's other processes (but for `uid`), and whatever
a hostile program does through raw system calls. On hosts other than Linux only `process` holds.
"""

import contextlib
import ctypes
import errno
import functools
import os
import resource
import signal
import sys
import tempfile
from dataclasses import dataclass
from typing import Any

SPAWNING = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "subprocess.Popen"})
"""Audit events of starting another program. A hook on them keeps threads usable, which RLIMIT_NPROC alone cannot."""
THREADS = 32
"""Tasks allowed on top of `processes`: the kernel counts threads as processes."""
OPEN_FILES = 64
REPORT_FD = 3
"""Descriptor of the report pipe in a program's process; the first that is not stdin, stdout or stderr."""
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38


class Denied(PermissionError):
    """Raised inside a program that tries to start another one; to the program it is an ordinary PermissionError."""


Denied.__module__, Denied.__qualname__ = "builtins", "PermissionError"  # what a traceback prints


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """What this host lets a template do to its programs."""

    level: str
    """The layers, joined by `+`."""
    uid: int | None
    """Uid and gid that programs run under; None keeps the template's."""


def die_with_parent(number: int, parent: int) -> bool:
    """Have this process signalled when its parent dies; False if `parent` is dead already.

    The kernel forgets this at a change of credentials, so it comes after those.
    """
    _offers("prctl", PR_SET_PDEATHSIG, number, 0, 0, 0)
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Make descendants whose parent died children of this process."""
    _offers("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def confine_template(scratch: str) -> Confinement:
    """Take the network away from this process and find out what its children can be denied."""
    is_root = os.geteuid() == 0
    uid = 200_000 + os.getpid()  # no two templates alive on a host share it, so none can signal another's program
    needed = [path for path in [*sys.path, scratch] if os.path.isdir(path)]
    is_dropped = is_root and _can_become(uid, needed)
    # Whoever keeps its uid enters a user namespace, which takes root's capabilities over the host away from it.
    is_alone = not is_dropped and _offers("unshare", CLONE_NEWUSER | CLONE_NEWNET)
    is_offline = is_alone or _offers("unshare", CLONE_NEWNET)
    layers = {
        "process": True,
        "memory": _address_space() > 0,
        "nonet": is_offline,
        "uid": is_dropped,
        "nproc": is_dropped or (is_alone and not is_root),
    }
    return Confinement(level="+".join(name for name, holds in layers.items() if holds), uid=uid if is_dropped else None)


def _address_space() -> int:
    """Bytes this process has mapped; 0 where the host does not tell."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except FileNotFoundError:
        return 0


@functools.cache
def _libc() -> ctypes.CDLL:
    """Opened once, in the template: every fork has it then."""
    return ctypes.CDLL(None, use_errno=True)


def _offers(name: str, *arguments: int) -> bool:
    """Call a C function that returns 0 if it did what was asked; False also where the host has no such function."""
    try:
        return bool(getattr(_libc(), name)(*arguments) == 0)
    except AttributeError:
        return False


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _can_become(uid: int, needed: list[str]) -> bool:
    """Whether a process of that uid could still import from, and work in, the folders it needs. Tried in a child."""
    if (pid := os.fork()) == 0:
        code = 1
        with contextlib.suppress(OSError, AttributeError):
            _become(uid)
            code = 0 if all(os.access(path, os.R_OK | os.X_OK) for path in needed) else 1
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def connect(descriptors: list[int]) -> None:
    """Make `descriptors` this process's stdout, stderr and REPORT_FD, give it no input, and close everything else."""
    for target, source in enumerate([os.open(os.devnull, os.O_RDONLY), *descriptors]):
        os.dup2(source, target, inheritable=target < REPORT_FD)
    os.closerange(REPORT_FD + 1, 4096)


def confine_program(request: dict[str, Any], folder: str, confinement: Confinement, *, template: int) -> None:
    """Confine this freshly forked process, whose parent is the process `template`, to `folder` and its limits.

    Raises OSError, ValueError or OverflowError when something that the level promises could not be done.
    """
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.umask(0o077)
    os.environ.update(HOME=folder, TMPDIR=folder)
    tempfile.tempdir = None
    if confinement.uid is not None:
        _become(confinement.uid)
    if not die_with_parent(signal.SIGKILL, template):
        raise ProcessLookupError(errno.ESRCH, "the template died")
    _offers("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _limit(request, confinement.level.split("+"))


def _limit(request: dict[str, Any], layers: list[str]) -> None:
    cpu_s = request["cpu_s"]
    bounds = {
        resource.RLIMIT_CPU: (cpu_s, cpu_s + 1),  # SIGXCPU at the first, SIGKILL at the second
        resource.RLIMIT_FSIZE: (request["file_bytes"],) * 2,
        resource.RLIMIT_NOFILE: (OPEN_FILES,) * 2,
        resource.RLIMIT_CORE: (0, 0),
    }
    if "memory" in layers:
        bounds[resource.RLIMIT_AS] = (_address_space() + request["memory_bytes"],) * 2
    if "nproc" in layers:
        bounds[resource.RLIMIT_NPROC] = (2 + request["processes"] + THREADS,) * 2  # 2: the template and this process
    for which, (soft, hard) in bounds.items():
        _, ceiling = resource.getrlimit(which)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        resource.setrlimit(which, (soft, hard))
    if request["processes"] == 0:
        sys.addaudithook(_forbid_processes)


def _forbid_processes(event: str, _: tuple[object, ...]) -> None:
    if event in SPAWNING:
        raise Denied(errno.EPERM, "programs may not start other programs here")
