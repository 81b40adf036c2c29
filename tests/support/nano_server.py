"""`thor serve` as people run it: a process of its own, the embedded model, a real jail, a loopback port."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

GCD = "Find the Greatest Common Divisor (GCD) of these numbers: 780, 461."
"""A question that the embedded model answers with one program."""


@dataclass(frozen=True)
class NanoServer:
    """A server that runs."""

    url: str
    """Base of the API, with `/v1`."""
    process: "subprocess.Popen[str]"


@contextmanager
def nano_server(*options: str, **environment: str) -> Iterator[NanoServer]:
    """A server until the context ends, then ended by SIGTERM."""
    command = [sys.executable, "-m", "thor_tir", "serve", "--model", "nano/actor", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"serving at (http://\S+/v1)", line):
                break
        else:
            raise AssertionError("".join(said) or "the server ended without a word")
        yield NanoServer(found[1], process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
