"""A server of the OpenAI kind that behaves as told: real sockets on a loopback port, in the test's own event loop.

Requests for text take the next behaviour from the script; when it is used up, `usual` answers.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as it arrived."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    reader: asyncio.StreamReader


Behaviour = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def http(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def sends(raw: bytes) -> Behaviour:
    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


def says(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Behaviour:
    """Answer with some JSON, or with bytes as they are."""
    return sends(http(value if isinstance(value, bytes) else json.dumps(value).encode(), status, headers))


def completion(text: str, finish: str = "stop", **choice: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "finish_reason": finish, **choice}], "usage": {"completion_tokens": 3}}


def streams(*pieces: str, finish: str | None = "stop", then_hangs: bool = False) -> Behaviour:
    """Server-sent events, one piece each; with `then_hangs` the connection stays open, as while a model writes on."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 Said\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            writer.write(f"data: {json.dumps({'choices': [{'text': piece}]})}\n\n".encode())
            await writer.drain()
        if then_hangs:
            await hangs(asked, writer)
        last = {"choices": [{"text": "", "finish_reason": finish}], "usage": {"completion_tokens": len(pieces)}}
        writer.write(f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode())
        await writer.drain()

    return behave


async def hangs(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer; notice when the client hangs up."""
    await asked.reader.read()


async def floods(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Megabytes of one reply, for ever."""
    writer.write(b'HTTP/1.1 200 Said\r\nConnection: close\r\n\r\n{"choices": [{"text": "')
    while not writer.is_closing():
        writer.write(b"x" * 2**16)
        await writer.drain()
        await asyncio.sleep(0)


async def resets(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Close the connection with a reset instead of an answer."""
    linger = struct.pack("ii", 1, 0)  # with no time to linger, closing is a reset
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


@dataclass
class Server:
    """What is served, and what was asked."""

    script: list[Behaviour] = field(default_factory=list)
    usual: Behaviour = field(default_factory=lambda: says(completion("four", stop_reason=None)))
    models: list[dict[str, Any]] = field(default_factory=lambda: [{"id": "m"}])
    listing: Behaviour | None = None
    """Answers instead of the list of models."""
    asked: list[Asked] = field(default_factory=list)
    """Requests for text, those that found out how to speak included."""
    open: int = 0
    """Requests that are being answered now."""
    most_open: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> None:
        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.ensure_future(self._serve(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._server = await asyncio.start_server(accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections and end those there are."""
        assert self._server is not None
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        data = await reader.readexactly(int(headers.get("content-length", 0)))
        path = first.split()[1].removeprefix("/v1")
        if path == "/models":
            behave = self.listing or says({"data": self.models})
            await behave(Asked(path, {}, headers, reader), writer)
            return
        asked = Asked(path, json.loads(data), headers, reader)
        self.asked.append(asked)
        behave = self.script.pop(0) if self.script else self.usual
        await behave(asked, writer)


@asynccontextmanager
async def serving(script: Iterable[Behaviour] = (), **options: Any) -> AsyncIterator[Server]:
    server = Server(script=list(script), **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
