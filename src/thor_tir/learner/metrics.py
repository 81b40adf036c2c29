"""What one optimiser step tells about itself, gathered beside the loss and fetched from the device once.

Legend: `B` rows, `T` target positions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from thor_tir.learner.objective import MAX_LOG_RATIO, Clip, log_ratio, token_sum
from thor_tir.learner.row import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How far the policy has moved from the one that sampled: means over a surrogate's tokens that were run."""

    low_share: float
    """Tokens of negative advantage whose ratio is below the clip range."""
    high_share: float
    """Tokens of positive advantage whose ratio is above the clip range."""
    dual_share: float
    """Tokens of negative advantage whose loss the dual clip caps."""
    mean_log_ratio: float
    """Mean of |log ratio|, nats."""
    max_log_ratio: float
    """Largest |log ratio|, nats."""
    approx_kl: float
    """KL(old || new) in nats per token, estimated by ratio - 1 - log ratio, which is never negative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentMetrics:
    """One component of the loss in one step."""

    loss: float
    """Its summand of the objective: weighted, over N_c."""
    nll: float
    """Mean negative log-likelihood in nats per token that was run, unweighted."""
    num_tokens: int
    """N_c."""
    num_rows: int
    drift: Drift | None
    """Of surrogates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step."""

    step: int
    """Counted from 1: steps taken so far, this one included."""
    is_updated: bool
    """False where nothing was to be learned, or where the loss or the gradient was not finite."""
    loss: float
    gradient_norm: float
    """Before clipping."""
    learning_rate: float
    num_rows: int
    num_tokens: int
    """Read by the model, padding not counted; rows that leave no gradient are not read."""
    padding_share: float
    """Padding in all that was read."""
    seconds: float
    components: Mapping[Component, ComponentMetrics]

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens read a second, update included."""
        return self.num_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over one component's tokens, as scalars on the device; `+` joins micro-batches."""

    loss: Tensor
    tokens: Tensor
    nll: Tensor
    low: Tensor
    high: Tensor
    dual: Tensor
    log_ratio: Tensor
    kl: Tensor
    max_log_ratio: Tensor

    def __add__(self, other: "Sums") -> "Sums":
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Sums(**{**added, "max_log_ratio": torch.maximum(self.max_log_ratio, other.max_log_ratio)})


def fetch(sums: Sums | None, component: Component, num_tokens: int, num_rows: int) -> ComponentMetrics:
    """Means of the sums, with one transfer from the device; all 0 where no row of the component was run."""
    values = torch.stack([getattr(sums, f.name) for f in fields(sums)]).tolist() if sums else [0.0] * len(fields(Sums))
    loss, tokens, *totals, largest = values
    nll, low, high, dual, mean_log_ratio, kl = (total / max(1.0, tokens) for total in totals)
    drift = Drift(
        low_share=low,
        high_share=high,
        dual_share=dual,
        mean_log_ratio=mean_log_ratio,
        max_log_ratio=largest,
        approx_kl=kl,
    )
    return ComponentMetrics(
        loss=loss,
        nll=nll,
        num_tokens=num_tokens,
        num_rows=num_rows,
        drift=drift if component.is_surrogate else None,
    )


@torch.no_grad()
def measure(loss: Tensor, logp_BT: Tensor, old_logp_BT: Tensor, adv_B: Tensor, mask_BT: Tensor, clip: Clip) -> Sums:
    """Sums over the tokens of one component in one micro-batch. Without old log-probabilities the drift is 0."""
    log_ratio_BT = log_ratio(logp_BT, old_logp_BT)
    ratio_BT = log_ratio_BT.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
    is_bad_B1, is_good_B1 = adv_B[:, None] < 0, adv_B[:, None] > 0
    distance_BT = torch.where(mask_BT, log_ratio_BT.abs(), 0.0)
    dtype = logp_BT.dtype
    return Sums(
        loss=loss.detach(),
        tokens=mask_BT.sum(dtype=dtype),
        nll=token_sum(-logp_BT, mask_BT),
        low=(mask_BT & is_bad_B1 & (ratio_BT < 1 - clip.low)).sum(dtype=dtype),
        high=(mask_BT & is_good_B1 & (ratio_BT > 1 + clip.high)).sum(dtype=dtype),
        dual=(mask_BT & is_bad_B1 & (ratio_BT > clip.dual)).sum(dtype=dtype),
        log_ratio=distance_BT.sum(),
        kl=token_sum(ratio_BT - 1 - log_ratio_BT, mask_BT),
        max_log_ratio=distance_BT.max(),
    )
