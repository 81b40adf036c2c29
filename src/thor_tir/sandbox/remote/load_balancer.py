"""Choice of the sandbox server that gets the next program: the one with the least to do, and none that is out.

A server that fails several times in a row is out (its circuit breaker is open) until it runs a program of ours again;
one that asked for a pause rests for as long as it asked. While all are out, programs wait: a dead service costs time,
not programs, until patience ends and the run stops. The transport is the caller's business, see `client.py`.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from thor_tir.errors import SandboxLost, SandboxUnavailable

_LOG = logging.getLogger(__name__)

TELL_EVERY_S = 60.0
"""Pause between two warnings while every server is out, in seconds."""


@dataclass(eq=False, slots=True, kw_only=True)
class Endpoint:
    """One server and its present state."""

    url: str
    """Without a slash at its end."""
    level: str = "unknown"
    """Confinement as the server said it or the operator declared it."""
    in_flight: int = 0
    """Programs that it has now, from here."""
    faults: int = 0
    """Failures since it last answered."""
    is_out: bool = False
    """Gets no programs until it has run one of ours."""
    rests_until: float = 0.0
    """On the event loop's clock; it asked for a pause."""
    said: str = "nothing yet"
    """Its last failure, for the message to the user."""


@dataclass(frozen=True, kw_only=True)
class FleetRules:
    """Rules of when a server is out, and of the wait for one."""

    concurrency: int = 32
    """Programs that one server has at once; the rest wait here."""
    tolerance: int = 3
    """Number of failures in a row after which a server is out."""
    ping_s: float = 0.5
    """First pause before a server that is out is tried again; doubles up to twenty times that."""
    patience_s: float = 1800.0
    """Longest time that a program waits for servers of which none runs anything, in seconds; then the run stops, and
    can be continued."""


class Fleet:
    """The servers of one sandbox.

    `ping` returns whether a server is there, `is_fit` whether one that was out runs programs again; neither may raise.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        rules: FleetRules,
        *,
        ping: Callable[[Endpoint], Awaitable[bool]],
        is_fit: Callable[[Endpoint], Awaitable[bool]],
    ) -> None:
        self.endpoints = tuple(endpoints)
        self.num_answers = 0
        """Programs that some server has run, those that show that it is fit again included."""
        self._answered_at = self._reported_at = float("-inf")
        self._rules = rules
        self._ping = ping
        self._is_fit = is_fit
        self._changed = asyncio.Event()
        self._revivals: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def greet(self) -> None:
        """Ping every server once. Raises SandboxUnavailable when none answers; the silent ones are out for now."""
        fit = await asyncio.gather(*(self._ping(endpoint) for endpoint in self.endpoints))
        if not any(fit):
            raise SandboxUnavailable(self._none("now"))
        for endpoint in (e for e, is_fit in zip(self.endpoints, fit, strict=True) if not is_fit):
            self._put_out(endpoint)

    @asynccontextmanager
    async def lend(self, avoid: Collection[Endpoint], *, since: float) -> AsyncIterator[Endpoint]:
        """A server for one program that has waited since then, rather none of those to avoid.

        Raises SandboxLost when all stay out.
        """
        endpoint = await self._take(avoid, since)
        endpoint.in_flight += 1
        try:
            yield endpoint
        finally:
            endpoint.in_flight -= 1
            self._announce()

    def answered(self, endpoint: Endpoint) -> None:
        """Note that a server did its work, which ends a row of failures."""
        endpoint.faults = 0
        self.num_answers += 1
        self._answered_at = asyncio.get_running_loop().time()

    def failed(self, endpoint: Endpoint, reason: str) -> None:
        """Note that a server did not do its work; the last of a row of failures puts it out."""
        endpoint.faults += 1
        endpoint.said = reason
        if endpoint.faults >= self._rules.tolerance and not endpoint.is_out:
            self._put_out(endpoint)

    def rests(self, endpoint: Endpoint, pause_s: float, reason: str) -> None:
        """Note that a server is well but busy, and asked for a pause."""
        endpoint.said = reason
        endpoint.rests_until = max(endpoint.rests_until, asyncio.get_running_loop().time() + pause_s)

    async def close(self) -> None:
        """Give up waiting: who waits for a server gets SandboxUnavailable."""
        self._is_closed = True
        self._announce()
        for task in self._revivals:
            task.cancel()
        await asyncio.gather(*self._revivals, return_exceptions=True)

    def left_s(self, since: float) -> float:
        """Time that is left to a program that has waited since then. Raises SandboxLost when that is over.

        Time counts while no server runs anything at all.
        """
        quiet_s = asyncio.get_running_loop().time() - max(since, self._answered_at)
        if quiet_s >= self._rules.patience_s:
            raise SandboxLost(self._none(f"for {quiet_s:.0f} s"))
        return self._rules.patience_s - quiet_s

    async def _take(self, avoid: Collection[Endpoint], since: float) -> Endpoint:
        clock = asyncio.get_running_loop().time
        while not self._is_closed:
            usable = [e for e in self.endpoints if not e.is_out]
            free = [e for e in usable if e.in_flight < self._rules.concurrency and e.rests_until <= clock()]
            if free:
                return min(free, key=lambda e: (e in avoid, e.in_flight))
            if usable:
                pauses = [e.rests_until - clock() for e in usable if e.rests_until > clock()]
                await self._change(min(pauses, default=None))
            else:
                await self._change(self.left_s(since))
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
        endpoint.is_out = True
        if not self._tell():
            _LOG.warning("sandbox: %s gets no programs until it runs one again: %s", endpoint.url, endpoint.said)
        task = asyncio.create_task(self._revive(endpoint))
        self._revivals.add(task)
        task.add_done_callback(self._revivals.discard)
        self._announce()

    async def _revive(self, endpoint: Endpoint) -> None:
        pause_s = self._rules.ping_s
        await asyncio.sleep(pause_s)
        while not await self._is_fit(endpoint):
            self._tell()
            pause_s = min(2 * pause_s, 20 * self._rules.ping_s)
            await asyncio.sleep(pause_s)
        _LOG.warning("sandbox: %s is back", endpoint.url)
        endpoint.is_out, endpoint.faults = False, 0
        self._announce()

    def _tell(self) -> bool:
        """Say from time to time that all servers are out; true if they are."""
        now = asyncio.get_running_loop().time()
        are_out = all(endpoint.is_out for endpoint in self.endpoints)
        if are_out and now - self._reported_at >= TELL_EVERY_S:
            self._reported_at = now
            patience_s = self._rules.patience_s
            _LOG.warning("sandbox: %s; the run waits up to %.0f s, and nothing is lost", self._none("now"), patience_s)
        return are_out

    def _none(self, when: str) -> str:
        reasons = "; ".join(f"{endpoint.url}: {endpoint.said}" for endpoint in self.endpoints)
        return (
            f"no sandbox server can be used {when} ({reasons}); start one with `thor sandbox serve`, or correct the "
            "endpoints"
        )
