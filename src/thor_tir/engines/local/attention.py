"""Attention of one new token per row to everything stored: two batched products instead of a general kernel.

The fused kernels are made for many queries. With one query a row they cost two to five times these products on a CPU,
and where heads share keys and values they make transformers copy the whole cache once per group and layer.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "thor_decode"
REPLACED = "sdpa"
"""The implementation this one computes the same as. Models that ask for another one keep it."""


def decode_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling + mask) v for one query per row, softmax in float32; heads may share keys and values.

    `query` is [B, heads, 1, D], `key` and `value` [B, key-value heads, K, D], `attention_mask` additive [B, 1, 1, K];
    the result is [B, 1, heads, D]. Anything else, such as a bias by position, goes to the implementation replaced.
    """
    rows, heads, queries, size = query.shape
    shared = key.shape[1]
    if queries != 1 or attention_mask is None or kwargs.get("position_bias") is not None:
        other: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return other
    scale = size**-0.5 if scaling is None else scaling
    grouped = (query * scale).reshape(rows * shared, heads // shared, size)
    scores = torch.bmm(grouped, key.flatten(0, 1).transpose(1, 2)).view(rows, heads, 1, -1)
    weights = (scores + attention_mask).softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    mixed = torch.bmm(weights.view(rows * shared, heads // shared, -1), value.flatten(0, 1))
    return mixed.view(rows, 1, heads, -1), None


AttentionInterface.register(NAME, decode_attention)


@contextmanager
def decoding(config: Any) -> Iterator[None]:
    """Let the model with this config attend through `decode_attention`, and leave the config as it was."""
    implementation = config._attn_implementation
    if implementation != REPLACED:
        yield
        return
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = implementation
