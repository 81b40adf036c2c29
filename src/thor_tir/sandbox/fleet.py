"""Which of several sandbox servers gets the next program: the one with the least to do, and none that is out.

A server that fails several times in a row is out (its circuit breaker is open) until it answers a ping again; one that
asked for a pause rests for as long as it asked. The transport is the caller's business, see `sandbox/remote.py`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from thor_tir.faults import SandboxUnavailable

_LOG = logging.getLogger(__name__)


@dataclass(eq=False, slots=True, kw_only=True)
class Endpoint:
    """One server, and what is known of it now."""

    url: str
    """Without a slash at its end."""
    level: str = "unknown"
    """How it confines programs, as it told or as the operator declared."""
    in_flight: int = 0
    """Programs that it has now, from here."""
    faults: int = 0
    """Failures since it last answered."""
    is_out: bool = False
    """Gets no programs until it answers a ping."""
    rests_until: float = 0.0
    """On the event loop's clock; it asked for a pause."""
    said: str = "nothing yet"
    """Its last failure, for the message to the user."""


@dataclass(frozen=True, kw_only=True)
class FleetRules:
    """When a server is out, and how long to wait for one."""

    concurrency: int = 32
    """Programs that one server has at once; the rest wait here."""
    tolerance: int = 3
    """So many failures in a row, and a server is out."""
    ping_s: float = 0.5
    """First pause between pings of a server that is out; doubles up to twenty times that."""
    patience_s: float = 10.0
    """While every server is out, a program waits that long for one to come back, as after a restart."""


class Fleet:
    """The servers of one sandbox. `ping` returns whether a server is fit for programs and must not raise."""

    def __init__(
        self, endpoints: Sequence[Endpoint], rules: FleetRules, ping: Callable[[Endpoint], Awaitable[bool]]
    ) -> None:
        self.endpoints = tuple(endpoints)
        self._rules = rules
        self._ping = ping
        self._changed = asyncio.Event()
        self._revivals: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def greet(self) -> None:
        """Ping every server once. Raises SandboxUnavailable when none answers; the silent ones are out for now."""
        fit = await asyncio.gather(*(self._ping(endpoint) for endpoint in self.endpoints))
        if not any(fit):
            raise self._all_out()
        for endpoint in (e for e, is_fit in zip(self.endpoints, fit, strict=True) if not is_fit):
            self._put_out(endpoint)

    @asynccontextmanager
    async def lend(self, avoid: Collection[Endpoint]) -> AsyncIterator[Endpoint]:
        """A server for one program, rather none of those to avoid. Raises SandboxUnavailable when all stay out."""
        endpoint = await self._take(avoid)
        endpoint.in_flight += 1
        try:
            yield endpoint
        finally:
            endpoint.in_flight -= 1
            self._announce()

    def answered(self, endpoint: Endpoint) -> None:
        """It did its work, which ends a row of failures."""
        endpoint.faults = 0

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """It did not do its work; the last of a row of failures puts it out."""
        endpoint.faults += 1
        endpoint.said = reason
        if endpoint.faults >= self._rules.tolerance and not endpoint.is_out:
            self._put_out(endpoint)

    def rests(self, endpoint: Endpoint, pause_s: float, reason: str) -> None:
        """It is well and busy, and asked to be left alone for a while."""
        endpoint.said = reason
        endpoint.rests_until = max(endpoint.rests_until, asyncio.get_running_loop().time() + pause_s)

    async def close(self) -> None:
        """Give up waiting: who waits for a server gets SandboxUnavailable."""
        self._is_closed = True
        self._announce()
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)

    async def _take(self, avoid: Collection[Endpoint]) -> Endpoint:
        clock = asyncio.get_running_loop().time
        gives_up = None
        while not self._is_closed:
            usable = [e for e in self.endpoints if not e.is_out]
            free = [e for e in usable if e.in_flight < self._rules.concurrency and e.rests_until <= clock()]
            if free:
                return min(free, key=lambda e: (e in avoid, e.in_flight))
            if usable:
                gives_up, pauses = None, [e.rests_until - clock() for e in usable if e.rests_until > clock()]
                await self._change(min(pauses, default=None))
                continue
            gives_up = clock() + self._rules.patience_s if gives_up is None else gives_up
            if clock() >= gives_up:
                raise self._all_out()
            await self._change(gives_up - clock())
        raise SandboxUnavailable("the sandbox is closed")

    async def _change(self, timeout_s: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()

    def _announce(self) -> None:
        """Wake everyone who waits; each looks for itself."""
        event, self._changed = self._changed, asyncio.Event()
        event.set()

    def _put_out(self, endpoint: Endpoint) -> None:
        _LOG.warning("sandbox: %s gets no programs until it answers a ping: %s", endpoint.url, endpoint.said)
        endpoint.is_out = True
        task = asyncio.create_task(self._revive(endpoint))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)
        self._announce()

    async def _revive(self, endpoint: Endpoint) -> None:
        pause_s = self._rules.ping_s
        await asyncio.sleep(pause_s)
        while not await self._ping(endpoint):
            pause_s = min(2 * pause_s, 20 * self._rules.ping_s)
            await asyncio.sleep(pause_s)
        _LOG.warning("sandbox: %s is back", endpoint.url)
        endpoint.is_out, endpoint.faults = False, 0
        self._announce()

    def _all_out(self) -> SandboxUnavailable:
        told = "; ".join(f"{endpoint.url}: {endpoint.said}" for endpoint in self.endpoints)
        return SandboxUnavailable(
            f"no sandbox server can be used ({told}); start one with `thor sandbox serve`, or correct the endpoints"
        )
