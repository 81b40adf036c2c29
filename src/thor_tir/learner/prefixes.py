"""Rows that begin alike: their common part is read once, by any Hugging Face causal model, and all gradients reach it.

The samples of one problem share its prompt, the repairs of one failed call everything before it. A family reads its
prefix once; the keys and values of that are handed to each of its rows, which then read only what is their own. The
gradient is the same as of rows read whole: a prefix gets the sum of what its rows send back.

Legend: `P` families of a micro-batch, `S` tokens of a prefix, `B` rows, `T` tokens of a row after its prefix.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor
from torch.distributed.fsdp import FSDPModule
from transformers import DynamicCache

from thor_tir.learner.sample import TrainingSample
from thor_tir.pretrained import CausalLM

WORTH = 0.7
"""Share of the tokens of a family's rows that may be left to read, padding included, for its prefix to be read apart:
above it, a second call of the model, copied keys and a mask cost more than they spare."""


def num_inputs(row: TrainingSample) -> int:
    """Tokens the model must read: nothing that follows the last trained token, nor that token itself, is needed."""
    return len(row.trained) - 1 - row.trained[::-1].index(True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Rows with one prefix."""

    rows: tuple[TrainingSample, ...]
    """Rows that share the prefix."""
    prefix: int
    """Tokens read once; 0 where the rows are read whole."""

    @property
    def own(self) -> int:
        """Tokens of the longest row after the prefix."""
        return max(map(num_inputs, self.rows)) - self.prefix

    @property
    def is_worthy(self) -> bool:
        """True where reading the prefix apart pays."""
        return self.prefix + len(self.rows) * self.own <= WORTH * sum(map(num_inputs, self.rows))


def is_recomputed(model: CausalLM) -> bool:
    """True where layers are computed again in the backward pass; transformers renamed this after 5.19."""
    newer: bool | None = getattr(model, "is_activation_checkpointing", None)
    return model.is_gradient_checkpointing if newer is None else newer


def can_share(model: CausalLM) -> bool:
    """True where a prefix can be read apart: layers remember keys and values alone, of every token, and nothing
    drops them (layers that are computed again) or counts the calls of the model (shards in several processes)."""
    config = model.config.get_text_config()
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    has_window = getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    is_apart = isinstance(model, FSDPModule) or is_recomputed(model)
    return layers == {"full_attention"} and not (has_window or is_apart)


def single(row: TrainingSample) -> Family:
    """A row that is read whole."""
    return Family(rows=(row,), prefix=0)


def families(rows: Iterable[TrainingSample]) -> tuple[list[Family], list[TrainingSample]]:
    """The families that are worth reading apart, and all other rows."""
    found = _by_group(rows)
    return [f for f in found if f.is_worthy], [row for f in found if not f.is_worthy for row in f.rows]


def grouped(rows: Sequence[TrainingSample]) -> list[Family]:
    """The rows of one micro-batch, as families if any of them is worth it."""
    found = _by_group(rows)
    return found if any(family.is_worthy for family in found) else [single(row) for row in rows]


def _by_group(rows: Iterable[TrainingSample]) -> list[Family]:
    members: dict[str, list[TrainingSample]] = {}
    for row in rows:
        members.setdefault(row.group or row.id, []).append(row)
    return [Family(rows=tuple(group), prefix=common_prefix(group)) for group in members.values()]


def common_prefix(rows: Sequence[TrainingSample]) -> int:
    """Leading tokens that all rows share, less those whose own output is needed: it ends before the last token that
    stands in front of a trained one."""
    shortest = min(row.trained.index(True) - 1 for row in rows)
    if len(rows) == 1:
        return len(rows[0].token_ids[:shortest])
    columns = zip(*(row.token_ids[:shortest] for row in rows), strict=True)
    return sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The prefixes of a micro-batch."""

    ids_PS: Tensor
    """int64, padded on the right."""
    length_P: Tensor
    """int64."""
    parent_B: Tensor
    """int64, the prefix of each row."""

    def to(self, device: torch.device) -> "Shared":
        """The same on another device."""
        return Shared(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


def read(model: Any, shared: Shared, num_own: int) -> dict[str, Any]:
    """Read the prefixes; returns the arguments that the model needs besides each row's own `num_own` tokens."""
    longest = shared.ids_PS.shape[1]
    cache = DynamicCache(config=model.config)
    model(input_ids=shared.ids_PS, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_select_indices(shared.parent_B)
    length_B1 = shared.length_P[shared.parent_B][:, None]
    place_T = torch.arange(longest + num_own, device=length_B1.device)
    return {
        "past_key_values": cache,
        "attention_mask": ((place_T < length_B1) | (place_T >= longest)).long(),
        "position_ids": length_B1 + place_T[:num_own],
        "use_cache": True,
    }
