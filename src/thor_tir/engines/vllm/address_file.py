"""The file of addresses of engines that are placed by somebody else, and may come back at another address.

A line belongs to one engine for as long as the file exists, so that a run which loses an engine finds it again there.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from thor_tir.engines.vllm.abilities import is_healthy
from thor_tir.engines.vllm.connection import Connection
from thor_tir.engines.vllm.server import address_of
from thor_tir.errors import UsageError
from thor_tir.storage.journal import write_atomically
from thor_tir.storage.record_lock import held

LOOK_S = 0.5
"""Time between two looks at engines that do not serve yet, in seconds."""


@contextmanager
def own_file(path: Path) -> Iterator[None]:
    """Keep a file of addresses to this process, and delete it at the end. Raises UsageError while another keeps it.

    The lock goes with the process, however that ends. A file that was there before is replaced once ours is written.
    """
    before = _version(path)
    with held(path.with_name(f".{path.name}.lock")) as lock:
        if lock is None:
            raise UsageError(f"another `thor engine up` keeps {path}: end it, or give another --output")
        try:
            yield
        finally:
            if _version(path) != before:
                path.unlink(missing_ok=True)


def _version(path: Path) -> tuple[int, int] | None:
    """The identity of a file, which another takes as soon as it is written; None where there is none."""
    if not path.exists():
        return None
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


class AddressFile:
    """Written once all engines serve, and renewed as soon as one is placed elsewhere."""

    def __init__(self, path: Path, count: int, say: Callable[[str], None]) -> None:
        self.path = path
        self._count, self._say = count, say
        self._at: dict[int, str] = {}
        self._lock = threading.Lock()
        self._is_awaited = self._is_written = False

    def place(self, number: int, host: str, port: int) -> None:
        """Take note of the place of an engine, which is being started there."""
        with self._lock:
            self._at[number] = address_of(host, port)
            if self._is_written:
                self._write()
                self._say(f"engine {number} is placed at {self._at[number]}, and {self.path} says so")
            elif len(self._at) == self._count and not self._is_awaited:
                self._is_awaited = True
                threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        """Write the file once every engine serves."""
        while not all(map(_serves, list(self._at.values()))):
            sleep(LOOK_S)
        with self._lock:
            self._is_written = True
            self._write()
            for number, address in sorted(self._at.items()):
                self._say(f"engine {number} at {address}")
            self._say(f"use them by: --engine.name vllm --engine.address {self.path}")

    def _write(self) -> None:
        write_atomically(self.path, "".join(f"{self._at[number]}\n" for number in sorted(self._at)))


def _serves(address: str) -> bool:
    async def ask() -> bool:
        connection = Connection(address)
        try:
            return await is_healthy(connection)
        finally:
            await connection.close()

    return asyncio.run(ask())
