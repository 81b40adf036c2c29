"""The template process of a worker: it has imported the maths libraries and forks one child per program.

The next child is forked and confined while nothing runs, and waits for its request. Over the control socket the
template receives the bounds of one program at a time and answers with bare facts: how the child ended and what it
wrote. What those facts mean is decided in `sandbox/interpretation.py`. No program's text enters this process, and what
programs print is kept in memory that forks do not have.
"""

import contextlib
import fcntl
import importlib
import json
import mmap
import os
import resource
import select
import signal
import socket
import struct
import sys
import termios
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from thor_tir.sandbox.jail import memory, root
from thor_tir.sandbox.jail.confinement import Confinement, prepare
from thor_tir.sandbox.jail.launch import FULL, Missing, Place
from thor_tir.sandbox.jail.program import READY, become_program

HEADER = struct.Struct("!I")
"""Bytes of JSON that follow. A frame of length zero asks to stop the program that is running."""


@dataclass(slots=True, kw_only=True)
class Child:
    """One forked process: first waiting for its request, then running its program."""

    pid: int
    end: int
    """A pidfd; -1 where the system has none."""
    ready: int
    out: tuple[int, int]
    """Reading ends of stdout and stderr."""


@dataclass(slots=True, kw_only=True)
class Capture:
    """What became of a child."""

    ending: str = "exit"
    """`exit`, `timeout`, `output` or `cancel`: the reason the template stopped waiting."""
    wait_status: int = 0
    seconds: float = 0.0
    usage: resource.struct_rusage | None = None


