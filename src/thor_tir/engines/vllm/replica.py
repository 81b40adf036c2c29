"""One engine server as a run sees it: what it can do, what it has in flight, and what it was asked so far."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from thor_tir.engines.vllm.abilities import Abilities, is_healthy
from thor_tir.engines.vllm.connection import Connection, ReplicaLost
from thor_tir.engines.vllm.control import VLLM, Control, SGLang
from thor_tir.engines.vllm.server import VLLMServer
from thor_tir.engines.vllm.token_routes import Answer, Ask, Completions, Generate, SGLangGenerate, TokenRoute
from thor_tir.errors import EngineFault, RequestFault
from thor_tir.storage.journal import JsonObject


class State(StrEnum):
    """The part that a replica takes in sampling."""

    AWAY = "away"
    """It is not there, or does not hold the weights in force yet: nothing is asked of it."""
    RENEWING = "renewing"
    """Its weights are being renewed: new requests wait, those in flight go on afterwards."""
    READY = "ready"
    LEFT = "left"
    """It is named no more: it answers what it was asked, and nothing else is asked of it."""
    GIVEN_UP = "given up"
    """It died too often and is not opened again."""


@dataclass(slots=True, kw_only=True)
class Counts:
    """Figures of the requests of one replica."""

    requests: int = 0
    """Requests that it answered."""
    resent: int = 0
    """Requests that it lost, which were asked again, with the same id and seed."""
    losses: int = 0
    """Times that it died, or did not answer any more."""
    stale: int = 0
    """Answers of other weights than those of this run, which were thrown away and asked again."""
    prompt_tokens: int = 0
    """Tokens of prompts whose answers say how many of them were cached."""
    cached_tokens: int = 0
    """Those of them whose keys and values were found in its prefix cache."""
    sampled_tokens: int = 0
    """Tokens that it sampled, of all answers."""

    def as_json(self) -> JsonObject:
        """The figures as metrics hold them."""
        return asdict(self)


@dataclass(slots=True, kw_only=True)
class Replica:
    """A server, by its name within the run."""

    key: str
    """Name in figures: its address, or its number among the servers that the run started."""
    name: str
    """Name in messages: its number and address."""
    connection: Connection
    """The wire to it."""
    server: VLLMServer | None = None
    """Its process, where this run started it."""
    state: State = State.AWAY
    """Part that it takes in sampling."""
    in_flight: int = 0
    """Requests that wait for its answer."""
    counts: Counts = field(default_factory=Counts)
    """Figures of its requests."""
    abilities: Abilities | None = None
    """Its routes and settings; None before it was asked."""
    times_taken: int = 0
    """Times that it was found with other weights than those of this run."""
    has_served: bool = False
    """True for one that held the weights in force before."""

    @property
    def has_left(self) -> bool:
        """True for one that is named no more."""
        return self.state is State.LEFT

    @property
    def route(self) -> TokenRoute:
        """The way to ask it for tokens."""
        if self.abilities is None or not self.abilities.tokens:
            return Completions()
        return SGLangGenerate() if self.abilities.kind == "sglang" else Generate()

    @property
    def control(self) -> Control:
        """The way to pause it and to give it weights."""
        return SGLang() if self.abilities is not None and self.abilities.kind == "sglang" else VLLM()

    @contextmanager
    def flight(self) -> Iterator[None]:
        """Count one more request in flight."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def ask(self, ask: Ask) -> Answer:
        """One completion. Raises ReplicaLost, RequestFault where it refuses this request, EngineFault."""
        assert self.abilities is not None
        route = self.route
        status, reply = await self._call("POST", route.path, route.body(ask, self.abilities.model))
        if status != 200:
            raise RequestFault(f"{self.name} answers {route.path} with {status}: {str(reply)[:300]}")
        try:
            return route.answer(reply, ask)
        except (LookupError, TypeError, ValueError) as error:
            said = str(reply)[:300]
            raise EngineFault(f"{self.name} answers {route.path} with what is no completion: {said}") from error

    async def get(self, route: str, *, within_s: float | None = None) -> Any:
        """The JSON value of an administrative route. Raises ReplicaLost and EngineFault."""
        return self._value(route, await self._call("GET", route, within_s=within_s))

    async def post(self, route: str, body: object = None) -> Any:
        """The same for a call that changes something."""
        return self._value(route, await self._call("POST", route, body))

    async def unless_refused(self, route: str, body: object = None) -> Any:
        """The same; None where the server refuses the call. Raises ReplicaLost."""
        status, value = await self._call("POST", route, body)
        return value if status == 200 else None

    async def is_taken(self, route: str, body: object = None) -> bool:
        """False where the server refuses the call. Raises ReplicaLost."""
        return (await self._call("POST", route, body))[0] == 200

    async def _call(
        self, method: str, route: str, body: object = None, *, within_s: float | None = None
    ) -> tuple[int, Any]:
        status, reply = await self.connection.call(method, route, body, within_s=within_s)
        if status >= 500 and not await is_healthy(self.connection):
            raise ReplicaLost(f"HTTP {status} {str(reply)[:200]}")
        return status, reply

    def _value(self, route: str, reply: tuple[int, Any]) -> Any:
        status, value = reply
        if status != 200:
            raise EngineFault(f"{self.name} answers {route} with {status}: {str(value)[:300]}")
        return value
