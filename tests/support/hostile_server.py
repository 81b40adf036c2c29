"""A sandbox server that misbehaves as told: raw bytes on a loopback port, in the test's own event loop.

Every request for a run takes the next behaviour from the script; the last one is repeated. A ping is answered "pong"
as long as `is_pinging`, and the client's own probe is run as long as `is_probed`.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from thor_tir.sandbox.remote.client import PROBE

Behaviour = Callable[["HostileServer", asyncio.StreamWriter], Awaitable[None]]


def run_result(**changes: Any) -> dict[str, Any]:
    """What an official server says about a program that printed 42."""
    return {"status": "Finished", "execution_time": 0.1, "return_code": 0, "stdout": "42\n", "stderr": ""} | changes


def reply(status: str = "Success", /, **run: Any) -> dict[str, Any]:
    """A whole official reply."""
    told = {"message": "", "compile_result": None, "executor_pod_name": None, "files": {}}
    return {"status": status, **told, "run_result": run_result(**run)}


def http(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    """One HTTP reply that ends its connection."""
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def says(body: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with some JSON, or with bytes as they are."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return sends(http(data, status, headers))


def sends(raw: bytes) -> Behaviour:
    """Write bytes and hang up."""

    async def behave(server: "HostileServer", writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


async def hangs(server: "HostileServer", writer: asyncio.StreamWriter) -> None:
    """Never answer; notice when the client hangs up."""
    server.hanging += 1
    try:
        await server.hang_up(writer)
    finally:
        server.hanging -= 1


async def resets(server: "HostileServer", writer: asyncio.StreamWriter) -> None:
    """Close the connection with a reset instead of an answer."""
    linger = struct.pack("ii", 1, 0)  # with no time to linger, closing is a reset
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that happens elsewhere; the limit only ends a test that would hang."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)


async def drips(server: "HostileServer", writer: asyncio.StreamWriter) -> None:
    """Send a reply a byte at a time, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.02)


async def floods(server: "HostileServer", writer: asyncio.StreamWriter) -> None:
    """Send a reply without an end as fast as it is taken."""
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" " * 2**20)
        server.flooded_bytes += 2**20
        await writer.drain()


class HostileServer:
    """What it was told to do, and what was asked of it."""

    def __init__(self, script: Sequence[Behaviour], level: str | None) -> None:
        self.script = list(script)
        self.level = level
        self.is_pinging = True
        self.is_probed = True
        self.url = ""
        self.asked: list[dict[str, Any]] = []
        """Bodies of the requests for a run."""
        self.headers: list[str] = []
        """Heads of the requests for a run."""
        self.pings = 0
        self.probes = 0
        self.hanging = 0
        self.flooded_bytes = 0
        self.most_at_once = 0
        self._at_once = 0
        self._readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = {}

    @property
    def writers(self) -> list[asyncio.StreamWriter]:
        """Every connection that there was."""
        return list(self._readers)

    async def hang_up(self, writer: asyncio.StreamWriter) -> None:
        """Wait until the client closes its side."""
        await self._readers[writer].read()

    def greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection begins."""
        self._readers[writer] = reader

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._answer(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        if head.startswith("GET /v1/ping "):
            self.pings += 1
            headers = {"x-thor-sandbox-level": self.level} if self.level else {}
            body, status = (b'"pong"', 200) if self.is_pinging else (b"no", 503)
            writer.write(http(body, status, headers))
            return
        length = next(int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:"))
        body = json.loads(await reader.readexactly(length))
        if body["code"] == PROBE:
            self.probes += 1
            await (says(reply()) if self.is_probed else says(b"", 503))(self, writer)
            return
        self.asked.append(body)
        self.headers.append(head)
        behaviour = self.script[min(len(self.asked), len(self.script)) - 1]
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await behaviour(self, writer)
        finally:
            self._at_once -= 1


@asynccontextmanager
async def hostile(*script: Behaviour, level: str | None = None) -> AsyncIterator[HostileServer]:
    """A server that follows a script, for as long as the context lasts."""
    told = HostileServer(script, level)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.greet(reader, writer)
        task = asyncio.ensure_future(told.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    told.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield told
    finally:
        listener.close()
        for writer in told.writers:
            writer.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
