"""Every web service of ours at its door: bounded connections, heads, bodies, replies and log, and an orderly end.

The services themselves (`sandbox/remote/server.py`, `serving/`) say who is let in and what is done. Nothing here
encrypts: outside a trusted network put a TLS proxy or an SSH tunnel in front.
"""

import asyncio
import logging
import time
from asyncio import TimerHandle, Transport
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from types import FrameType
from typing import Protocol, TypeVar, cast
from urllib.parse import urlsplit

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from thor_tir.errors import UsageError

_LOG = logging.getLogger(__name__)
T = TypeVar("T")
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
HEAD_S = 10.0
"""A client that has not sent a whole request line with its headers by then is hung up on."""
TAKE_S = 60.0
"""A client that has taken next to nothing of its reply for so long is hung up on."""
MOST_CONNECTIONS = 1024
"""Connections that are open at once, at most, and no more than half of the descriptors that the process may have."""
LOG_EVERY_S = 60.0
"""Least time between two log lines of one kind that clients can cause, in seconds."""
_BACKLOG = 128
"""Connections that are accepted in one turn of the event loop, before any of them is looked at."""
_PIECE = 65_536
_LOGGERS = ("uvicorn.error", "uvicorn.asgi", "asyncio", __name__)


class TurnedAway(Exception):
    """A request that is not carried out, with the HTTP status that says why."""

    def __init__(self, status_code: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status_code = status_code
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Address and way of ending of a service."""

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


def refuse_other_hosts(headers: Mapping[str, str]) -> None:
    """Raise TurnedAway for what a web page sends from a browser on this machine, seen by its origin or a forged name.

    For services that ask for no key and so answer this machine alone.
    """
    for name, value in (("Host", headers.get("host", "")), ("Origin", headers.get("origin"))):
        if value is None:
            continue
        try:
            host = urlsplit(value if name == "Origin" else f"//{value}").hostname
        except ValueError:
            host = None
        if host not in LOOPBACK:
            raise TurnedAway(403, f"{name} is not this machine, the only one that a service without a token answers")


def bearer(headers: Mapping[str, str]) -> bytes | None:
    """The bearer token of a request, whatever the case of its scheme; None where it sends none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.encode("utf-8", errors="replace") if token and scheme.lower() == "bearer" else None


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


class PacedResponse(Response):
    """A reply that is handed over in pieces, so that no more of it is buffered than its client takes."""

    def __init__(self, body: bytes, headers: Mapping[str, str], media_type: str, on_sent: Callable[[], None]) -> None:
        super().__init__(body, headers=headers, media_type=media_type)
        self._on_sent = on_sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; `on_sent` is called when the last piece is handed over, or when that failed."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            for at in range(0, len(self.body), _PIECE):
                await send({"type": "http.response.body", "body": self.body[at : at + _PIECE], "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._on_sent()


class _OneLineAMinute(logging.Filter):
    """Passes one record of a kind per minute, since a client can cause as many as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        """True for the first record of a kind in a minute, which says how many were kept back before."""
        kind, now = str(record.msg).partition("\n")[0][:200], time.monotonic()
        if now - self._said.get(kind, float("-inf")) < LOG_EVERY_S:
            self._unsaid[kind] += 1
            return False
        if len(self._said) > 1000:
            self._said.clear()
        self._said[kind] = now
        if num_unsaid := self._unsaid.pop(kind, 0):
            record.msg = f"{str(record.msg).rstrip()} ({num_unsaid} more like it since the last line)"
        return True


@contextmanager
def bounded_log() -> Iterator[None]:
    """Let the web server and the event loop write one line of a kind a minute."""
    loggers, bound = [logging.getLogger(name) for name in _LOGGERS], _OneLineAMinute()
    for logger in loggers:
        logger.addFilter(bound)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(bound)


def most_connections() -> int:
    """Connections that may be open at once in this process."""
    try:
        import resource
    except ImportError:  # not on Windows
        return MOST_CONNECTIONS
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_CONNECTIONS if descriptors < 0 else min(MOST_CONNECTIONS, max(1, descriptors // 2))


class _TimedProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on a client that dawdles, and on the one that has dawdled longest when there are many."""

    _late: TimerHandle | None = None
    _taking: TimerHandle | None = None
    _idle_since = 0.0

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > most_connections():
            self._make_room()

    def _make_room(self) -> None:
        """Hang up on the client that has asked for nothing for longest: on the newest where all others are served."""
        _LOG.warning("as many connections are open as may be, %d; idle ones are closed", len(self.connections) - 1)
        timed = [one for one in self.connections if isinstance(one, _TimedProtocol)]
        last = min((one for one in timed if one.is_idle), key=lambda one: one._idle_since)
        self.connections.discard(last)
        last.transport.abort()

    @property
    def is_idle(self) -> bool:
        """True while no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_taking()

    def resume_writing(self) -> None:
        self._forget_taking()
        super().resume_writing()

    def _expect_taking(self) -> None:
        self._forget_taking()
        left = self.transport.get_write_buffer_size()
        self._taking = self.loop.call_later(TAKE_S, self._check_taking, left)

    def _check_taking(self, left: int) -> None:
        if self.transport.get_write_buffer_size() > left - _PIECE:
            self.transport.abort()
        else:
            self._expect_taking()

    def _forget_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        self._forget_taking()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._forget()
        self._idle_since = self.loop.time()
        self._late = self.loop.call_later(HEAD_S, self._hang_up)

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()

    def _hang_up(self) -> None:
        if self.is_idle:
            self.transport.abort()


class GracefulServer(uvicorn.Server):
    """Uvicorn that, at the first SIGTERM or SIGINT, lets the service turn away new work until what it has is done."""

    def __init__(self, app: Starlette, service: Endable, place: Place, announce: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=place.host,
                port=place.port,
                backlog=min(_BACKLOG, max(16, most_connections() // 4)),
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
        """Listen, and announce the address."""
        await super().startup(sockets)
        if self.started:
            host, port = cast("tuple[str, int]", self.servers[0].sockets[0].getsockname()[:2])
            self._announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")

    async def until_ended(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises UsageError when it cannot listen at its place."""
        try:
            with bounded_log():
                await self.serve()
        except SystemExit as failure:  # how uvicorn says that it could not listen
            raise UsageError(
                f"cannot listen on {self._place.host} port {self._place.port}: the port is taken, or the address is "
                "not ours"
            ) from failure
