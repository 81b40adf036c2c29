"""vLLM as a `TrainablePolicy`: ids in, ids and log-probabilities out, and weights that a learner moves.

Weights go by path: the server's model folder is rewritten, so that a server that dies starts again with the weights in
force. After every update a probe is read by the server and by the model here; what differs ends the run, since a
policy that is not the trained one makes every ratio wrong.
"""

import asyncio
import math
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

import httpx
import torch
from safetensors.torch import save_file

from thor_tir.chat_template import sampled_ends
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.engines.vllm.server import SERVED_NAME, VLLMConfig, VLLMServer
from thor_tir.errors import EngineFault, RequestFault, UsageError
from thor_tir.pretrained import CausalLM, ModelTokenizer, copy_weights
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Author, Completion, Span, StopReason

MAX_STARTS = 6
"""Starts of the server within one run; one that keeps dying ends the run."""
SHARD_BYTES = 2 * 2**30
"""Size of one file of weights in bytes: no more is held in memory beside the model."""
PROBE_TOKENS = 48
"""Length of the probe that is read after every update."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Largest mean difference of log-probabilities over the probe, in nats, by the precision of the server."""
SEEDS = 2**63
"""Bound of the seeds that vLLM takes."""


def open_engine(
    model: CausalLM,
    tokenizer: ModelTokenizer,
    options: EngineOptions,
    *,
    deterministic: bool = False,
    barrier: object = None,
) -> "VLLMEngine":
    """The engine as the table of engines opens it. Raises UsageError for a deterministic run: vLLM promises no bits."""
    if deterministic:
        raise UsageError("vLLM does not promise the same bits again: --deterministic needs the engine `local`")
    return VLLMEngine(
        model,
        tokenizer,
        VLLMConfig(
            python=options.python or sys.executable,
            dtype=str(model.dtype).removeprefix("torch."),
            max_num_seqs=options.max_num_seqs,
            num_threads=options.num_threads,
            arguments=tuple(options.arguments.split()),
        ),
    )


