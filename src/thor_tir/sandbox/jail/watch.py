"""The watcher of a worker: it has each program forked, feeds its bounds to the clock, and reports how it ended.

It is the parent of the template and shares its table of descriptors, but none of its memory. So the pipes that it opens
are there when the template forks, what it allocates from program to program changes nothing in the template, whose
children therefore begin in the same state to the last byte, and what programs print is kept where no program's memory
comes from. What the facts mean is decided in `sandbox/local/template_process.py`.
"""

import fcntl
import mmap
import os
import select
import signal
import socket
import sys
import termios
import time
from dataclasses import dataclass, field
from typing import NoReturn

from thor_tir.sandbox.jail import root
from thor_tir.sandbox.jail.confinement import FULL
from thor_tir.sandbox.jail.kernel import ForkOutcome
from thor_tir.sandbox.jail.wire import (
    BOUNDS,
    ENDINGS,
    FORK,
    LENGTH,
    NOTE_BYTES,
    READY,
    REFUSED,
    REPORT,
    Doors,
    Fault,
    LastWords,
    leave,
    message,
)

_CHUNK = 65_536
_REHEARSALS = 2
"""Forks before the first program's, after which the template's memory no longer changes from one to the next."""


@dataclass(slots=True, kw_only=True)
class Child:
    """One forked process: first waiting for its request, then running its program."""

    end: int
    """A pidfd."""
    ready: int
    """End of the pipe on which the child says that it is confined."""
    out: tuple[int, int]
    """Reading ends of stdout and stderr."""
    printed: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    """Bytes read so far of standard output and standard error."""

    def take(self, stream: int, bound: int) -> bool:
        """Read what is there, up to one byte over the bound; true if there can be more."""
        wanted = min(_CHUNK, bound + 1 - len(self.printed[stream]))
        try:
            data = os.read(self.out[stream], wanted)
        except BlockingIOError:
            return False
        self.printed[stream].extend(data)
        return len(data) > 0

    def is_full(self, bound: int) -> bool:
        """True if it printed more than it may."""
        return len(self.printed[0]) > bound or len(self.printed[1]) > bound


class ProgramWatch:
    """Serves one program after the other."""

    def __init__(self, control: socket.socket, template: int, gate: int, doors: Doors, note: mmap.mmap) -> None:
        self._control = control
        self._template = template
        self._gate = gate
        self._doors = doors
        self._note = note

    def serve_programs(self, level: str, folder: tuple[int, int]) -> NoReturn:
        """Serve until the other side closes the socket; `folder` is size and files of the working folder."""
        length = self._hear(LENGTH.size)
        greeting = length + self._hear(*LENGTH.unpack(length))
        for _ in range(_REHEARSALS):
            child = self._start()
            _kill(child)
            self._hear(ForkOutcome.SIZE)
            for descriptor in (*child.out, child.ready, child.end):
                os.close(descriptor)
        self._send([greeting])  # not before, or a rehearsing child would read the first request
        while True:
            child = self._start()
            timeout_s, bound = self._receive()
            if (word := os.read(child.ready, 4096)) != READY:
                self._fail(word.decode(errors="replace") or "the program's process died while it was being set up")
            os.close(child.ready)
            began = time.monotonic()
            ending = self._watch(child, began + timeout_s, bound)
            if ending != "exit":
                _kill(child)
            outcome = ForkOutcome(self._hear(ForkOutcome.SIZE))
            seconds = time.monotonic() - began
            for stream in (0, 1):
                while not child.is_full(bound) and child.take(stream, bound):
                    pass
            for descriptor in (*child.out, child.end):
                os.close(descriptor)
            if fcntl.ioctl(self._doors.feed, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0":
                # The next child would take this one's unread request for its own.
                self._fail("the program's process ended before it had read its request")
            if ending == "exit" and child.is_full(bound):
                ending = "output"
            self._answer(ending, outcome, seconds, [bytes(text[:bound]) for text in child.printed])
            if level == FULL and not root.is_untouched():
                root.renew_work(*folder, is_mounted=True)

    def _start(self) -> Child:
        self._note[:NOTE_BYTES] = bytes(NOTE_BYTES)
        reading = []
        for door in (self._doors.out, self._doors.err, self._doors.ready):
            reader, writer = os.pipe()
            os.dup2(writer, door)
            os.close(writer)
            reading.append(reader)
        os.write(self._gate, FORK)
        end = self._hear(1)[0]
        if end == REFUSED:
            self._fail("the template process could not fork")
        for door in (self._doors.out, self._doors.err, self._doors.ready):
            os.dup2(self._doors.null, door)
        out, err, ready = reading
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        return Child(end=end, ready=ready, out=(out, err))

    def _hear(self, count: int) -> bytes:
        """Read bytes from the template; this process ends when that does, for no other sees it."""
        poll = select.poll()
        poll.register(self._gate, select.POLLIN)
        poll.register(self._template, select.POLLIN)
        data = b""
        while len(data) < count:
            if not any(descriptor == self._gate for descriptor, _ in poll.poll()):
                self._follow_template()
            data += os.read(self._gate, count - len(data))
        return data

    def _follow_template(self) -> NoReturn:
        ended = os.waitid(os.P_PIDFD, self._template, os.WEXITED)
        by_signal = ended is not None and ended.si_code != os.CLD_EXITED
        how = "unknown" if ended is None else signal.Signals(ended.si_status).name if by_signal else ended.si_status
        leave(LastWords(reason=f"the template process ended with {'signal' if by_signal else 'status'} {how}"))

    def _receive(self) -> tuple[float, int]:
        """The bounds of the next program; a request to stop that came too late is passed over."""
        while True:
            try:
                frame = self._control.recv(BOUNDS.size, socket.MSG_WAITALL)
            except ConnectionError:
                sys.exit(0)
            if len(frame) < BOUNDS.size:
                sys.exit(0)
            timeout_s, output_bytes = BOUNDS.unpack(frame)
            if timeout_s:
                return timeout_s, output_bytes

    def _watch(self, child: Child, deadline: float, bound: int) -> str:
        """Collect what the program prints until it ends or has to be ended; returns one of ENDINGS."""
        poll = select.poll()
        for descriptor in (*child.out, child.end, self._control.fileno()):
            poll.register(descriptor, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000 + 1):
                if descriptor == child.end:
                    return "exit"
                if descriptor == self._control.fileno():
                    return "cancel"  # nothing else than "stop", or the end of the other side, can come now
                if not child.take(child.out.index(descriptor), bound):
                    poll.unregister(descriptor)
            if child.is_full(bound):
                return "output"
        return "timeout"

    def _answer(self, ending: str, outcome: ForkOutcome, seconds: float, printed: list[bytes]) -> None:
        note = self._note[:NOTE_BYTES].partition(b"\0")[0]
        sizes = (len(note), *map(len, printed))
        facts = (ENDINGS.index(ending), outcome.code, outcome.cpu_s, seconds, outcome.peak_bytes, *sizes)
        self._send([LENGTH.pack(0), REPORT.pack(*facts), note, *printed])

    def _send(self, parts: list[bytes]) -> None:
        try:
            sent = self._control.sendmsg(parts)
            if sent < sum(map(len, parts)):
                self._control.sendall(b"".join(parts)[sent:])
        except ConnectionError:
            sys.exit(0)

    def _fail(self, fault: str) -> NoReturn:
        self._send([message(Fault(reason=fault))])
        sys.exit(1)


def _kill(child: Child) -> None:
    try:
        signal.pidfd_send_signal(child.end, signal.SIGKILL)
    except ProcessLookupError:  # it ended just now
        return