class Pages:
    """Room for what one program prints, which children of this process do not inherit."""

    def __init__(self) -> None:
        self._pages: mmap.mmap | None = None
        self.used = [0, 0]
        self._size = 0

    def clear(self, size: int) -> None:
        """Make room for two streams of `size` bytes."""
        if self._pages is None or size > self._size:
            self._pages = mmap.mmap(-1, 2 * (size + 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            if hasattr(mmap, "MADV_DONTFORK"):
                self._pages.madvise(mmap.MADV_DONTFORK)
            self._size = size
        self.used = [0, 0]

    def take(self, stream: int, descriptor: int, bound: int) -> bool | None:
        """Read what is there, up to one byte over the bound; None if nothing is there, False at its end."""
        assert self._pages is not None
        start = stream * (self._size + 1) + self.used[stream]
        with memoryview(self._pages) as whole, whole[start : start + bound + 1 - self.used[stream]] as free:
            try:
                count = os.readv(descriptor, [free])
            except BlockingIOError:
                return None
        self.used[stream] += count
        return count > 0

    def view(self, stream: int, bound: int) -> memoryview:
        """What was read, up to the bound."""
        assert self._pages is not None
        start = stream * (self._size + 1)
        return memoryview(self._pages)[start : start + min(bound, self.used[stream])]


class Template:
    """Serves one program after the other."""

    def __init__(self, control: socket.socket, feed: int, confinement: Confinement, folder_files: int) -> None:
        self._control = control
        self._feed = feed
        self._confinement = confinement
        self._folder_files = folder_files
        self._note = mmap.mmap(-1, mmap.PAGESIZE)
        self._pages = Pages()

    def serve(self, greeting: dict[str, Any]) -> NoReturn:
        """Say that it is ready, then serve until the other side closes the socket."""
        self._send(greeting)
        while True:
            child = self._fork()
            bounds = self._receive()
            if (fault := self._await_ready(child)) is not None:
                self._send({"fault": fault})
                sys.exit(1)
            capture = self._run(child, bounds)
            if fcntl.ioctl(self._feed, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0":
                # The next child would take this one's unread request for its own.
                self._send({"fault": "the program's process ended before it had read its request"})
                sys.exit(1)
            self._answer(capture, bounds["output_bytes"])
            self._clean()

    def _fork(self) -> Child:
        self._note[:] = bytes(mmap.PAGESIZE)
        pipes = [os.pipe() for _ in range(3)]
        self._confinement.number_next()
        if (pid := os.fork()) == 0:
            become_program(self._confinement, (*(writer for _, writer in pipes), self._feed), self._note)  # type: ignore[arg-type]
        for _, writer in pipes:
            os.close(writer)
        (out, _), (err, _), (ready, _) = pipes
        end = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else -1
        return Child(pid=pid, end=end, ready=ready, out=(out, err))

    def _await_ready(self, child: Child) -> str | None:
        word = os.read(child.ready, 4096)
        os.close(child.ready)
        if word == READY:
            return None
        return word.decode(errors="replace") or "the program's process died while it was being set up"

    def _run(self, child: Child, bounds: dict[str, Any]) -> Capture:
        """Watch the child until it is gone; nothing of the program lives when this returns."""
        capture = Capture()
        self._pages.clear(bounds["output_bytes"])
        started = time.monotonic()
        self._watch(child, capture, started + bounds["timeout_s"], bounds["output_bytes"])
        if capture.ending != "exit" or child.end < 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGKILL)
        _, capture.wait_status, capture.usage = os.wait4(child.pid, 0)
        self._sweep(child)
        capture.seconds = time.monotonic() - started
        for stream, descriptor in enumerate(child.out):
            while not self._is_full(bounds["output_bytes"]) and self._pages.take(
                stream, descriptor, bounds["output_bytes"]
            ):
                pass
            os.close(descriptor)
        if child.end >= 0:
            os.close(child.end)
        if capture.ending == "exit" and self._is_full(bounds["output_bytes"]):
            capture.ending = "output"
        return capture

    def _watch(self, child: Child, capture: Capture, deadline: float, bound: int) -> None:
        poll = select.poll()
        for descriptor in (*child.out, child.end, self._control.fileno()):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        for descriptor in child.out:
            os.set_blocking(descriptor, False)
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000 + 1):
                if descriptor == child.end:
                    return
                if descriptor == self._control.fileno():
                    capture.ending = "cancel"  # nothing else than "stop", or the end of the other side, can come now
                    return
                if self._pages.take(child.out.index(descriptor), descriptor, bound) is False:
                    poll.unregister(descriptor)
                    if child.end < 0 and not _is_alive(child.pid):
                        return
            if self._is_full(bound):
                capture.ending = "output"
                return
        capture.ending = "timeout"

    def _is_full(self, bound: int) -> bool:
        return max(self._pages.used) > bound

    def _sweep(self, child: Child) -> None:
        """Kill what the program left. At `full` that is everybody else in this namespace; elsewhere its own session,
        though at neither can a program have started anything but threads."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1 if self._confinement.level == FULL else -child.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0 if self._confinement.level == FULL else os.WNOHANG)[0]:
                pass

    def _clean(self) -> None:
        if self._confinement.level == FULL and not root.is_untouched():
            root.renew_work(self._confinement.folder_bytes, self._folder_files, is_mounted=True)

    def _answer(self, capture: Capture, bound: int) -> None:
        assert capture.usage is not None
        streams = [self._pages.view(stream, bound) for stream in (0, 1)]
        note = bytes(self._note[:512]).partition(b"\0")[0]
        facts = {
            "ending": capture.ending,
            "exit": os.waitstatus_to_exitcode(capture.wait_status),
            "cpu_s": capture.usage.ru_utime + capture.usage.ru_stime,
            "peak_bytes": capture.usage.ru_maxrss * 1024,
            "seconds": capture.seconds,
            "report": note.decode("ascii", "replace"),
            "sizes": [len(view) for view in streams],
        }
        self._send(facts, *streams)

    def _send(self, facts: dict[str, Any], *streams: memoryview) -> None:
        body = json.dumps(facts).encode()
        data: list[bytes | memoryview] = [HEADER.pack(len(body)), body, *(view for view in streams if len(view))]
        try:
            sent = self._control.sendmsg(data)
            if sent < sum(map(len, data)):
                self._control.sendall(b"".join(data)[sent:])
        except ConnectionError:
            sys.exit(0)

    def _receive(self) -> dict[str, Any]:
        """The bounds of the next program; a request to stop that came too late is passed over."""
        while (length := HEADER.unpack(self._exactly(HEADER.size))[0]) == 0:
            continue
        bounds: dict[str, Any] = json.loads(self._exactly(length))
        return bounds

    def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            try:
                chunk = self._control.recv(count - len(data))
            except ConnectionError:
                sys.exit(0)
            if not chunk:
                sys.exit(0)
            data += chunk
        return bytes(data)


def _is_alive(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def preload(modules: list[str]) -> list[str]:
    """Import each module once for all programs; returns those that could not be imported."""
    missing = []
    for name in modules:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    return missing


def serve(settings: dict[str, Any], place: Place) -> NoReturn:
    """Make this process a template and serve. Leaves when the other side closes the socket."""
    control = socket.socket(fileno=settings["control"])
    missing = preload(settings["modules"])
    if not memory.is_single_threaded(place.proc):
        sys.exit("a preloaded module started a thread, so this process cannot be forked safely")
    memory.forget("thor_tir")
    sys.path[:] = [path for path in sys.path if path and os.path.exists(path)]
    memory.settle()
    if settings["is_collapsed"]:
        memory.collapse(place.proc)
    try:
        confinement = prepare(
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
    template = Template(control, settings["feed"], confinement, settings["folder_files"])
    template.serve({"level": place.level, "missing": missing})
