"""A disk with little room, to see what a full one does."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def disk(folder: Path, num_bytes: int) -> Iterator[None]:
    """A file system of its own in the folder, with `num_bytes` of room."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root and a host that allows it")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
