"""Drawing tokens: formulas on a batch of logits, and random numbers that belong to one request alone.

Letters in names of tensors: B rows, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thor_tir.engines.protocol import Sampling

BLOCK = 64
"""Random numbers drawn at a time for one request."""


class Uniforms:
    """Random numbers in [0, 1) of one request: the i-th depends on its seed and on i, and on nothing else (Philox)."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.Generator(np.random.Philox(key=seed % 2**128))
        self._drawn: list[float] = []

    def __getitem__(self, index: int) -> float:
        while index >= len(self._drawn):
            self._drawn += self._generator.random(BLOCK).tolist()
        return self._drawn[index]


BLOCKWISE, WORDS = 4096, 64
"""Vocabularies of at least so many words are searched by blocks of so many first: adding up in order is slow."""
BELOW_ONE = 1 - 2.0**-53
"""The largest number below 1: a token without probability is never drawn."""
LEAST_TEMPERATURE = 1e-5
"""A smaller one is taken for this: it draws the most likely token as well, and logits divided by it stay numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draws:
    """Sampling settings of the rows of a batch, as tensors; built once for as long as the rows stay the same."""

    temperature_B1: Tensor | None
    """Divisors of the logits (1 where a row is greedy); None where it is 1 in every row."""
    top_k_B: Tensor | None
    """Tokens kept, None where every row keeps all."""
    most_kept: int
    """The largest of them, known without asking the device."""
    top_p_B1: Tensor | None
    """Probability kept, None where every row keeps all."""
    is_greedy_B: Tensor | None
    """None where no row is greedy."""
    is_all_greedy: bool
    """True if every row takes its most likely token."""
    plain_B: NDArray[np.float32] | None
    """Temperature of each row on the CPU, 0 where it is greedy; None where some row cuts by top-k or top-p."""

    @staticmethod
    def of(samplings: Sequence[Sampling], *, vocabulary: int, device: torch.device) -> "Draws":
        """Collect the settings of the rows, leaving out every step that no row asks for."""
        temperatures = [max(s.temperature, LEAST_TEMPERATURE) if s.temperature else 1.0 for s in samplings]
        top_ks = [min(s.top_k or vocabulary, vocabulary) for s in samplings]
        top_ps = [s.top_p for s in samplings]
        is_greedy = [s.temperature == 0 for s in samplings]
        is_cut, keeps_less = any(p < 1 for p in top_ps), any(k < vocabulary for k in top_ks)
        return Draws(
            temperature_B1=_column(temperatures, device) if any(t != 1 for t in temperatures) else None,
            top_k_B=sent(top_ks, device) if keeps_less else None,
            most_kept=max(top_ks),
            top_p_B1=_column(top_ps, device) if is_cut else None,
            is_greedy_B=sent(is_greedy, device) if any(is_greedy) else None,
            is_all_greedy=all(is_greedy),
            plain_B=None if keeps_less or is_cut else np.where(is_greedy, 0, temperatures).astype(np.float32),
        )


def _column(numbers: Sequence[float], device: torch.device) -> Tensor:
    return sent(numbers, device, dtype=torch.float32)[:, None]


def sent(values: Sequence[Any] | NDArray[Any], device: torch.device, *, dtype: torch.dtype | None = None) -> Tensor:
    """The numbers on a device; from pinned memory to a GPU, so that nobody waits until they are there."""
    made = torch.tensor(values, dtype=dtype)
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def draw(logits_BV: Tensor, draws: Draws, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row and its log-probability in nats, [B] each.

    The log-probability is that of softmax(logits / temperature), before top-k and top-p cut it. Tokens are drawn by
    inverting the cumulative distribution at `uniform_B` (float64, in [0, 1)): equal numbers and logits, equal tokens.
    """
    scaled_BV = logits_BV.float()
    if draws.temperature_B1 is not None:
        scaled_BV = scaled_BV / draws.temperature_B1
    logp_BV = scaled_BV.log_softmax(dim=-1)
    if draws.is_all_greedy:
        token_B = logits_BV.argmax(dim=-1)
    else:
        token_B = invert(kept_probabilities(logp_BV, draws), uniform_B)
        if draws.is_greedy_B is not None:
            token_B = torch.where(draws.is_greedy_B, logits_BV.argmax(dim=-1), token_B)
    return token_B, logp_BV.gather(1, token_B[:, None])[:, 0]


def kept_probabilities(logp_BV: Tensor, draws: Draws) -> Tensor:
    """Probabilities with 0 where top-k or top-p cut a token, not normalised again."""
    if draws.top_k_B is not None:
        logp_BV = keep_top_k(logp_BV, draws.top_k_B, most=draws.most_kept)
    if draws.top_p_B1 is not None:
        logp_BV = keep_top_p(logp_BV, draws.top_p_B1)
    return logp_BV.exp()


def keep_top_k(logp_BV: Tensor, top_k_B: Tensor, *, most: int) -> Tensor:
    """Minus infinity outside the k most likely tokens of each row, `most` at most; ties with the k-th are kept."""
    smallest_kept_B1 = logp_BV.topk(most, dim=-1).values.gather(1, top_k_B[:, None] - 1)
    return logp_BV.masked_fill(logp_BV < smallest_kept_B1, float("-inf"))


def keep_top_p(logp_BV: Tensor, top_p_B1: Tensor) -> Tensor:
    """Minus infinity outside the fewest most likely tokens that hold at least `top_p` of the probability left."""
    sorted_BV, order_BV = logp_BV.sort(dim=-1, descending=True, stable=True)
    prob_BV = sorted_BV.softmax(dim=-1)
    mass_before_BV = prob_BV.cumsum(dim=-1) - prob_BV
    is_cut_BV = mass_before_BV >= top_p_B1
    is_cut_BV = is_cut_BV & (top_p_B1 < 1)  # rounding must not cut the tail of a row that asked for everything
    is_cut_BV[:, 0] = False
    return logp_BV.masked_fill(torch.zeros_like(is_cut_BV).scatter(1, order_BV, is_cut_BV), float("-inf"))


def invert(probability_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """The token in whose share of the cumulative distribution `uniform_B` falls; float64, for large vocabularies."""
    rows, vocabulary = probability_BV.shape
    if vocabulary < BLOCKWISE or vocabulary % WORDS:
        return _inverted(probability_BV, uniform_B)[0]
    probability_BCW = probability_BV.view(rows, -1, WORDS)
    block_B, rest_B = _inverted(probability_BCW.sum(dim=-1), uniform_B)
    inside_BW = probability_BCW[torch.arange(rows, device=block_B.device), block_B]
    return block_B * WORDS + _inverted(inside_BW, rest_B)[0]


def _inverted(probability_BV: Tensor, uniform_B: Tensor) -> tuple[Tensor, Tensor]:
    """The place in whose share `uniform_B` falls, and how far within it, as a number in [0, 1)."""
    cumulative_BV = probability_BV.cumsum(dim=-1, dtype=torch.float64)
    threshold_B1 = uniform_B[:, None] * cumulative_BV[:, -1:]
    place_B1 = torch.searchsorted(cumulative_BV, threshold_B1, right=True)
    place_B1 = place_B1.clamp(max=probability_BV.shape[1] - 1)  # beyond the last only where probabilities are NaN
    share_B1 = probability_BV.gather(1, place_B1)
    within_B1 = (threshold_B1 - cumulative_BV.gather(1, place_B1)) / share_B1 + 1
    return place_B1[:, 0], within_B1[:, 0].clamp(0, BELOW_ONE)
