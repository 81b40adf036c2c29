"""Fork one program, watch it, end it, and leave no process of it behind.

How it ended is told by wait() and by this process's clock alone.
"""

import contextlib
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thor_tir.sandbox.confinement import Confinement
from thor_tir.sandbox.program import become_program

REPORT_BYTES = 4096
"""More than an honest report has."""
CHUNK_BYTES = 65536


@dataclass(slots=True, kw_only=True)
class Capture:
    """One running program as the template sees it."""

    pid: int
    started: float
    """time.monotonic()."""
    pipes: dict[int, bytearray]
    """By descriptor: stdout, stderr, report, in this order."""
    ending: str = "exit"
    """`exit`, `timeout`, `output` or `cancel`: the reason the template stopped waiting."""
    wait_status: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    """Wall-clock time from the fork until no process of the program was left."""
    is_oversized: bool = False
    """stdout or stderr carried more than allowed."""


def run_program(request: dict[str, Any], folder: str, confinement: Confinement, control: socket.socket) -> Capture:
    """Fork, watch and reap one program. When it returns, or leaves by SystemExit, no process of the program lives."""
    readers, writers = zip(*(os.pipe() for _ in range(3)), strict=True)
    template, started = os.getpid(), time.monotonic()
    if (pid := os.fork()) == 0:
        become_program(request, folder, confinement, list(writers), template=template)
    for writer in writers:
        os.close(writer)
    capture = Capture(pid=pid, started=started, pipes={reader: bytearray() for reader in readers})
    try:
        _watch(capture, request, control)
    finally:
        _end(capture, request["output_bytes"])
    return capture


def _watch(capture: Capture, request: dict[str, Any], control: socket.socket) -> None:
    """Collect output until the program ends by itself or has to be ended."""
    deadline = capture.started + request["timeout_s"]
    with selectors.DefaultSelector() as selector, _woken_by_children() as wakeup:
        for descriptor in (control.fileno(), wakeup, *capture.pipes):
            os.set_blocking(descriptor, descriptor == control.fileno())
            selector.register(descriptor, selectors.EVENT_READ)
        while not _is_over(capture):
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if time.monotonic() >= deadline:
                capture.ending = "timeout"
                return
            for key, _ in ready:
                if key.fd == control.fileno():
                    capture.ending = "cancel"  # nothing else than "stop", or the end of the parent, can come now
                    return
                if key.fd == wakeup:
                    os.read(wakeup, CHUNK_BYTES)
                elif not _read(capture, key.fd, request["output_bytes"]):
                    selector.unregister(key.fd)
            if capture.is_oversized:
                return


@contextlib.contextmanager
def _woken_by_children() -> Iterator[int]:
    """A descriptor that becomes readable when a child ends, so that one select() waits for everything."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield reader
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reader)
        os.close(writer)


def _is_over(capture: Capture) -> bool:
    if capture.pid:
        pid, status, usage = os.wait4(capture.pid, os.WNOHANG)
        if pid:
            _note_end(capture, status, usage)
    return capture.pid == 0


def _note_end(capture: Capture, status: int, usage: resource.struct_rusage) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(capture.pid, signal.SIGKILL)  # the session it left behind; no pid comes round this soon
    capture.pid, capture.wait_status, capture.cpu_s = 0, status, usage.ru_utime + usage.ru_stime


def _read(capture: Capture, descriptor: int, output_bytes: int) -> bool:
    """Take one chunk; False when nothing can come any more."""
    try:
        chunk = os.read(descriptor, CHUNK_BYTES)
    except BlockingIOError:
        return False
    is_report = descriptor == list(capture.pipes)[2]
    taken = capture.pipes[descriptor]
    room = (REPORT_BYTES if is_report else output_bytes) - len(taken)
    taken += chunk[:room]
    capture.is_oversized |= len(chunk) > room and not is_report
    return bool(chunk) and not capture.is_oversized


def _end(capture: Capture, output_bytes: int) -> None:
    """Kill what is left, reap it, and take what is still in the pipes."""
    if capture.pid:
        os.kill(capture.pid, signal.SIGKILL)
        _, status, usage = os.wait4(capture.pid, 0)
        _note_end(capture, status, usage)
    _reap_orphans()
    capture.seconds = time.monotonic() - capture.started
    for descriptor in capture.pipes:
        os.set_blocking(descriptor, False)
        while _read(capture, descriptor, output_bytes):
            pass
        os.close(descriptor)
    if capture.is_oversized and capture.ending == "exit":
        capture.ending = "output"


def _reap_orphans() -> None:
    """Kill descendants that left the program's process group: they have become children of this process.

    Before each wait every child is killed, and a new one appears only when another dies, so no wait blocks for long.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


def can_list_children() -> bool:
    """Whether this host tells a process its children; without that no orphan may be adopted."""
    return os.path.exists(_children_path())


def _children_path() -> str:
    return f"/proc/self/task/{os.getpid()}/children"


def _children() -> list[int]:
    try:
        with open(_children_path()) as children:
            return [int(pid) for pid in children.read().split()]
    except FileNotFoundError:
        return []
