"""What a template process and its supervisor say to each other: small fixed records, which cost neither side much."""

import json
import struct
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


def message(facts: dict[str, Any]) -> bytes:
    """A greeting or a fault."""
    body = json.dumps(facts).encode()
    return LENGTH.pack(len(body)) + body
