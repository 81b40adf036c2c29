"""Handling of a server's failures: the only place that sends a request again.

A request that fails is sent again after a jittered, growing pause. A server that asks for a pause gets it from all.
When failures come in a row and no request succeeds, the server is taken for dead: everything waits, one request at a
time tries whether it is back, and after `patience_s` the run stops with a sentence. So a dead server costs time, never
questions.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from thor_tir.errors import EngineFault, RequestFault

T = TypeVar("T")

BAD_ANSWER_RETRIES = 2
"""A request whose reply was no completion is sent again so often: most servers would say the same again."""
TELL_EVERY_S = 60.0
"""Least time between two messages about a dead server, in seconds."""
TELL_PAUSE_S = 5.0
"""A longer pause that a server asks for is said before the run waits."""


@dataclass(frozen=True, kw_only=True)
class RetryConfig:
    """Number and pauses of the retries."""

    retries: int = 5
    """Number of times that a request is sent again after a failure, while the server answers others."""
    tolerance: int = 8
    """Number of failures in a row, of whatever requests, after which the server is taken for dead."""
    backoff_s: float = 0.5
    """Average pause before the first retry; doubles with each."""
    max_backoff_s: float = 30.0
    """Largest average pause, in seconds."""
    patience_s: float = 1800.0
    """Longest time that a run waits for a dead server before it stops, in seconds; the same command then continues."""

    def __post_init__(self) -> None:
        if self.retries < 0 or self.tolerance < 1 or min(self.backoff_s, self.max_backoff_s, self.patience_s) < 0:
            raise ValueError(f"pauses must not be negative and tolerance at least 1, found {self}")


class Transient(Exception):
    """A failure that another try may not meet."""

    def __init__(self, reason: str, *, pause_s: float | None = None) -> None:
        super().__init__(reason)
        self.pause_s = pause_s
        """The server is well but busy, and asked for this pause."""


class Refused(Exception):
    """The server will not answer this request, however often it is asked."""


class BadAnswer(Refused):
    """The server answered this request with what is no completion."""


@dataclass(slots=True)
class _Trouble:
    """Failures since the last success of any request."""

    since: float | None = None
    """Time of the first failure; None while there is none."""
    in_a_row: int = 0
    """Number of failures without a success between them."""
    refusals: int = 0
    """Number of these that refused the connection."""
    reason: str = ""
    """Reason of the last failure."""
    reported_at: float = float("-inf")
    """Time at which the user was last informed."""
    told_until: float = float("-inf")
    """End of the longest pause that the user was informed of."""


@dataclass(slots=True, eq=False)
class RetryPolicy:
    """Shared by all requests to one server."""

    name: str
    """Name of the server, for messages."""
    config: RetryConfig
    """Limits of the retries."""
    say: Callable[[str], None]
    """Function that shows a message to the user, such as that the run waits."""
    events: Counter[str] = field(default_factory=Counter)
    """Failures by kind, retries, pauses: for the run's record."""
    _trouble: _Trouble = field(default_factory=_Trouble)
    _rests_until: float = 0.0
    _successes: int = 0
    _trial: asyncio.Lock = field(default_factory=asyncio.Lock)
    _random: random.Random = field(default_factory=random.Random)  # pauses must not draw from a run's own generator

    @property
    def is_dead(self) -> bool:
        """True if the server is taken for dead."""
        return self._trouble.in_a_row >= self.config.tolerance

    async def insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of one request.

        Raises EngineFault when the server stays dead, RequestFault when only this request fails again and again.
        """
        own = 0
        successes = self._successes
        while True:
            await self._rest()
            if self.is_dead:
                async with self._trial:  # in the order of their coming, so that no single request can keep it dead
                    if self.is_dead:
                        await self._pause(self._trouble.in_a_row - self.config.tolerance)
                        outcome = await self._try(ask)
                    else:
                        continue
            else:
                outcome = await self._try(ask)
            if isinstance(outcome, BadAnswer) and own < min(BAD_ANSWER_RETRIES, self.config.retries):
                own += 1
                self.events["retries"] += 1
                await self._pause(own - 1)
                continue
            if isinstance(outcome, Refused):
                raise self._refusal(outcome) from outcome
            if not isinstance(outcome, Transient):
                return outcome
            if outcome.pause_s is not None:
                continue
            own += 1
            answers_others = self._successes > successes
            if own > self.config.retries and answers_others and not self.is_dead:
                raise RequestFault(f"{self.name} failed {own} times at one request and answers others: {outcome}")
            self.events["retries"] += 1
            if not self.is_dead:
                await self._pause(own - 1)

    async def _try(self, ask: Callable[[], Awaitable[T]]) -> T | Transient | Refused:
        try:
            answer = await ask()
        except Transient as failure:
            self._failed(failure)
            return failure
        except Refused as refusal:
            self.events["bad answers" if isinstance(refusal, BadAnswer) else "refused"] += 1
            return refusal
        self._succeeded()
        return answer

    def _failed(self, failure: Transient) -> None:
        now = asyncio.get_running_loop().time()
        trouble = self._trouble
        trouble.since = now if trouble.since is None else trouble.since
        trouble.reason = str(failure)
        if failure.pause_s is not None:
            self.events["asked to wait"] += 1
            self._rests_until = max(self._rests_until, now + min(failure.pause_s, self.config.patience_s))
            rest_s = self._rests_until - now
            if rest_s > TELL_PAUSE_S and self._rests_until > trouble.told_until + TELL_PAUSE_S and self._left_s() > 0:
                trouble.told_until = self._rests_until
                self.say(f"{self.name} asks for a pause ({trouble.reason}); the run waits {rest_s:.0f} s, then goes on")
        else:
            self.events["failures"] += 1
            trouble.in_a_row += 1
            if trouble.in_a_row == self.config.tolerance:
                self.events["pauses"] += 1
        if self._left_s() == 0:
            raise EngineFault(
                f"{self.name} has answered nothing for {now - trouble.since:.0f} s (last: {trouble.reason}); "
                "see that it runs, then give the same command again"
            )
        if self.is_dead and now - trouble.reported_at >= TELL_EVERY_S:
            trouble.reported_at = now
            self.say(
                f"{self.name} does not answer ({trouble.reason}); the run waits up to {self._left_s():.0f} s more, "
                "and nothing is lost"
            )

    def _refusal(self, refusal: Refused) -> EngineFault | RequestFault:
        """One request in many is that request's fault; all of them are the run's."""
        self._trouble.refusals += 1
        if self._trouble.refusals < self.config.tolerance:
            return RequestFault(f"{self.name} refuses one request: {refusal}")
        return EngineFault(f"{self.name} refuses whatever it is asked: {refusal}")

    def _succeeded(self) -> None:
        self._successes += 1
        if self.is_dead:
            self.say(f"{self.name} is back; the run goes on")
        self._trouble = _Trouble()

    async def _rest(self) -> None:
        """Wait as long as the server asked for, and a little longer by a random amount."""
        clock = asyncio.get_running_loop().time
        while (left := self._rests_until - clock()) > 0:  # noqa: ASYNC110 - a clock is waited for
            await asyncio.sleep(left + self._random.uniform(0, min(1.0, self.config.backoff_s)))

    async def _pause(self, doublings: int) -> None:
        average = min(self.config.max_backoff_s, self.config.backoff_s * 2 ** min(doublings, 16))
        await asyncio.sleep(min(average * self._random.uniform(0.5, 1.5), self._left_s()))

    def _left_s(self) -> float:
        """Time that the run still waits for a success, in seconds."""
        if self._trouble.since is None:
            return self.config.patience_s
        waited_s = asyncio.get_running_loop().time() - self._trouble.since
        return max(0.0, self.config.patience_s - waited_s)
