"""The template process of a worker: it has imported the maths libraries and forks one child per program.

The next child is forked and confined while nothing runs, and waits for its request. Between two forks the template does
next to nothing, so that every child finds the same memory: the same addresses, and few pages to copy. The watcher,
which shares its descriptors, does the rest. No program's text enters this process.
"""

import importlib
import json
import mmap
import os
import signal
import sys
from typing import Any, NoReturn

from thor_tir.sandbox.jail import kernel, memory
from thor_tir.sandbox.jail.confinement import prepare_confinement
from thor_tir.sandbox.jail.levels import FULL, JailPlace, Missing
from thor_tir.sandbox.jail.program import become_program, furnish
from thor_tir.sandbox.jail.wire import FORK, REFUSED, Doors, Greeting, message


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
    if not memory.is_single_threaded(place.proc):
        sys.exit("a preloaded module started a thread, so this process cannot be forked safely")
    memory.forget("thor_tir")
    sys.path[:] = [path for path in sys.path if path and os.path.exists(path)]
    module = furnish()
    memory.settle()
    if settings["is_collapsed"]:
        memory.collapse(place.proc)
    try:
        confinement = prepare_confinement(
            place,
            mapped=memory.address_space(place.proc),
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
