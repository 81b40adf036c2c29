"""Make a process cheap to fork: huge pages for what was imported, nothing for the collector to touch."""

import atexit
import gc
import os
import sys

from thor_tir.sandbox.jail import kernel

_HUGE = 2 * 2**20


def settle() -> None:
    """Forget what is this process's own among what its children inherit, and let them share the rest."""
    kernel.share_one_arena()
    atexit._clear()  # hooks of the preloaded libraries are not the programs'
    gc.collect()
    gc.freeze()
    gc.disable()  # a collection would touch, and so copy, every page shared with a child


def collapse(proc: int) -> int:
    """Put the private memory of this process on huge pages (Linux 6.1): fork copies a page table 512 times smaller.

    Returns the bytes that were moved; 0 where the kernel cannot, or where `proc` is -1.
    """
    if proc < 0:
        return 0
    descriptor = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(descriptor) as maps:
        ranges = [line.split() for line in maps]
    moved = 0
    for fields in ranges:
        is_private_memory = fields[1].startswith("rw-p") and (len(fields) == 5 or fields[5] in ("[heap]",))
        if is_private_memory:
            first, last = (int(end, 16) for end in fields[0].split("-"))
            first, last = -(-first // _HUGE) * _HUGE, last // _HUGE * _HUGE
            if first < last and kernel.advise(first, last - first, kernel.MADV_COLLAPSE):
                moved += last - first
    return moved


def address_space(proc: int) -> int:
    """Bytes that this process has mapped; 0 where the host does not tell."""
    if proc < 0:
        return 0
    descriptor = os.open("self/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(descriptor) as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def is_single_threaded(proc: int) -> bool:
    """A process with threads cannot be forked safely; True where the host does not tell."""
    if proc < 0:
        return True
    me = os.readlink("self", dir_fd=proc)
    descriptor = os.open(f"{me}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
    try:
        return len(os.listdir(descriptor)) == 1
    finally:
        os.close(descriptor)


def forget(package: str) -> None:
    """Take a package's modules out of the table of modules, where programs would find them."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
