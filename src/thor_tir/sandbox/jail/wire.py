"""What a template process and its supervisor say to each other: small fixed records, which cost neither side much."""

import json
import struct
from dataclasses import dataclass
from typing import Any

LENGTH = struct.Struct("!I")
"""Stands before a program's request on the feed, and before JSON (the greeting, a fault) from the template. There the
length 0 says that a REPORT follows instead."""
BOUNDS = struct.Struct("!dQ")
"""To the template, for one program: seconds, and bytes of each output stream. Zero seconds ask to stop what runs."""
REPORT = struct.Struct("!BiddQHQQ")
"""From the template: the index in ENDINGS, exit code, processor seconds, seconds, peak bytes, and the lengths of the
three texts that follow: the program's own note, stdout, stderr."""
ENDINGS = ("exit", "timeout", "output", "cancel")
"""Why the template stopped waiting for a program."""
NOTE_BYTES = 512
"""Size of a program's note on how it ended."""

FORK = b"f"
"""What the watcher asks for; the answer is the number of a pidfd, and after the child's end an Outcome."""
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


def message(facts: dict[str, Any]) -> bytes:
    """A greeting or a fault."""
    body = json.dumps(facts).encode()
    return LENGTH.pack(len(body)) + body
