"""Started for each worker: builds the jail, forks the template into it as its first process, and becomes its watcher.

The order matters. Root first shows the interpreter's files, which may lie under a private folder, and then becomes an
unprivileged user for good; from there on it does what any other user does: a user namespace with no rights outside,
and all other namespaces inside it.
"""

import contextlib
import fcntl
import mmap
import os
import signal
import socket
import sys
from collections.abc import Iterator

from thor_tir.sandbox.jail import kernel, root
from thor_tir.sandbox.jail.confinement import FULL, LANDLOCK, JailPlace, Missing
from thor_tir.sandbox.jail.kernel import CLONE_NEWNS, CLONE_NEWUSER
from thor_tir.sandbox.jail.wire import Doors, LastWords, TemplateSettings, leave

BOOTSTRAP = """
import json, sys, types
settings = json.loads(sys.argv[1])
for name, folder in settings.pop("packages").items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = [folder]
from thor_tir.sandbox.jail.launch import launch_template
from thor_tir.sandbox.jail.wire import TemplateSettings
launch_template(TemplateSettings(**settings))
"""
"""Source that the interpreter is started with: it finds this file without running the package's own `__init__`, whose
dependencies another interpreter need not have."""

_OTHERS = {
    "mount namespace": kernel.CLONE_NEWNS,
    "pid namespace": kernel.CLONE_NEWPID,
    "network namespace": kernel.CLONE_NEWNET,
    "ipc namespace": kernel.CLONE_NEWIPC,
    "uts namespace": kernel.CLONE_NEWUTS,
    "cgroup namespace": kernel.CLONE_NEWCGROUP,
}
INNER_ID = 1000
"""Uid and gid of a program inside its user namespace."""


def enter_jail(level: str) -> JailPlace:
    """Bring this process to the door of the jail: its next child is inside. Raises Missing."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) if os.path.isdir("/proc/self") else -1
    paths = root.runtime_paths()
    is_root = os.geteuid() == 0
    uid = 200_000 + os.getpid() if is_root else os.geteuid()  # no two workers of one host share it
    if level == FULL:
        _enter_namespaces(paths, uid, proc, is_root=is_root)
    elif is_root and level == LANDLOCK and _is_readable_by(uid, paths):
        _become(uid)  # else its programs keep uid 0, without a single capability and behind the rules of Landlock
    return JailPlace(level=level, paths=tuple(paths), proc=proc)


def _is_readable_by(uid: int, paths: list[str]) -> bool:
    """True if a process of that uid could still import what it needs. Tried in a child."""
    if (pid := os.fork()) == 0:
        code = 1
        with contextlib.suppress(OSError):
            _become(uid)
            code = 0 if all(os.access(path, os.R_OK) for path in paths) else 1
        os._exit(code)
    return os.waitpid(pid, 0)[1] == 0


def _enter_namespaces(paths: list[str], uid: int, proc: int, *, is_root: bool) -> None:
    if is_root:
        with _layer("mount namespace"):
            kernel.unshare(CLONE_NEWNS, "unshare")
        with _layer("read-only root"):
            root.build(paths)
        _become(uid)
    with _layer("user namespace"):
        gid = os.getegid()
        kernel.unshare(CLONE_NEWUSER, "unshare")
        _write(proc, "self/setgroups", "deny")
        _write(proc, "self/uid_map", f"{INNER_ID} {uid} 1")
        _write(proc, "self/gid_map", f"{INNER_ID} {gid} 1")
    for name, flag in _OTHERS.items():
        with _layer(name):
            kernel.unshare(flag, "unshare")
    with _layer("read-only root"):
        if not is_root:
            root.build(paths)
        root.seal()


@contextlib.contextmanager
def _layer(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise Missing(name, fault.strerror or str(fault)) from fault


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1, what="dumpable")  # or /proc/self would stay root's


def _write(proc: int, path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def launch_template(settings: TemplateSettings) -> None:
    """Enter the jail, fork the template into it, and become its watcher."""
    from thor_tir.sandbox.jail import template  # now, since inside the jail this package cannot be found
    from thor_tir.sandbox.jail.watch import ProgramWatch

    parent = os.getppid()
    _fix_addresses()
    try:
        place = enter_jail(settings.level)
        gate, theirs = socket.socketpair()
        doors, note = _doors(settings.feed), mmap.mmap(-1, mmap.PAGESIZE)
    except Missing as fault:
        leave(LastWords(reason=str(fault), layer=fault.layer))
    except OSError as fault:
        leave(LastWords(reason=str(fault)))
    launcher = os.getpid()
    if (pid := kernel.fork_sharing_descriptors()) == 0:
        _die_with(launcher if place.level != FULL else 0)
        template.serve_forks(settings, place, theirs.fileno(), doors, note)
    _die_with(parent)
    control = socket.socket(fileno=settings.control)
    watch = ProgramWatch(control, os.pidfd_open(pid), gate.fileno(), doors, note)
    watch.serve_programs(place.level, (settings.folder_bytes, settings.folder_files))


def _doors(feed: int) -> Doors:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    first = 10  # beyond the numbers that a child gives them
    high = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, first) for source in (null, null, null, null, feed)]
    for low in (null, feed):
        os.close(low)
    return Doors(null=high[0], out=high[1], err=high[2], ready=high[3], feed=high[4])


def _die_with(parent: int) -> None:
    """The kernel forgets this at a change of credentials, so it comes after those. Inside a pid namespace a parent
    outside it has the number 0."""
    with contextlib.suppress(OSError, AttributeError):
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL, what="parent death signal")
        if os.getppid() != parent:
            os._exit(0)


def _fix_addresses() -> None:
    """Start over with a fixed address-space layout, so that equal programs print equal addresses in every worker."""
    with contextlib.suppress(OSError, AttributeError):
        if kernel.personality(0xFFFFFFFF) & kernel.ADDR_NO_RANDOMIZE == 0:
            # Libraries low, not under the stack: there a fixed place makes the interpreter's loop an eighth slower.
            kernel.personality(kernel.ADDR_NO_RANDOMIZE | kernel.ADDR_COMPAT_LAYOUT)
            if kernel.personality(0xFFFFFFFF) & kernel.ADDR_NO_RANDOMIZE:
                os.execv(sys.executable, [*sys.orig_argv])
