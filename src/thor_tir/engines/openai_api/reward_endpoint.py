"""A reward model behind an address: the pooling routes of vLLM.

    POST /pooling    conversation -> numbers of the whole text, or a row of numbers for each step or token
    POST /classify   conversation -> probabilities of the classes
    POST /score      question and response -> one number

The first one that the server has is taken. Of a row the last number counts, the probability of "good" where there are
two; of rows for a whole response the last row.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from thor_tir.address import check_address
from thor_tir.engines.openai_api.client import ApiClient
from thor_tir.engines.openai_api.retry import BadAnswer, RetryConfig, RetryPolicy
from thor_tir.engines.reward_model import Response, Rewards
from thor_tir.errors import RequestFault, UsageError

_LOG = logging.getLogger(__name__)
TIMEOUT_S, CONNECT_S, MAX_BYTES = 600.0, 10.0, 8 * 2**20


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """Reward models behind addresses."""

    model: str = ""
    """Name of the reward model on its server; empty where it serves one alone."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the reward model's address."""
    step_tag: str = "<extra_0>"
    """Text that a process reward model expects at the end of each step."""
    concurrency: int = 64
    """Requests that the server has at once."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """Rules for sending a request again."""

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise ValueError(f"at least one request at once is needed, found {self.concurrency}")


def _turns(question: str, text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": text}]}


@dataclass(frozen=True, slots=True)
class Route:
    """One way of asking for numbers."""

    path: str
    """Path on the server."""
    body: Callable[[str, str], dict[str, Any]]
    """Function from question and response to the body of a request, without the model's name."""
    rows: Callable[[Mapping[str, Any]], object]
    """Function from an entry of the reply to the numbers in it."""
    has_steps: bool = False
    """True where steps may be judged one by one."""


ROUTES = (
    Route("/pooling", _turns, lambda entry: entry["data"], has_steps=True),
    Route("/classify", _turns, lambda entry: entry["probs"]),
    Route("/score", lambda question, text: {"text_1": question, "text_2": text}, lambda entry: [entry["score"]]),
)


class RewardEndpoint:
    """A `RewardModel`, usable between `async with` and its end, from one event loop."""

    def __init__(self, address: str, options: RewardOptions, say: Callable[[str], None] = _LOG.warning) -> None:
        self.address = check_address(address, example="http://10.0.0.5:8000").removesuffix("/v1")
        self._options = options
        self._retry = RetryPolicy(name=self.address, config=options.retry, say=say)
        self._gate = asyncio.Semaphore(options.concurrency)
        self._client: ApiClient | None = None
        self._route: Route | None = None
        self._finding = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Open the connections; the server is asked with the first response."""
        self._client = ApiClient(
            self.address,
            key_variable=self._options.key_variable,
            timeout_s=TIMEOUT_S,
            connect_s=CONNECT_S,
            max_bytes=MAX_BYTES,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def rewards(self, responses: Sequence[Response], *, is_process: bool) -> list[Rewards]:
        """See `RewardModel`. Raises UsageError where the server has no route that gives numbers."""
        async with self._finding:
            if self._route is None and responses:
                self._route = await self._found(responses[0], is_process=is_process)
        route = self._route
        if route is None:
            return []
        return list(await asyncio.gather(*(self._insisted(route, each, is_process) for each in responses)))

    async def _found(self, response: Response, *, is_process: bool) -> Route:
        """The first route that answers."""
        refusals = []
        for route in ROUTES:
            if is_process and not route.has_steps:
                continue
            try:
                await self._insisted(route, response, is_process)
            except RequestFault as refusal:
                refusals.append(str(refusal.__cause__ or refusal))
            else:
                return route
        raise UsageError(f"{self.address} gives no rewards ({'; '.join(refusals)[:400]}); serve a model that does")

    async def _insisted(self, route: Route, response: Response, is_process: bool) -> Rewards:
        async def ask() -> Rewards:
            async with self._gate:
                return await self._asked(route, response, is_process)

        return await self._retry.insist(ask)

    async def _asked(self, route: Route, response: Response, is_process: bool) -> Rewards:
        assert self._client is not None
        tag = self._options.step_tag
        if is_process:
            text = "".join(f"{step.replace(tag, '').rstrip()}{tag}" for step in response.steps)
        else:
            text = "".join(response.steps)
        named = {"model": self._options.model} if self._options.model else {}
        reply = await self._client.posted(route.path, {**named, **route.body(response.question, text)})
        return read_rewards(reply, route, num_steps=len(response.steps) if is_process else None)


def read_rewards(reply: Mapping[str, Any], route: Route, *, num_steps: int | None) -> Rewards:
    """The numbers of a reply; none where a server judged another number of steps. Raises BadAnswer for another form."""
    try:
        rows = route.rows(reply["data"][0])
        assert isinstance(rows, list)
        last = [float(row[-1] if isinstance(row, list) else row) for row in rows]
        if not last or not all(map(math.isfinite, last)):
            raise ValueError("no finite number")
        tokens = int((reply.get("usage") or {}).get("prompt_tokens") or 0)
    except (LookupError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise BadAnswer(f"a reply of {route.path} without rewards") from error
    if num_steps is None:
        return Rewards(numbers=(last[-1],), tokens=tokens)
    has_rows = all(isinstance(row, list) for row in rows)
    return Rewards(numbers=tuple(last) if has_rows and len(last) == num_steps else (), tokens=tokens)
