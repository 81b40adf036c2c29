"""The template process of a worker: it has imported the maths libraries and forks one child per program.

The next child is forked and confined while nothing runs, and waits for its request. Between two forks the template does
next to nothing, so that every child finds the same memory: the same addresses, and few pages to copy. The watcher,
which shares its descriptors, does the rest. No program's text enters this process.
"""

import atexit
import gc
import importlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from thor_tir.sandbox.jail import kernel
from thor_tir.sandbox.jail.confinement import FULL, NONE, JailPlace, Missing, prepare_confinement
from thor_tir.sandbox.jail.program import become_program, furnish
from thor_tir.sandbox.jail.stand_ins import provide_asyncio, refuse_processes
from thor_tir.sandbox.jail.wire import FORK, REFUSED, Doors, Greeting, LastWords, TemplateSettings, leave, message

_HUGE = 2 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Preloaded:
    """The modules of a preload that a template cannot offer."""

    missing: tuple[str, ...]
    """Those that could not be imported."""
    threads: tuple[str, ...]
    """Those whose import started a thread that went on."""


def preload(modules: Sequence[str], proc: int) -> Preloaded:
    """Import each module once for all programs, and notice which one leaves a thread behind."""
    missing, threads = [], []
    before = num_threads(proc)
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit):  # whatever a broken library raises, programs that need it will meet it
            missing.append(name)
        after = num_threads(proc, at_best=before)
        if after > before:
            threads.append(name)
        before = after
    return Preloaded(missing=tuple(missing), threads=tuple(threads))


def serve_forks(settings: TemplateSettings, place: JailPlace, gate: int, doors: Doors, note: mmap.mmap) -> NoReturn:
    """Make this process a template, say so to the watcher, and fork whenever it asks."""
    preloaded = preload(settings.modules, place.proc)
    if num_threads(place.proc, at_best=1) > 1:
        names = ", ".join(preloaded.threads) or "a preloaded module"
        reason = f"{names} started a thread at import, and a process with threads cannot be forked safely"
        leave(LastWords(reason=reason, threads=preloaded.threads))
    forget("thor_tir")
    sys.path[:] = [path for path in sys.path if path and os.path.exists(path)]
    provide_asyncio()
    if place.level != NONE:
        refuse_processes()
    module = furnish()
    settle()
    if settings.is_collapsed:
        collapse(place.proc)
    try:
        confinement = prepare_confinement(
            place,
            mapped=address_space(place.proc),
            folder_bytes=settings.folder_bytes,
            folder_files=settings.folder_files,
        )
    except Missing as fault:
        leave(LastWords(reason=str(fault), layer=fault.layer))
    except OSError as fault:
        leave(LastWords(reason=str(fault)))
    if place.proc >= 0:
        os.close(place.proc)
    outcome, is_full = kernel.OutcomeBuffer(), place.level == FULL
    descriptors = (doors.null, doors.out, doors.err, doors.ready, doors.feed)
    numbers = [bytes([number]) for number in range(256)]
    os.write(gate, message(Greeting(level=place.level, missing=preloaded.missing)))
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
    """Bytes that this process has mapped; 0 where the host does not say."""
    if proc < 0:
        return 0
    descriptor = os.open("self/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(descriptor) as statm:
        return int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def num_threads(proc: int, *, at_best: int = 0) -> int:
    """Threads of this process; 1 where the host does not say. One that is about to end may take a moment to do so."""
    if proc < 0:
        return 1
    me = os.readlink("self", dir_fd=proc)
    for _ in range(20):
        descriptor = os.open(f"{me}/task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=proc)
        try:
            count = len(os.listdir(descriptor))
        finally:
            os.close(descriptor)
        if count <= at_best or not at_best:
            break
        time.sleep(0.005)
    return count


def forget(package: str) -> None:
    """Take a package's modules out of the table of modules, where programs would find them."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