class VLLMEngine:
    """A policy on a vLLM server of its own, usable between `async with` and its end, from one event loop."""

    def __init__(self, model: CausalLM, tokenizer: ModelTokenizer, config: VLLMConfig | None = None) -> None:
        self.policy_version = 0
        self._model = model
        self._tokenizer = tokenizer
        self._end_ids = sorted(sampled_ends(model, tokenizer))
        self._folder = tempfile.TemporaryDirectory(prefix="thor-weights-", ignore_cleanup_errors=True)
        self._weights = Path(self._folder.name) / "model"
        self._server = VLLMServer(self._weights, config or VLLMConfig())
        self._mending = asyncio.Lock()
        self._max_model_len = 0
        self._active = 0

    async def __aenter__(self) -> "VLLMEngine":
        """Write the model down, start the server and compare the two. Raises UsageError and EngineFault."""
        await asyncio.to_thread(self._write_model)
        try:
            await self._server.start()
            listed = await self._call("GET", "/v1/models")
            self._max_model_len = int(listed["data"][0]["max_model_len"])
            await self._compare()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()
        self._server.remove()
        self._folder.cleanup()

    @property
    def max_model_len(self) -> int:
        """Tokens that a prompt and its completion may have together."""
        return self._max_model_len

    @property
    def server_pid(self) -> int | None:
        """Process id of the server; None where none runs."""
        return self._server.pid

    def attend(self) -> AbstractContextManager[None]:
        """No effect: a server batches requests as they come."""
        return nullcontext()

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue `token_ids`; see `Policy.sample`. A completion also ends, with LENGTH, where the context is full.

        Raises ContextFull, ValueError for ids that are no prompt of this model, RequestFault where the server refuses
        this request, and EngineFault where it keeps dying.
        """
        if not token_ids:
            raise ValueError("a prompt has at least one token, found none")
        room = self._max_model_len - len(token_ids)
        if room < 1:
            raise ContextFull(
                f"the prompt has {len(token_ids)} tokens, which fill the context of {self._max_model_len}"
            )
        if min(token_ids) < 0 or max(token_ids) >= self._model.config.vocab_size:
            raise ValueError(f"the prompt has ids outside the model's vocabulary of {self._model.config.vocab_size}")
        self._active += 1
        try:
            reply = await self._call("POST", "/v1/completions", self._body(token_ids, sampling, room))
        finally:
            self._active -= 1
        return self._completion(reply, sampling)

    async def update_weights(self, named_parameters: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Serve these weights, forget the cached prefixes of the old ones, and stamp completions with `version`.

        The model here takes them over too. Raises ValueError while requests are active, EngineFault where the server's
        log-probabilities are not those of the model afterwards.
        """
        if self._active:
            raise ValueError(f"{self._active} requests are active; let them finish first")
        copy_weights(named_parameters, self._model)
        await asyncio.to_thread(self._write_weights)
        await self._call(
            "POST", "/collective_rpc", {"method": "thor_reload", "kwargs": {"weights_path": str(self._weights)}}
        )
        cleared = await self._call("POST", "/reset_prefix_cache")
        if not cleared.get("success"):
            raise EngineFault("vLLM kept its prefix cache, which holds what the old weights computed")
        await self._compare()
        self.policy_version = version

    async def prefix_hit_rate(self) -> float:
        """Share of prompt tokens, since the server started, whose keys and values were found in the prefix cache."""
        metrics = (await self._server.client.get("/metrics")).text
        counts = [_metric(metrics, f"vllm:prefix_cache_{kind}_total") for kind in ("hits", "queries")]
        return counts[0] / counts[1] if counts[1] else 0.0

    def _body(self, token_ids: Sequence[int], sampling: Sampling, room: int) -> JsonObject:
        return {
            "model": SERVED_NAME,
            "prompt": list(token_ids),
            "max_tokens": min(sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1,
            "seed": sampling.seed % SEEDS,
            "stop": list(sampling.stop),
            "stop_token_ids": self._end_ids,
            "include_stop_str_in_output": True,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "logprobs": 0,
        }

    def _completion(self, reply: Mapping[str, Any], sampling: Sampling) -> Completion:
        choice = reply["choices"][0]
        ids = tuple(choice["token_ids"])
        logprobs = tuple(choice["logprobs"]["token_logprobs"])
        if len(ids) != len(logprobs) or not all(map(math.isfinite, logprobs)):
            raise EngineFault("vLLM's log-probabilities are not numbers, or not one for each token")
        stop = StopReason.LENGTH
        if choice["finish_reason"] == "stop":
            stop = StopReason.STOP if choice.get("stop_reason") in sampling.stop else StopReason.END
        span = Span(token_ids=ids, author=Author.MODEL, logprobs=logprobs)
        return Completion(span=span, stop=stop, policy_version=self.policy_version)

    async def _call(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> JsonObject:
        """One request; a server that died is started again, with the weights in force, and asked anew."""
        while True:
            number = self._server.num_starts
            try:
                reply = await self._server.client.request(method, route, json=body)
            except (httpx.TransportError, EngineFault) as error:
                await self._mend(number, error)
                continue
            if reply.status_code >= 500 and not self._server.is_alive:
                await self._mend(number, EngineFault(reply.text[:200]))
                continue
            if reply.status_code != 200:
                fault = RequestFault if route.startswith("/v1/completions") else EngineFault
                raise fault(f"vLLM answers {route} with {reply.status_code}: {reply.text[:300]}")
            value: JsonObject = reply.json()
            return value

    async def _mend(self, number: int, error: Exception) -> None:
        """Start the server again, once for all requests that its death ended."""
        async with self._mending:
            if self._server.num_starts != number:
                return
            if number >= MAX_STARTS:
                raise EngineFault(f"the vLLM server died {number} times: {self._server.last_words()}") from error
            await self._server.stop()
            await self._server.start()

    def _write_model(self) -> None:
        self._model.save_pretrained(self._weights, max_shard_size=SHARD_BYTES)
        self._tokenizer.save_pretrained(self._weights)
        self._write_weights()

    def _write_weights(self) -> None:
        """Put the model's weights in place of those in the server's folder, file by file."""
        draft = self._weights.with_name("incoming")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        shard: dict[str, torch.Tensor] = {}
        size = number = 0
        for name, weight in self._model.named_parameters():
            shard[name] = weight.detach().to(self._model.dtype).cpu().contiguous()
            size += shard[name].nbytes
            if size >= SHARD_BYTES:
                save_file(shard, draft / f"model-{number:05}.safetensors", metadata={"format": "pt"})
                shard, size, number = {}, 0, number + 1
        if shard:
            save_file(shard, draft / f"model-{number:05}.safetensors", metadata={"format": "pt"})
        for old in (*self._weights.glob("*.safetensors"), *self._weights.glob("*.safetensors.index.json")):
            old.unlink()
        for file in draft.iterdir():
            file.rename(self._weights / file.name)

    async def _compare(self) -> None:
        """Raise EngineFault where the server does not hold the weights of the model here."""
        ids = self._probe()
        reply = await self._call(
            "POST",
            "/v1/completions",
            {"model": SERVED_NAME, "prompt": ids, "max_tokens": 1, "prompt_logprobs": 0, "temperature": 0},
        )
        found = [
            row[str(id)]["logprob"] for row, id in zip(reply["choices"][0]["prompt_logprobs"][1:], ids[1:], strict=True)
        ]
        expected = await asyncio.to_thread(_logprobs, self._model, ids)
        mean = sum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(found)
        if mean <= TOLERANCE.get(self._model.dtype, TOLERANCE[torch.bfloat16]):  # also false for NaN
            return
        raise EngineFault(
            f"vLLM does not hold the trained weights: over a probe of {len(ids)} tokens its log-probabilities are off "
            f"by {mean:.3g} nats on average; {await self._first_difference()}"
        )

    async def _first_difference(self) -> str:
        reply = await self._call("POST", "/collective_rpc", {"method": "thor_sums"})
        theirs: Mapping[str, float] = reply["results"][0]
        ours = {name: float(weight.detach().double().sum()) for name, weight in self._model.named_parameters()}
        for name in theirs.keys() & ours.keys():
            if not math.isclose(theirs[name], ours[name], rel_tol=1e-3, abs_tol=1e-3):
                return f"the first weight that differs is {name}"
        return "no weight that can be compared differs: a packed copy of one, or the precision, is at fault"

    def _probe(self) -> list[int]:
        random = Random("probe")
        size = min(PROBE_TOKENS, self._max_model_len - 1)
        return [random.randrange(min(self._model.config.vocab_size, len(self._tokenizer))) for _ in range(size)]


@torch.inference_mode()
def _logprobs(model: CausalLM, ids: Sequence[int]) -> list[float]:
    """Log-probability of each id but the first, given those before it."""
    was_training = model.training
    model.eval()
    try:
        logits_TV = model(torch.tensor([ids], device=model.device)).logits[0].float()
    finally:
        model.train(was_training)
    logp_TV = torch.log_softmax(logits_TV[:-1], dim=-1)
    values: list[float] = logp_TV.gather(1, torch.tensor(ids[1:], device=model.device)[:, None])[:, 0].tolist()
    return values


def _metric(text: str, name: str) -> float:
    """Sum of a Prometheus counter over its labels."""
    rows = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
    return sum(float(line.rpartition(" ")[2]) for line in rows)
