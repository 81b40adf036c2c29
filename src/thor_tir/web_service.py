"""Every web service of ours at its door: bounded bodies, clients that leave or dawdle, and an orderly end.

The services themselves (`sandbox/remote/server.py`, `serving/`) say who is let in and what is done. Nothing here
encrypts: outside a trusted network put a TLS proxy or an SSH tunnel in front.
"""

import asyncio
import logging
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from socket import socket
from types import FrameType
from typing import Protocol, TypeVar, cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from uvicorn.protocols.http.h11_impl import H11Protocol

from thor_tir.errors import UsageError

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
HEAD_S = 10.0
"""A client that has not sent a whole request line with its headers by then is hung up on."""


class TurnedAway(Exception):
    """A request that is not carried out, with the HTTP status that says why."""

    def __init__(self, status_code: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status_code = status_code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service listens, and how it ends."""

    host: str
    """Address to listen on."""
    port: int
    """0 lets the system choose."""
    drain_s: float
    """After SIGTERM, what is in work may take that long to finish."""


class Endable(Protocol):
    """A service, as its end concerns it."""

    is_draining: bool
    """True once no new work is taken on."""

    @property
    def in_flight(self) -> int:
        """Units of work that are taken on and not answered yet."""
        ...

    def drop(self) -> None:
        """Give up what is still in work: its time is over."""
        ...


async def json_body(request: Request, *, most_bytes: int, within_s: float) -> bytes:
    """The bytes of a request that says it is JSON, read no further than it may be long. Raises TurnedAway."""
    # Browsers ask first before they send this type elsewhere, so no web page can use a service without a key.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise TurnedAway(415, "the content type must be application/json")
    data = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for chunk in request.stream():
                data += chunk
                if len(data) > most_bytes:
                    raise TurnedAway(413, f"the body is longer than {most_bytes} bytes")
    except TimeoutError as slow:
        raise TurnedAway(408, f"the body did not arrive within {within_s:g} s") from slow
    except ClientDisconnect as gone:
        raise TurnedAway(499, "the client hung up") from gone
    return bytes(data)


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The outcome of some work, which is cancelled when the client hangs up. Raises TurnedAway for one that did."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise TurnedAway(499, "the client hung up")
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _TimedProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on a client whose next request does not begin in time."""

    _late: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._forget()
        self._late = self.loop.call_later(HEAD_S, self._hang_up)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()

    def _hang_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


class GracefulServer(uvicorn.Server):
    """Uvicorn that, at the first SIGTERM or SIGINT, lets the service turn away new work until what it has is done."""

    def __init__(self, app: Starlette, service: Endable, place: Place, announce: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=place.host,
                port=place.port,
                lifespan="off",
                http=_TimedProtocol,
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._service = service
        self._place = place
        self._announce = announce
        self._drained_by: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, the second one hastens it."""
        if self._service.is_draining:
            self.should_exit = True
        self._service.is_draining = True

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second; true ends the server."""
        is_over = await super().on_tick(counter)
        if not self._service.is_draining:
            return is_over
        clock = asyncio.get_running_loop().time
        if self._drained_by is None:
            _LOG.info("no new work is taken on; %d are still in work", self._service.in_flight)
            self._drained_by = clock() + self._place.drain_s
        if self._service.in_flight and (is_over or clock() >= self._drained_by):
            self._service.drop()
            return True
        return is_over or not self._service.in_flight

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Listen, and tell the address."""
        await super().startup(sockets)
        if self.started:
            host, port = cast("tuple[str, int]", self.servers[0].sockets[0].getsockname()[:2])
            self._announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def until_ended(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises UsageError when it cannot listen at its place."""
        try:
            await self.serve()
        except SystemExit as failure:  # how uvicorn says that it could not listen
            raise UsageError(
                f"cannot listen on {self._place.host} port {self._place.port}: the port is taken, or the address is "
                "not ours"
            ) from failure
