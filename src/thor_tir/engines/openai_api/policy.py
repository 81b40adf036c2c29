"""A policy on a server of the OpenAI kind: vLLM, SGLang, llama.cpp, `transformers serve`, a hosted service.

Token ids are exact where the server returns them, encoded from its text where it does not, and text-level ids where no
tokenizer of its model is here (`speech.py` finds out, `docs/decisions/0007-text-of-foreign-models.md` says why). Its
samples carry no log-probabilities: nothing is trained by policy gradient on a model whose weights are elsewhere.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Self

from thor_tir.address import check_address
from thor_tir.chat_template import turn_ends
from thor_tir.engines.loading import load_tokenizer
from thor_tir.engines.openai_api.capabilities import PromptFormat, ServerCapabilities, find_speech
from thor_tir.engines.openai_api.client import ApiClient
from thor_tir.engines.openai_api.responses import Reply
from thor_tir.engines.openai_api.retry import Refused, RetryConfig, RetryPolicy, Transient
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.errors import EngineFault
from thor_tir.pretrained import Tokenizer
from thor_tir.trajectory import Author, Completion, Span, StopReason

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EndpointConfig:
    """Limits of the requests to a server."""

    concurrency: int = 64
    """Requests that one server has at once; the rest wait here."""
    timeout_s: float = 600.0
    """Longest time for one reply, in seconds, from the first byte sent to the last one read."""
    connect_s: float = 10.0
    """Longest time for opening a connection, in seconds."""
    max_reply_bytes: int = 8 * 2**20
    """Largest size of one reply in bytes; no more is read."""
    retry: RetryConfig = field(default_factory=RetryConfig)
    """Rules for sending a request again."""

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.max_reply_bytes < 1024 or min(self.timeout_s, self.connect_s) <= 0:
            raise ValueError(f"at least one request, 1024 bytes of reply and positive times are needed, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedAs:
    """The user's description of a model behind an address."""

    model: str = ""
    """Name of the model on the server; empty where it serves one alone."""
    tokenizer: str = ""
    """The model's tokenizer here: a folder or a hub name. Empty where there is none: then text is all there is."""
    key_variable: str = "OPENAI_API_KEY"
    """Environment variable that holds the key. The key itself is never stored."""


class EndpointPolicy:
    """A `Policy`, usable between `async with` and its end, from one event loop."""

    def __init__(
        self,
        address: str,
        served: ServedAs | None = None,
        config: EndpointConfig | None = None,
        say: Callable[[str], None] = _LOG.warning,
        end_tokens: Sequence[str] = (),
        chat_template: str = "",
    ) -> None:
        """`end_tokens` name tokens that end the model's turn beside those that its tokenizer and template name;
        `chat_template` takes the place of its tokenizer's.
        """
        self.address = check_address(address)
        """Base of the API, such as http://10.0.0.5:8000/v1."""
        self.served = served = served or ServedAs()
        self.config = config or EndpointConfig()
        self.tokenizer: Tokenizer = (
            load_tokenizer(served.tokenizer, end_tokens, chat_template) if served.tokenizer else TextTokenizer()
        )
        """The tokenizer that a dialect for this model uses."""
        self.ends = turn_ends(self.tokenizer)
        """Tokens that end a turn."""
        self._end_tokens = tuple(end_tokens)
        self.spent: Counter[str] = Counter()
        """Calls, and tokens as the server counts them."""
        self.retry = RetryPolicy(name=self.address, config=self.config.retry, say=say)
        self._gate = asyncio.Semaphore(self.config.concurrency)
        self._asker: ApiClient | None = None
        self._speech: ServerCapabilities | None = None

    async def __aenter__(self) -> Self:
        """Find out which requests the server understands.

        Raises EngineFault when nothing answers, UsageError when it does not serve this model.
        """
        self._asker = ApiClient(
            self.address,
            key_variable=self.served.key_variable,
            timeout_s=self.config.timeout_s,
            connect_s=self.config.connect_s,
            max_bytes=self.config.max_reply_bytes,
        )
        try:
            self._speech = await self._find_speech(self._asker)
        except BaseException:
            await self._asker.close()
            raise
        return self

    async def _find_speech(self, asker: ApiClient) -> ServerCapabilities:
        """Ask a few times: a connection may break, but a server that is not there should be reported at once."""
        for pause_s in (0.1, 0.5, None):
            try:
                return await find_speech(asker, self.served.model, self.tokenizer, self._end_tokens)
            except Refused as refusal:
                raise EngineFault(f"{self.address} does not serve: {refusal}") from refusal
            except Transient as failure:
                if pause_s is None:
                    raise EngineFault(f"{self.address} does not serve: {failure}; see that it runs") from failure
                await asyncio.sleep(pause_s)
        raise AssertionError("the last attempt returns or raises")

    async def __aexit__(self, *_: object) -> None:
        if self._asker is not None:
            await self._asker.close()

    @property
    def about(self) -> Mapping[str, Any]:
        """The form of the requests and their cost so far, for the run's record."""
        speech = self.speech
        return {
            "address": self.address,
            "model": speech.model,
            "tokenizer": self.served.tokenizer or None,
            "manner": speech.manner.value,
            "extra options": speech.has_extras,
            "stops": "named by the server" if speech.tells_stop else "cut here",
            "spent": dict(self.spent),
            "events": dict(self.retry.events),
        }

    @property
    def speech(self) -> ServerCapabilities:
        """The capabilities that were found. Raises EngineFault before `async with`."""
        if self._speech is None:
            raise EngineFault(f"{self.address} is not open")
        return self._speech

    def attend(self) -> AbstractContextManager[None]:
        """No effect: a server batches requests as they come."""
        return nullcontext()

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue `token_ids`, as `Policy` says.

        Raises EngineFault when the server stays dead, RequestFault when it fails at this request alone.
        """
        speech, asker = self.speech, self._asker
        assert asker is not None
        sampling = self._within(token_ids, sampling)
        body = speech.body(token_ids, sampling, self.tokenizer)
        expected = speech.expected(token_ids, sampling)

        async def ask() -> Reply:
            async with self._gate:
                if sampling.stop and not speech.tells_stop:
                    return await asker.streamed(speech.path, body, expected)
                return await asker.whole(speech.path, body, expected)

        reply = await self.retry.insist(ask)
        completion = self._completion(reply, sampling)
        self.spent["calls"] += 1
        self.spent["tokens"] += completion.num_tokens or 0
        return completion

    def _within(self, token_ids: Sequence[int], sampling: Sampling) -> Sampling:
        """No more tokens than the context has room for, where its length is known and ids count as the model's do."""
        longest = self.speech.context_tokens
        if longest is None or self.speech.manner not in (PromptFormat.IDS, PromptFormat.TEXT):
            return sampling
        room = longest - len(token_ids)
        if room < 1:
            raise ContextFull(f"{len(token_ids)} tokens fill a context of {longest}")
        return replace(sampling, max_tokens=min(room, sampling.max_tokens))

    def _completion(self, reply: Reply, sampling: Sampling) -> Completion:
        ids = reply.token_ids
        if ids is None or self.speech.manner is not PromptFormat.IDS:
            ids = tuple(self.tokenizer(reply.text, add_special_tokens=False, split_special_tokens=True)["input_ids"])
        end = self.ends.written
        if reply.stop is StopReason.END and end is not None and not self.ends.ids.issuperset(ids[-1:] or (-1,)):
            ids = (*ids, end)
        count = len(ids) if reply.num_tokens is None else reply.num_tokens
        return Completion(span=Span(token_ids=ids, author=Author.MODEL), stop=reply.stop, num_tokens=count)
