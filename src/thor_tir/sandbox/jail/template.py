"""The template process of a worker: it has imported the maths libraries and forks one child per program.

The next child is forked and confined while nothing runs, and waits for its request. Between two forks the template does
next to nothing, so that every child finds the same memory: the same addresses, and few pages to copy. The watcher,
which shares its descriptors, does the rest. No program's text enters this process.
"""

import atexit
import gc
import importlib
import json
import mmap
import os
import signal
import sys
from typing import Any, NoReturn

from thor_tir.sandbox.jail import kernel
from thor_tir.sandbox.jail.confinement import FULL, JailPlace, Missing, prepare_confinement
from thor_tir.sandbox.jail.program import become_program, furnish
from thor_tir.sandbox.jail.wire import FORK, REFUSED, Doors, Greeting, message

_HUGE = 2 * 2**20


def preload(modules: list[str]) -> list[str]:
    """Import each module once for all programs; returns those that could not be imported."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def serve_forks(settings: dict[str, Any], place: JailPlace, gate: int, doors: Doors, note: mmap.mmap) -> NoReturn:
    """Make this process a template, say so to the watcher, and fork whenever it asks."""
    missing = preload(settings["modules"])
    if not is_single_threaded(place.proc):
        sys.exit("a preloaded module started a thread, so this process cannot be forked safely")
    forget("thor_tir")
    sys.path[:] = [path for path in sys.path if path and os.path.exists(path)]
    module = furnish()
    settle()
    if settings["is_collapsed"]:
        collapse(place.proc)
    try:
        confinement = prepare_confinement(
            place,
            mapped=address_space(place.proc),
            folder_bytes=settings["folder_bytes"],
            folder_files=settings["folder_files"],
        )
    except (Missing, OSError) as fault:
        print(json.dumps({"missing": str(fault)}), file=sys.stderr)
        sys.exit(3)
    if place.proc >= 0:
        os.close(place.proc)
    outcome, is_full = kernel.OutcomeBuffer(), place.level == FULL
    descriptors = (doors.null, doors.out, doors.err, doors.ready, doors.feed)
    numbers = [bytes([number]) for number in range(256)]
    os.write(gate, message(Greeting(level=place.level, missing=tuple(missing))))
    while os.read(gate, 1) == FORK:
        confinement.number_next()
        if (pid := kernel.fork()) == 0:
            become_program(confinement, descriptors, module, note)
        os.write(gate, numbers[os.pidfd_open(pid) if pid > 0 else REFUSED])
        outcome.await_end()
        kernel.sweep(-1 if is_full else -pid, signal.SIGKILL)
        os.write(gate, outcome.data)
    sys.exit(0)


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
