"""Causal attention of a CPU with its gradient, as products of whole blocks.

torch's own kernel multiplies small pieces of one head at a time and runs at a tenth of what products of this machine
can do, backwards slower still. Here a few rows and heads are taken together, the heads that share keys and values as
one matrix. A block of queries is shown the keys up to its end and no others, and probabilities live for one block: the
backward pass computes them again.

Legend: `B` rows, `H` query heads, `X` key-value heads, `G` query heads of each (H = X G), `T` queries, `K` keys, `D`
size of a head, `N` pairs of row and key-value head, `Q` queries of a block, `M` their G Q rows.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from thor_tir.pretrained import attending
from thor_tir.products import product_dtype

SCORES_AT_ONCE = 2**19
"""Scores that are alive at a time: 2 MiB in float32, near what a core has as its own cache."""
QUERIES_AT_ONCE = 64
"""Queries of one block."""
NAME = "thor_train"
"""Name of this implementation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A part of all scores that is computed at once."""

    pairs: slice
    """Pairs of row and key-value head."""
    queries: slice
    """Queries of each."""
    seen: int
    """Keys that the last of them sees."""


def causal_attention(query_BHTD: Tensor, key_BXTD: Tensor, value_BXTD: Tensor, scale: float) -> Tensor:
    """softmax(scale q k^T) v over the keys up to each query, [B, H, T, D]; sums and softmax in float32 or better."""
    rows, heads, length, size = query_BHTD.shape
    shared = key_BXTD.shape[1]
    dtype = product_dtype(query_BHTD)
    query_NGTD = query_BHTD.to(dtype).reshape(rows * shared, heads // shared, length, size)
    key_NKD, value_NKD = (states.to(dtype).reshape(rows * shared, length, size) for states in (key_BXTD, value_BXTD))
    with torch.autocast(query_BHTD.device.type, enabled=False):
        mixed: Tensor = _Causal.apply(query_NGTD, key_NKD, value_NKD, scale)  # type: ignore[no-untyped-call]
    return mixed.view(rows, heads, length, size)


class _Causal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query_NGTD: Tensor, key_NKD: Tensor, value_NKD: Tensor, scale: float) -> Tensor:
        mixed_NGTD = torch.empty_like(query_NGTD, memory_format=torch.contiguous_format)
        for block in _blocks(query_NGTD):
            _, prob_NMK = _probabilities(query_NGTD, key_NKD, scale, block)
            mixed_NMD = torch.bmm(prob_NMK, value_NKD[block.pairs, : block.seen])
            target_NGQD = mixed_NGTD[block.pairs, :, block.queries]
            target_NGQD.copy_(mixed_NMD.view(target_NGQD.shape))
        ctx.save_for_backward(query_NGTD, key_NKD, value_NKD)
        ctx.scale = scale
        return mixed_NGTD

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NGTD: Tensor) -> tuple[Tensor | None, ...]:
        query_NGTD, key_NKD, value_NKD = ctx.saved_tensors
        of_query = torch.empty_like(query_NGTD, memory_format=torch.contiguous_format)
        of_key, of_value = torch.zeros_like(key_NKD), torch.zeros_like(value_NKD)
        for block in _blocks(query_NGTD):
            seen = (block.pairs, slice(0, block.seen))
            scaled_NMD, prob_NMK = _probabilities(query_NGTD, key_NKD, ctx.scale, block)
            grad_NMD = _rows(grad_NGTD, block)
            of_value[seen] += torch.bmm(prob_NMK.transpose(1, 2), grad_NMD)
            of_prob_NMK = torch.bmm(grad_NMD, value_NKD[seen].transpose(1, 2))
            of_score_NMK = torch._softmax_backward_data(of_prob_NMK, prob_NMK, -1, prob_NMK.dtype)
            of_key[seen] += torch.bmm(of_score_NMK.transpose(1, 2), scaled_NMD)
            target_NGQD = of_query[block.pairs, :, block.queries]
            torch.mul(torch.bmm(of_score_NMK, key_NKD[seen]).view(target_NGQD.shape), ctx.scale, out=target_NGQD)
        return of_query, of_key, of_value, None


def _blocks(query_NGTD: Tensor) -> Iterator[_Block]:
    pairs, group, length, _ = query_NGTD.shape
    for start in range(0, length, QUERIES_AT_ONCE):
        end = min(length, start + QUERIES_AT_ONCE)
        step = max(1, SCORES_AT_ONCE // (group * (end - start) * end))
        for first in range(0, pairs, step):
            yield _Block(pairs=slice(first, min(pairs, first + step)), queries=slice(start, end), seen=end)


def _rows(states_NGTD: Tensor, block: _Block) -> Tensor:
    """The queries of a block with the heads of a group one below the other, [N, M, D]."""
    return states_NGTD[block.pairs, :, block.queries].flatten(1, 2)


def _probabilities(query_NGTD: Tensor, key_NKD: Tensor, scale: float, block: _Block) -> tuple[Tensor, Tensor]:
    """The scaled queries of a block, and their probabilities [N, M, K]."""
    scaled_NMD = _rows(query_NGTD, block) * scale
    score_NMK = torch.bmm(scaled_NMD, key_NKD[block.pairs, : block.seen].transpose(1, 2))
    start, size = block.queries.start, block.queries.stop - block.queries.start
    hidden_QQ = score_NMK.new_full((size, size), float("-inf")).triu_(1)
    score_NMK.view(len(score_NMK), -1, size, block.seen)[..., start:].add_(hidden_QQ)
    return scaled_NMD, score_NMK.softmax(dim=-1)


def train_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """`causal_attention` in the form that transformers asks for; whatever is not plainly causal goes to torch's."""
    is_plain = attention_mask is None and query.shape[2] == key.shape[2] and query.shape[3] == value.shape[3]
    is_causal = kwargs.get("is_causal") is not False and getattr(module, "is_causal", True)
    if not (is_plain and is_causal and query.device.type == "cpu" and not dropout):
        other: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
        return other
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return causal_attention(query, key, value, scale).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, train_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def training_attention(model: PreTrainedModel) -> AbstractContextManager[None]:
    """Let `model` attend through `train_attention` on a CPU, and leave its configuration as it was."""
    return attending(model.config.get_text_config(), NAME) if model.device.type == "cpu" else nullcontext()
