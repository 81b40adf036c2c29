"""The file system that programs see: the interpreter and the system's libraries read-only, and one small folder.

Nothing else of the host is in it: no home, no /etc, no /proc, no /sys, no device but the harmless ones. It is built
from bind mounts on a tmpfs and entered with pivot_root, after which the host's own tree is detached.
"""

import errno
import os
import stat
import sys

from thor_tir.sandbox.jail import kernel
from thor_tir.sandbox.jail.kernel import MS_NODEV, MS_NOEXEC, MS_NOSUID

BOX = "/sandbox"
"""Landlock rules bind to a folder above a mount point, so that the tmpfs on WORK can be renewed under them."""
WORK = f"{BOX}/work"
"""Working directory, HOME and TMPDIR of a program: the only place it can write."""
_STAGES = ("/tmp", "/mnt", "/var/tmp", "/run", "/opt", "/srv", "/home")
"""The new root is mounted on one of these folders, in this process's own view alone."""
_SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/lib", "/lib64", "/etc/ld.so.cache")
NULL = "/dev/null"
DEVICES = (NULL, "/dev/zero", "/dev/random", "/dev/urandom")


def runtime_paths() -> list[str]:
    """Folders and files that the interpreter needs after it has started, of those that exist here.

    Packages may lie outside the interpreter's own folders, as where one environment borrows those of another through a
    .pth file. Any other folder on the path, such as the sources of a project under work, is not for programs to read.
    """
    own = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    libraries = [os.path.join(prefix, "lib") for prefix in own]
    packages = [path for path in sys.path if path.startswith(tuple(f"{prefix}/" for prefix in own)) or _is_lent(path)]
    wanted = [*_SYSTEM, *libraries, *packages]
    return [path for path in dict.fromkeys(wanted) if os.path.exists(path) and not _is_inside(path, wanted)]


def _is_lent(path: str) -> bool:
    return os.path.isabs(path) and os.path.basename(path) in ("site-packages", "dist-packages")


def _is_inside(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other}/") and os.path.isdir(other) for other in others)


def swallows_all() -> bool:
    """True if NULL is the device that keeps nothing of what is written to it, and no file in its place."""
    try:
        found = os.stat(NULL)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def build(paths: list[str]) -> None:
    """Make a new root of `paths` and enter it. Raises OSError."""
    stage = _stage(paths)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", stage, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,nr_inodes=4096,mode=755")
    for path in paths:
        _show(path, stage + path)
    os.makedirs(stage + WORK, 0o755)
    os.makedirs(f"{stage}/dev", 0o755)
    for device in DEVICES:
        _touch(stage + device)
        kernel.bind_read_only(device, stage + device)  # what is written to a device is not a change of its file
    os.chdir(stage)
    kernel.pivot_root(".", ".")
    kernel.unmount(".", kernel.MNT_DETACH)  # the host's tree, which pivot_root stacked on the new root
    os.chdir("/")


def _stage(paths: list[str]) -> str:
    """A folder that holds nothing of what is to be shown, since the mount on it hides what it holds."""
    shown = [os.path.realpath(path) for path in paths]
    for folder in _STAGES:
        if os.path.isdir(folder) and not any(path.startswith(f"{os.path.realpath(folder)}/") for path in shown):
            return folder
    raise FileNotFoundError(errno.ENOENT, f"the interpreter's files lie in every one of {', '.join(_STAGES)}")


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
    """True if the working directory holds nothing but itself, and has its first permissions."""
    view = os.statvfs(WORK)
    return view.f_files - view.f_ffree == 1 and view.f_bfree == view.f_blocks and os.stat(WORK).st_mode & 0o777 == 0o700


def _show(path: str, target: str) -> None:
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
