"""Requests for tokens and what servers answer: vLLM's route for token ids, and OpenAI's where that one is closed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import StopReason

SEEDS = 2**63
"""Bound of the seeds that vLLM takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One completion that is wanted."""

    id: str
    """Id of the request; one that is sent again keeps it."""
    token_ids: Sequence[int]
    """Token ids of the prompt."""
    sampling: Sampling
    """Sampling settings."""
    max_tokens: int
    """Largest number of tokens that fit into the context."""
    end_ids: Sequence[int]
    """Tokens that end the model's turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One completion as a server gave it."""

    token_ids: tuple[int, ...]
    """Sampled tokens."""
    logprobs: tuple[float, ...]
    """Their log-probabilities, in nats."""
    stop: StopReason
    """Reason why sampling ended."""
    labels: tuple[str, ...] = ()
    """Label of the weights that sampled each token; empty where the server does not say."""
    cached_tokens: int | None = None
    """Tokens of the prompt whose keys and values were there already; None where the server does not say."""


class TokenRoute(Protocol):
    """A way to ask for tokens."""

    path: str
    """Route on the server."""
    has_labels: bool
    """True where answers say which weights sampled each token."""

    def body(self, ask: Ask, model: str) -> JsonObject:
        """The request as JSON, with the name of the model on the server."""
        ...

    def answer(self, reply: Mapping[str, Any], ask: Ask) -> Answer:
        """The reply, read. Raises EngineFault for one that is no completion."""
        ...


class Generate:
    """`/inference/v1/generate`: ids in, ids out, with spans of weight versions."""

    path = "/inference/v1/generate"
    has_labels = True

    def body(self, ask: Ask, model: str) -> JsonObject:
        """The request as JSON, with the name of the model on the server."""
        return {
            "request_id": ask.id,
            "model": model,
            "token_ids": list(ask.token_ids),
            "sampling_params": {
                **_sampling(ask),
                "logprobs": 0,
                "stop": list(ask.sampling.stop),
                "stop_token_ids": list(ask.end_ids),
                "include_stop_str_in_output": True,
                "skip_special_tokens": False,
            },
        }

    def answer(self, reply: Mapping[str, Any], ask: Ask) -> Answer:
        """The reply, read. Raises EngineFault for one that is no completion."""
        choice = reply["choices"][0]
        ids = tuple(choice["token_ids"])
        content = (choice.get("logprobs") or {}).get("content") or []
        labels = [""] * len(ids)
        for span in choice.get("weight_versions") or ():
            labels[span["start"] : span["end"]] = [span["version"]] * (span["end"] - span["start"])
        return Answer(
            token_ids=ids,
            logprobs=_finite(ids, [each["logprob"] for each in content]),
            stop=_stop(choice, ask),
            labels=tuple(labels),
            cached_tokens=_cached(reply),
        )


class Completions:
    """`/v1/completions` with token ids, which every vLLM serves and which says nothing of weight versions."""

    path = "/v1/completions"
    has_labels = False

    def body(self, ask: Ask, model: str) -> JsonObject:
        """The request as JSON, with the name of the model on the server."""
        return {
            "model": model,
            "prompt": list(ask.token_ids),
            **_sampling(ask),
            "stop": list(ask.sampling.stop),
            "stop_token_ids": list(ask.end_ids),
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "logprobs": 0,
        }

    def answer(self, reply: Mapping[str, Any], ask: Ask) -> Answer:
        """The reply, read. Raises EngineFault for one that is no completion."""
        choice = reply["choices"][0]
        ids = tuple(choice["token_ids"])
        logprobs = _finite(ids, choice["logprobs"]["token_logprobs"])
        return Answer(token_ids=ids, logprobs=logprobs, stop=_stop(choice, ask), cached_tokens=_cached(reply))


class SGLangGenerate:
    """SGLang's `/generate`: ids in, ids out, with spans of weight versions. Read in its sources, not run."""

    path = "/generate"
    has_labels = True

    def body(self, ask: Ask, model: str) -> JsonObject:
        """The request as JSON; such a server has one model, without a name."""
        sampling = _sampling(ask)
        return {
            "rid": ask.id,
            "input_ids": list(ask.token_ids),
            "return_logprob": True,
            "sampling_params": {
                "max_new_tokens": sampling.pop("max_tokens"),
                "sampling_seed": sampling.pop("seed") % 2**31,
                **sampling,
                "stop": list(ask.sampling.stop),
                "stop_token_ids": list(ask.end_ids),
                "no_stop_trim": True,
                "skip_special_tokens": False,
            },
        }

    def answer(self, reply: Mapping[str, Any], ask: Ask) -> Answer:
        """The reply, read. Raises EngineFault for one that is no completion."""
        about = reply["meta_info"]
        ids = tuple(reply["output_ids"])
        ended = about["finish_reason"]
        labels = [str(about["weight_version"])] * len(ids)
        for span in about.get("weight_versions") or ():
            labels[span["start"] : span["end"]] = [span["version"]] * (span["end"] - span["start"])
        return Answer(
            token_ids=ids,
            logprobs=_finite(ids, [entry[0] for entry in about["output_token_logprobs"]]),
            stop=_stop({"finish_reason": ended["type"], "stop_reason": ended.get("matched")}, ask),
            labels=tuple(labels),
            cached_tokens=about.get("cached_tokens"),
        )


def _sampling(ask: Ask) -> JsonObject:
    return {
        "max_tokens": ask.max_tokens,
        "temperature": ask.sampling.temperature,
        "top_p": ask.sampling.top_p,
        "top_k": ask.sampling.top_k or -1,
        "seed": ask.sampling.seed % SEEDS,
    }


def _finite(ids: Sequence[int], logprobs: Sequence[float]) -> tuple[float, ...]:
    if len(ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
        raise EngineFault("vLLM's log-probabilities are not numbers, or not one for each token")
    return tuple(logprobs)


def _stop(choice: Mapping[str, Any], ask: Ask) -> StopReason:
    if choice["finish_reason"] != "stop":
        return StopReason.LENGTH
    return StopReason.STOP if choice.get("stop_reason") in ask.sampling.stop else StopReason.END


def _cached(reply: Mapping[str, Any]) -> int | None:
    details = (reply.get("usage") or {}).get("prompt_tokens_details")
    return None if details is None else int(details["cached_tokens"] or 0)
