"""The formulas of the loss, free of models and records (paper, Eq. 3, 4 and 8; dual clip as in the released code).

Legend: `B` rows, `T` target positions, `N` trained tokens of a micro-batch, `V` vocabulary.
Losses are to be minimised and computed in float32, or in float64 where the input is.

Departure from the paper: ratios are per token and Eq. 4's mean over each sequence is a mean over all trained tokens,
as in the released code; which mean is taken is the caller's choice, made with `token_sum` and a count.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**26
"""Entries of the float32 logits that are alive at a time in `token_logprobs`: 256 MiB."""

MAX_LOG_RATIO = 20.0
"""Nats. Far outside any clip range, and small enough that no exponential overflows into a NaN gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Where the surrogate stops rewarding a change of the policy."""

    low: float = 0.2
    """Ratios below 1 - low earn nothing more at negative advantage."""
    high: float = 0.28
    """Ratios above 1 + high earn nothing more at positive advantage (the clip-higher of DAPO)."""
    dual: float = 3.0
    """At negative advantage A the loss is at most -dual * A."""

    def __post_init__(self) -> None:
        if not (0 <= self.low <= 1 and self.high >= 0 and self.dual >= 1 + self.high):
            raise ValueError(f"expected 0 <= low <= 1, high >= 0 and dual >= 1 + high, found {self}")


def log_ratio(logp_BT: Tensor, old_logp_BT: Tensor) -> Tensor:
    """log pi(s) - log pi_old(s), in nats; the constant 0 where the old one is NaN, so that no gradient passes there."""
    logp_BT, old_logp_BT = _precise(logp_BT), _precise(old_logp_BT)
    is_known_BT = ~old_logp_BT.isnan()
    zero = logp_BT.new_zeros(())
    return torch.where(is_known_BT, logp_BT, zero) - torch.where(is_known_BT, old_logp_BT, zero)


def clipped_surrogate(
    logp_BT: Tensor, old_logp_BT: Tensor, adv_B: Tensor, *, low: float, high: float, dual_clip: float
) -> Tensor:
    """Loss per token: max(-A rho, -A clip(rho, 1 - low, 1 + high)), and where A < 0 at most -dual_clip * A.

    rho = exp(log pi - log pi_old) per token (paper, Eq. 4 and 8, with the dual clip of the released code). Where the
    old log-probability is NaN the value is -A and the gradient 0.
    """
    ratio_BT = log_ratio(logp_BT, old_logp_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    adv_B1 = adv_B[:, None].to(ratio_BT.dtype)
    loss_BT = torch.maximum(-adv_B1 * ratio_BT, -adv_B1 * ratio_BT.clamp(1 - low, 1 + high))
    return torch.where(adv_B1 < 0, torch.minimum(loss_BT, -dual_clip * adv_B1), loss_BT)


def token_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Sum over the tokens where the mask holds; whatever stands elsewhere, NaN included, leaves value and gradient."""
    return torch.where(mask_BT.bool(), values_BT, values_BT.new_zeros(())).sum()


def token_logprobs(logits_NV: Tensor, target_ids_N: Tensor, *, logits_at_once: int = LOGITS_AT_ONCE) -> Tensor:
    """log pi(target) in nats, shape N. More than `logits_at_once` logits are taken in chunks and redone backwards.

    Chunking keeps the float32 copy and its softmax out of memory where the model's logits are half precision.
    """
    num_tokens, vocabulary = logits_NV.shape
    chunk = max(1, logits_at_once // vocabulary)
    if num_tokens <= chunk:
        return _token_logprobs(logits_NV, target_ids_N)
    pairs = zip(torch.split(logits_NV, chunk), torch.split(target_ids_N, chunk), strict=True)
    return torch.cat([checkpoint(_token_logprobs, logits, ids, use_reentrant=False) for logits, ids in pairs])


def _token_logprobs(logits_NV: Tensor, target_ids_N: Tensor) -> Tensor:
    return -cross_entropy(_precise(logits_NV), target_ids_N, reduction="none")


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
