"""Messages between grader and grading process: a length in four big-endian bytes, then that many bytes of JSON."""

import json
import struct
from typing import Any, BinaryIO

IpcRow = dict[str, Any]

HEADER = struct.Struct(">I")
"""The length of a frame's JSON, in bytes."""


def encode_message(message: IpcRow) -> bytes:
    """A message as it travels through the pipe, either way."""
    body = json.dumps(message).encode()
    return HEADER.pack(len(body)) + body


def read_message(stream: BinaryIO) -> IpcRow | None:
    """The next message of a blocking stream, or None when the other side has gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    message: IpcRow = json.loads(stream.read(HEADER.unpack(header)[0]))
    return message
