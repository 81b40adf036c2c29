"""Log-probabilities of trained tokens under any Hugging Face causal language model: of a micro-batch, and of rows.

Legend: `B` rows, `T` target positions, `N` trained tokens, `H` width of the model, `V` vocabulary.
"""

import ctypes
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thor_tir.distributed import ALONE, Ranks
from thor_tir.learner.attention import training_attention
from thor_tir.learner.batch import MicroBatch, collate, own_plan
from thor_tir.learner.fused import fused_layers
from thor_tir.learner.objective import token_logprobs
from thor_tir.learner.output_head import head_logprobs, is_linear
from thor_tir.learner.prefixes import read
from thor_tir.learner.sample import TrainingSample
from thor_tir.learner.trainable import is_in_parts
from thor_tir.pretrained import CausalLM
from thor_tir.products import quick_products

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's mallopt(3)."""


@cache
def keep_freed_memory() -> None:
    """Let this process keep what it frees, up to 256 MiB, where its C library is glibc.

    A micro-batch frees what the next one asks for; given back to the system in between, it comes as pages that are
    cleared and mapped anew, which took a seventh of a step of a million parameters.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_TRIM_THRESHOLD, 2**28)
        library.mallopt(_M_MMAP_THRESHOLD, 2**26)


@contextmanager
def quick_training(model: PreTrainedModel) -> Iterator[None]:
    """Attention, norms, gates and products of its own choice; for backward passes too, which compute layers again."""
    keep_freed_memory()
    with quick_products(), training_attention(model), fused_layers(model):
        yield


def trained_logprobs(model: PreTrainedModel, batch: MicroBatch) -> Tensor:
    """log pi of each trained target in nats, shape N.

    Hidden states are gathered at trained positions on their way into the output head, so logits of prompts,
    observations and padding are never computed. Where the head is all there is to the logits, it is applied a part of
    the vocabulary at a time; elsewhere, whatever a model does to its logits afterwards still happens.
    """
    target_ids_N = batch.target_ids_BT.flatten()[batch.trained_N]
    if is_linear(model):
        hidden_NH, _ = _head(model, batch, is_bypassed=True)
        return head_logprobs(hidden_NH, model.get_output_embeddings().weight, target_ids_N)
    _, logits_NV = _head(model, batch, is_bypassed=False)
    return token_logprobs(logits_NV, target_ids_N)


def _head(model: PreTrainedModel, batch: MicroBatch, *, is_bypassed: bool) -> tuple[Tensor, Tensor]:
    """The hidden states of trained positions in front of the output head, and their logits, of none if bypassed."""
    seen: list[Tensor] = []

    def keep_trained(_head: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden_BTH: Tensor = inputs[0]
        seen.append(hidden_BTH.flatten(0, 1)[batch.trained_N])
        return (seen[0][None, : 0 if is_bypassed else None], *inputs[1:])

    num_own = batch.input_ids_BT.shape[1]
    given = read(model, batch.shared, num_own) if batch.shared is not None else {"use_cache": False}
    hook = model.get_output_embeddings().register_forward_pre_hook(keep_trained)
    try:
        logits: Tensor = model(input_ids=batch.input_ids_BT, **given).logits
    finally:
        hook.remove()
    expected = 0 if is_bypassed else len(batch.trained_N)
    assert (len(seen), *logits.shape[:2]) == (1, 1, expected), f"the output head of {type(model).__name__} was bypassed"
    return seen[0], logits[0]


@torch.no_grad()
def row_logprobs(
    model: CausalLM, rows: Sequence[TrainingSample], *, micro_batch_tokens: int, ranks: Ranks = ALONE
) -> dict[str, tuple[float, ...]]:
    """log pi of each trained token in nats by the row's id, NaN at the others; a row that trains nothing has NaN alone.

    The model computes as it does in training, without dropout. Several processes share the rows among them, and may
    share the model; all must ask about the same rows.
    """
    was_training = model.training
    model.eval()
    trained = [row for row in rows if row.num_trained]
    mine = own_plan(trained, ranks, micro_batch_tokens=micro_batch_tokens, in_step=is_in_parts(model))
    scores: dict[str, tuple[float, ...]] = {}
    for group in mine:
        batch = collate(group).to(model.device)
        with quick_training(model):
            logprobs = iter(trained_logprobs(model, batch).tolist())
        for row in group:
            scores[row.id] = tuple(next(logprobs) if m else float("nan") for m in row.trained)
    if is_in_parts(model):
        model.reshard()  # nothing goes backwards, after which the last layers would be parts again
    model.train(was_training)
    everywhere = {id: found for part in ranks.gather(scores) for id, found in part.items()}
    return {row.id: everywhere.get(row.id) or (float("nan"),) * len(row.token_ids) for row in rows}
