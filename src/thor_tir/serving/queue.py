"""The queue of requests, which run, wait or are turned away: first come, first served, with a share for each key.

An engine batches whatever is in flight, so the bound is on attempts and not on requests: one request for sixteen
attempts takes as much room as sixteen for one.
"""

import asyncio
import math
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from thor_tir.web_service import TurnedAway

LONGEST_WAIT_S = 60
"""Largest Retry-After."""


@dataclass(frozen=True, kw_only=True)
class QueueConfig:
    """Limits of the work that a server takes on."""

    running: int = 64
    """Attempts in work at once."""
    waiting: int = 256
    """Requests that may wait for their turn; more are turned away with 429."""
    per_client: int = 0
    """Requests that one key may have in work or waiting; 0 sets no such bound."""
    per_minute: int = 0
    """Requests that one key may begin within a minute; 0 sets no such bound."""

    def __post_init__(self) -> None:
        if self.running < 1 or min(self.waiting, self.per_client, self.per_minute) < 0:
            raise ValueError(f"at least one attempt in work and no negative bound, found {self}")


class Queue:
    """The places of a server."""

    def __init__(self, config: QueueConfig) -> None:
        self.config = config
        self.running = 0
        """Attempts in work."""
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._clients: Counter[str] = Counter()
        self._begun: dict[str, deque[float]] = {}
        self._mean_s = 1.0

    @property
    def num_waiting(self) -> int:
        """Requests that wait for their turn."""
        return sum(not turn.done() for _, turn in self._waiting)

    @asynccontextmanager
    async def place(self, client: str, attempts: int) -> AsyncIterator[None]:
        """Hold this open while so many attempts are in work; waits for its turn. Raises TurnedAway (429)."""
        attempts = min(attempts, self.config.running)  # more than there are places run one after another
        self._check_share(client)
        self._clients[client] += 1
        try:
            await self._turn(attempts)
            began = monotonic()
            try:
                yield
            finally:
                self._mean_s += 0.1 * (monotonic() - began - self._mean_s)
                self.running -= attempts
                self._call_next()
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    async def _turn(self, attempts: int) -> None:
        if not self._waiting and self._fits(attempts):
            self.running += attempts
            return
        if self.num_waiting >= self.config.waiting:
            raise self._full(f"{self.num_waiting} requests wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((attempts, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was called at the moment when its client left
                self.running -= attempts
            turn.cancel()
            self._call_next()
            raise

    def _fits(self, attempts: int) -> bool:
        return self.running + attempts <= self.config.running

    def _call_next(self) -> None:
        """Call whoever waits longest, as long as there is room for it."""
        while self._waiting:
            attempts, turn = self._waiting[0]
            if not turn.done():
                if not self._fits(attempts):
                    return
                self.running += attempts
                turn.set_result(None)
            self._waiting.popleft()

    def _check_share(self, client: str) -> None:
        most, rate = self.config.per_client, self.config.per_minute
        if most and self._clients[client] >= most:
            raise self._full(f"this key has {self._clients[client]} requests in work already")
        if not rate:
            return
        now = monotonic()
        begun = self._begun.setdefault(client, deque())
        while begun and begun[0] < now - 60:
            begun.popleft()
        if len(begun) >= rate:
            raise TurnedAway(
                429,
                f"this key has begun {len(begun)} requests within a minute, and {rate} are allowed",
                {"Retry-After": str(math.ceil(begun[0] + 60 - now))},
            )
        begun.append(now)

    def _full(self, reason: str) -> TurnedAway:
        """A refusal that says after about how long a place may be free."""
        wait_s = self._mean_s * (1 + self.num_waiting / self.config.running)
        seconds = min(LONGEST_WAIT_S, max(1, math.ceil(wait_s)))
        return TurnedAway(429, f"{reason}; try again in {seconds} s", {"Retry-After": str(seconds)})
