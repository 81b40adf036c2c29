"""One reply on its way to a client: whole, or as server-sent events. A client that does not read is given up."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.types import Send

from thor_tir.storage.journal import JsonObject
from thor_tir.web_service import TurnedAway, unless_gone

T = TypeVar("T")
P = TypeVar("P")
QUIET_S = 10.0
"""A stream without news for so long gets a comment, so that no proxy on the way takes it for dead."""


class HttpReply:
    """The HTTP reply to one request."""

    def __init__(self, send: Send, *, id: str, send_s: float) -> None:
        self.id = id
        """Id of the request, which stands in the header x-request-id."""
        self.status = 0
        """Status that was sent; 0 before."""
        self._send = send
        self._send_s = send_s

    async def bytes(self, body: bytes, media_type: str, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        """A whole reply."""
        await self._start(status, {"content-type": media_type, "content-length": str(len(body)), **headers})
        await self._write({"type": "http.response.body", "body": body})

    async def json(self, value: object, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        """A whole reply in JSON."""
        await self.bytes(json.dumps(value).encode(), "application/json", status, headers)

    async def begin_events(self) -> None:
        """Events follow. The last header keeps nginx from collecting them."""
        headers = {"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
        await self._start(200, headers)

    async def event(self, data: Mapping[str, Any] | str, name: str = "") -> None:
        """One event, which may have a name."""
        text = data if isinstance(data, str) else json.dumps(data)
        await self._more((f"event: {name}\n" if name else "") + f"data: {text}\n\n")

    async def comment(self) -> None:
        """A line that clients skip."""
        await self._more(": still in work\n\n")

    async def end_events(self) -> None:
        """No event follows."""
        await self._write({"type": "http.response.body", "body": b""})

    async def _more(self, text: str) -> None:
        await self._write({"type": "http.response.body", "body": text.encode(), "more_body": True})

    async def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        sent = {**headers, "x-request-id": self.id, "x-content-type-options": "nosniff"}
        raw = [(name.lower().encode(), value.encode()) for name, value in sent.items()]
        await self._write({"type": "http.response.start", "status": status, "headers": raw})

    async def _write(self, message: JsonObject) -> None:
        try:
            async with asyncio.timeout(self._send_s):
                await self._send(message)
        except TimeoutError as slow:
            raise TurnedAway(499, f"the client did not read for {self._send_s:g} s") from slow


async def streamed(
    request: Request,
    reply: HttpReply,
    work: Callable[[Callable[[P], None]], Awaitable[T]],
    send: Callable[[P], Awaitable[None]],
) -> T:
    """Do some work that reports pieces, and send each as it comes.

    The work is cancelled when the client hangs up or does not read. Raises what the work raises, and TurnedAway.
    """
    pieces: asyncio.Queue[P | None] = asyncio.Queue()
    working = asyncio.ensure_future(work(pieces.put_nowait))
    working.add_done_callback(lambda _: pieces.put_nowait(None))

    async def pump() -> None:
        while True:
            try:
                async with asyncio.timeout(QUIET_S):
                    piece = await pieces.get()
            except TimeoutError:
                await reply.comment()
                continue
            if piece is None:
                return
            await send(piece)

    try:
        await unless_gone(request, pump())
        return await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
