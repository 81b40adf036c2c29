"""The file system that programs see: the interpreter and the system's libraries read-only, and one small folder.

Nothing else of the host is in it: no home, no /etc, no /proc, no /sys, no device but the harmless ones. It is built
from bind mounts on a tmpfs and entered with pivot_root, after which the host's own tree is detached.
"""

import os
import sys

from thor_tir.sandbox.jail import kernel
from thor_tir.sandbox.jail.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID

BOX = "/sandbox"
"""Landlock rules bind to a folder above a mount point, so that the tmpfs on WORK can be renewed under them."""
WORK = f"{BOX}/work"
"""Working directory, HOME and TMPDIR of a program: the only place it can write."""
_STAGE = "/tmp"  # any folder that every host has; the new root is mounted on it in this process's own view alone
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/lib", "/lib64", "/etc/ld.so.cache")
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def runtime_paths() -> list[str]:
    """Folders and files that the interpreter needs after it has started, of those that exist here."""
    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = [os.path.join(prefix, "lib") for prefix in own]
    packages = [path for path in sys.path if path and any(path.startswith(f"{prefix}/") for prefix in own)]
    wanted = [*_SYSTEM, *libraries, *packages]
    return [path for path in dict.fromkeys(wanted) if os.path.exists(path) and not _is_inside(path, wanted)]


def _is_inside(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other}/") and os.path.isdir(other) for other in others)


def build(paths: list[str]) -> None:
    """Make a new root of `paths` and enter it. Raises OSError."""
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", _STAGE, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,nr_inodes=4096,mode=755")
    for path in paths:
        _show(path)
    os.makedirs(_STAGE + WORK, 0o755)
    os.makedirs(f"{_STAGE}/dev", 0o755)
    for device in DEVICES:
        _touch(_STAGE + device)
        kernel.mount(device, _STAGE + device, None, kernel.MS_BIND)
    os.chdir(_STAGE)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)  # the host's tree, which pivot_root stacked on the new root
    os.chdir("/")


def seal() -> None:
    """Make the root itself read-only. What is mounted on it keeps its own attributes. Raises OSError."""
    kernel.mount("none", "/", None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | MS_NOSUID | MS_NODEV)


def renew_work(size: int, files: int, *, is_mounted: bool) -> None:
    """Give the next program an empty working directory, whatever the last one left there. Raises OSError.

    Unmounting, unlike deleting, follows no link and does not care how deep or how forbidden a tree is.
    """
    if is_mounted:
        kernel.unmount(WORK, kernel.MNT_DETACH)
    kernel.mount("tmpfs", WORK, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, f"size={size},nr_inodes={files},mode=700")


def is_untouched() -> bool:
    """Whether the working directory holds nothing but itself, and has its first permissions."""
    view = os.statvfs(WORK)
    return view.f_files - view.f_ffree == 1 and view.f_bfree == view.f_blocks and os.stat(WORK).st_mode & 0o777 == 0o700


def _show(path: str) -> None:
    target = _STAGE + path
    if os.path.islink(path) and not os.path.isabs(os.readlink(path)):
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, 0o755, exist_ok=True)
    else:
        _touch(target)
    kernel.bind_read_only(path, target)


def _touch(path: str) -> None:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
