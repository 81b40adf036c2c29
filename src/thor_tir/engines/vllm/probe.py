"""The check that a server holds the weights of the model here: both read the same tokens."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from random import Random

import torch

from thor_tir.engines.vllm.replica import Replica
from thor_tir.errors import EngineFault
from thor_tir.pretrained import CausalLM, plain_weights

PROBE_TOKENS = 48
"""Length of the probe that is read after every update."""
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.15, torch.float16: 0.05}
"""Largest mean difference of log-probabilities over the probe, in nats, by the precision of the server."""


class Probe:
    """Tokens that the model reads when its weights come into force, and each server when it has them."""

    def __init__(self, model: CausalLM, vocabulary: int, dtype: torch.dtype | None = None) -> None:
        """`dtype` is the precision of the servers; None stands for the model's."""
        random = Random("probe")
        self._model = model
        self._tolerance = TOLERANCE.get(dtype or model.dtype, TOLERANCE[torch.bfloat16])
        self._expected: list[float] = []
        self._ids = [random.randrange(min(model.config.vocab_size, vocabulary)) for _ in range(PROBE_TOKENS)]

    async def read(self) -> None:
        """Let the model read them: training may have moved its weights again by the time that a server has these."""
        self._expected = await asyncio.to_thread(_logprobs, self._model, self._ids)

    async def compare(self, replica: Replica) -> None:
        """Raise EngineFault where the server does not hold the weights of the model; ReplicaLost."""
        assert replica.abilities is not None
        ids = self._ids[: replica.abilities.max_model_len - 1]
        found = await replica.control.read(replica, ids)
        expected = self._expected[: len(found)]
        mean = sum(abs(a - b) for a, b in zip(found, expected, strict=True)) / len(found)
        if mean <= self._tolerance:  # also false for NaN
            return
        raise EngineFault(
            f"an engine does not hold the trained weights: over a probe of {len(ids)} tokens the log-probabilities of "
            f"{replica.name} are off by {mean:.3g} nats on average; {await self._first_difference(replica)}"
        )

    async def _first_difference(self, replica: Replica) -> str:
        assert replica.abilities is not None
        if not replica.abilities.repairs:
            return "the server lacks this package's extension, so it cannot say which weight differs"
        reply = await replica.post("/collective_rpc", {"method": "thor_sums"})
        theirs: Mapping[str, float] = reply["results"][0]
        ours = {name: float(weight.detach().double().sum()) for name, weight in plain_weights(self._model)}
        for name in theirs.keys() & ours.keys():
            if not math.isclose(theirs[name], ours[name], rel_tol=1e-3, abs_tol=1e-3):
                return f"the first weight that differs is {name}"
        return (
            "no weight that can be compared differs: the precision (start the server with --dtype float32, or train "
            "with --bf16), or a packed copy of a weight, is at fault"
        )


async def check_alike(replicas: Sequence[Replica]) -> None:
    """Raise EngineFault where two servers do not hold the same bits: the probe may not see a small difference."""
    first: Mapping[str, str] = {}
    for replica in replicas:
        found = await replica.control.checksums(replica)
        for name in sorted(found.keys() & first.keys()):
            if found[name] != first[name]:
                raise EngineFault(f"{replica.name} and {replicas[0].name} hold other weights: the first is {name}")
        first = first or found


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
