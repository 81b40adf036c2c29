"""Messages between a template process and its supervisor: small fixed records, which cost neither side much."""

import json
import os
import struct
from dataclasses import asdict, dataclass
from typing import NoReturn

LENGTH = struct.Struct("!I")
"""Stands before a program's request on the feed, and before JSON (the greeting, a fault) from the template. There the
length 0 says that a REPORT follows instead."""
BOUNDS = struct.Struct("!dQ")
"""To the template, for one program: seconds, and bytes of each output stream. Zero seconds ask to stop what runs."""
REPORT = struct.Struct("!BiddQHQQ")
"""From the template: the index in ENDINGS, exit code, processor seconds, seconds, peak bytes, and the lengths of the
three texts that follow: the program's own note, stdout, stderr."""
ENDINGS = ("exit", "timeout", "output", "cancel")
"""Reasons why the template stopped waiting for a program."""
NOTE_BYTES = 512
"""Size of a program's note on how it ended."""

FORK = b"f"
"""Request of the watcher for a fork; the answer is the number of a pidfd, and after the child's end a ForkOutcome."""
REFUSED = 255
"""In the place of a pidfd: the kernel would not fork."""
READY = b"+"
"""First word on the ready pipe of a process that is confined as promised; anything else is a fault of the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Descriptors that the watcher fills and a child takes, at the same numbers for every program."""

    null: int
    """Standard input, which holds nothing."""
    out: int
    """Standard output."""
    err: int
    """Standard error."""
    ready: int
    """End of the pipe on which a program says that it is confined."""
    feed: int
    """End of the socket to which the supervisor writes requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSettings:
    """Settings of a template's launcher, as JSON on its command line."""

    control: int
    """Descriptor of the socket for bounds and reports."""
    feed: int
    """Descriptor of the socket for requests."""
    modules: tuple[str, ...]
    """Modules that are imported before any program runs."""
    level: str
    """Level of confinement."""
    folder_bytes: int
    """Size of a program's folder in bytes."""
    folder_files: int
    """Most files in a program's folder."""
    is_collapsed: bool
    """True if the template's memory is put on huge pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastWords:
    """Reason for which a template leaves before it is ready: a line of JSON on its standard error."""

    reason: str
    """One sentence."""
    layer: str = ""
    """Layer of confinement that is not to be had here; empty where something else is wrong."""
    threads: tuple[str, ...] = ()
    """Modules whose import started a thread, so that no template can hold them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """First message of a template that is ready."""

    level: str
    """Level of confinement of its programs."""
    missing: tuple[str, ...]
    """Modules that could not be imported for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Message of a template that could not start a program."""

    reason: str
    """Reason, in the template's words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """End of one program, as its template saw it. The three texts are the program's own word and can be forged."""

    ending: str
    """Reason why the template stopped waiting, one of ENDINGS."""
    exit_code: int
    """Exit code, or a signal's number below zero."""
    cpu_s: float
    """Processor time in seconds."""
    seconds: float
    """Time in seconds."""
    peak_bytes: int
    """Largest size in memory, in bytes."""
    note: str
    """JSON of the program's process on how it ended; empty where it wrote none."""
    stdout: str
    """Standard output."""
    stderr: str
    """Standard error."""


def message(said: Greeting | Fault) -> bytes:
    """A greeting or a fault, as it is sent."""
    body = json.dumps(asdict(said)).encode()
    return LENGTH.pack(len(body)) + body


def greeting_or_fault(body: bytes) -> Greeting | Fault:
    """The message that was sent. Raises ValueError, TypeError or KeyError for anything else."""
    said = json.loads(body)
    if "reason" in said:
        return Fault(reason=str(said["reason"]))
    return Greeting(level=str(said["level"]), missing=tuple(map(str, said["missing"])))


def leave(said: LastWords) -> NoReturn:
    """End the calling process with its last words, and without closing what the watcher shares with it."""
    os.write(2, f"\n{json.dumps({'last_words': asdict(said)})}\n".encode())
    os._exit(3)


def find_last_words(lines: list[str]) -> LastWords | None:
    """The first such line of a standard error, where libraries write too: the template speaks before its watcher."""
    for line in lines:
        try:
            said = json.loads(line)["last_words"]
            return LastWords(reason=str(said["reason"]), layer=str(said["layer"]), threads=tuple(said["threads"]))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return None
