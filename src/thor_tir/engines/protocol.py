"""The interface of every rollout engine: token ids in, sampled token ids with log-probabilities out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Completion

if TYPE_CHECKING:
    from torch import Tensor


class ContextFull(ValueError):
    """The prompt leaves no room for a single token: the model's context is used up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Sampling settings of one completion."""

    max_tokens: int
    """Largest number of tokens of the completion."""
    temperature: float = 1.0
    """Divisor of the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    """Share of probability that the kept tokens reach at least; 1 keeps all."""
    top_k: int = 0
    """Number of most likely tokens that are kept; 0 keeps the whole vocabulary."""
    stop: tuple[str, ...] = ()
    """Strings that end sampling with the token that completes one of them in the decoded text of this completion."""
    seed: int = 0
    """Seed of this request alone: its tokens do not depend on what else is in the batch."""
    heard: Callable[[int], None] | None = field(default=None, compare=False, repr=False)
    """Function that an engine calls with each token as it is drawn; one that draws elsewhere may leave it out."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; a completion has at least one token")
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0:
            raise ValueError(f"temperature >= 0, 0 < top_p <= 1 and top_k >= 0 are allowed, found {self}")


class Policy(Protocol):
    """A language model that continues token ids."""

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue `token_ids`. Log-probabilities are of the distribution sampled from at `temperature`, before
        top-p and top-k cut it, in nats; at temperature 0 they are those of temperature 1.

        Raises EngineFault when the engine, not the model, is at fault, ContextFull when `token_ids` fill the model's
        context, and ValueError when the request cannot be met for another reason.
        """
        ...

    def attend(self) -> AbstractContextManager[None]:
        """Hold this open for as long as one trajectory may still ask for samples.

        A deterministic engine takes a step only when every attending trajectory waits for it, so that the time a
        tool takes cannot change which requests share a batch. Other engines may ignore it.
        """
        ...


class TrainablePolicy(Policy, Protocol):
    """An engine that samples from weights which a learner moves, wherever these are."""

    async def update_weights(self, named_parameters: "Iterable[tuple[str, Tensor]]", version: int) -> None:
        """Sample from these weights from now on, and stamp completions with `version`.

        Tensors are whole and come one after another, so that no second model has to fit into memory; all are consumed,
        since gathering a sharded one is a meeting of several processes. Requests that are active keep the tokens they
        have and go on under the new weights, with a version for each token, where the engine can do that.

        Raises ValueError while requests are active where it cannot, or for a parameter that the engine's model does not
        have, and EngineFault where the engine cannot take them.
        """
        ...

    async def rest(self) -> None:
        """Nothing is sampled until `update_weights` is called: an engine that shares a device may give memory away."""
        ...

    def take_figures(self) -> "Mapping[str, JsonObject]":
        """Figures of its parts since they were last taken, for the record of a round; empty where there are none."""
        ...


class Serverless:
    """The part of a `TrainablePolicy` that is about servers, for one that has none."""

    async def rest(self) -> None:
        """Nothing: there is no memory but that of training."""

    def take_figures(self) -> "Mapping[str, JsonObject]":
        """No part has figures."""
        return {}


class OpenableEngine(TrainablePolicy, AbstractAsyncContextManager["OpenableEngine"], Protocol):
    """A trainable policy that is started and stopped as a context."""
