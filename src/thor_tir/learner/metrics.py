"""Figures of one optimiser step, gathered beside the loss and fetched from the device once.

Legend: `B` rows, `N` trained tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from thor_tir.learner.batch import TermTotals
from thor_tir.learner.objective import Objective, TokenInputs, log_ratio, token_ratio, token_sum

HISTOGRAM_EDGES = (-1.0, -1e-1, -1e-2, -1e-3, -1e-4, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Edges of the eleven bins of log ratios, in nats; the middle bin holds tokens on which both policies agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Distance of the policy from the one that sampled: means over a surrogate's tokens that were run."""

    low_share: float
    """Share of tokens of negative advantage whose ratio is below the clip range."""
    high_share: float
    """Share of tokens of positive advantage whose ratio is above the clip range."""
    dual_share: float
    """Share of tokens of negative advantage whose loss the dual clip caps."""
    mean_log_ratio: float
    """Mean of |log ratio|, nats."""
    max_log_ratio: float
    """Largest |log ratio|, nats."""
    approx_kl: float
    """KL(old || new) in nats per token, estimated by ratio - 1 - log ratio, which is never negative."""
    histogram: tuple[int, ...]
    """Tokens by log ratio, between `HISTOGRAM_EDGES`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TermMetrics:
    """One term of the loss in one step."""

    loss: float
    """Summand of the objective: weighted, over N_c."""
    nll: float
    """Mean negative log-likelihood in nats per token that was run, unweighted."""
    num_tokens: int
    """N_c."""
    num_rows: int
    """Rows that carry the term."""
    drift: Drift | None
    """Distance between the policies, for surrogates; None for other formulas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMetrics:
    """One optimiser step."""

    step: int
    """Steps taken so far, this one included."""
    is_updated: bool
    """False where nothing was to be learned, or where the loss or the gradient was not finite."""
    loss: float
    """The objective."""
    gradient_norm: float
    """Norm of the gradient before clipping."""
    learning_rate: float
    """Learning rate of the step."""
    num_rows: int
    """Rows given, those that leave no gradient included."""
    num_tokens: int
    """Tokens read by the model, padding not counted; rows that leave no gradient are not read."""
    padding_share: float
    """Share of padding in all that was read."""
    seconds: float
    """Wall-clock time of the step."""
    terms: Mapping[str, TermMetrics]
    """Figures of each term, by name."""

    @property
    def tokens_per_second(self) -> float:
        """Useful tokens read a second, update included."""
        return self.num_tokens / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over one term's tokens, as scalars on the device; `+` joins micro-batches."""

    loss: Tensor
    """Part of the objective."""
    tokens: Tensor
    """Tokens that carry the term."""
    nll: Tensor
    """Negative log-likelihood, nats."""
    low: Tensor
    """Tokens below the clip range at negative advantage."""
    high: Tensor
    """Tokens above the clip range at positive advantage."""
    dual: Tensor
    """Tokens whose loss the dual clip caps."""
    log_ratio: Tensor
    """Absolute log ratios, nats."""
    kl: Tensor
    """Estimated KL(old || new), nats."""
    max_log_ratio: Tensor
    """Largest absolute log ratio, nats."""
    histogram: Tensor
    """Tokens of each bin."""

    def __add__(self, other: "Sums") -> "Sums":
        added = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        return Sums(**{**added, "max_log_ratio": torch.maximum(self.max_log_ratio, other.max_log_ratio)})

    def cpu(self) -> "Sums":
        """The same on the CPU, to be sent to another process."""
        return Sums(**{f.name: getattr(self, f.name).cpu() for f in fields(self)})


def fetch(sums: Sums | None, total: TermTotals) -> TermMetrics:
    """Means of the sums, with one transfer from the device; all 0 where no row with the term was run."""
    num_bins = len(HISTOGRAM_EDGES) + 1
    values = [0.0] * (len(fields(Sums)) - 1 + num_bins)
    if sums is not None:
        values = torch.cat([getattr(sums, f.name).reshape(-1) for f in fields(sums)]).tolist()
    loss, tokens, *totals, largest = values[:-num_bins]
    nll, low, high, dual, mean_log_ratio, kl = (total / max(1.0, tokens) for total in totals)
    drift = Drift(
        low_share=low,
        high_share=high,
        dual_share=dual,
        mean_log_ratio=mean_log_ratio,
        max_log_ratio=largest,
        approx_kl=kl,
        histogram=tuple(map(int, values[-num_bins:])),
    )
    return TermMetrics(
        loss=loss,
        nll=nll,
        num_tokens=total.num_tokens,
        num_rows=total.num_rows,
        drift=drift if total.formula.needs_sampling else None,
    )


@torch.no_grad()
def term_sums(loss: Tensor, given: TokenInputs, mask_N: Tensor, objective: Objective) -> Sums:
    """Sums over the tokens of one term in one micro-batch. Without old log-probabilities the drift is 0."""
    logp_N, adv_N, row_N, clip = given.logp_N, given.adv_N, given.row_N, objective.clip
    log_ratio_N = log_ratio(logp_N, given.old_logp_N)
    clipped_N = objective.ratio(log_ratio_N, row_N)
    is_bad_N, is_good_N = mask_N & (adv_N < 0), mask_N & (adv_N > 0)
    distance_N = torch.where(mask_N, log_ratio_N.abs(), 0.0)
    dtype = logp_N.dtype
    return Sums(
        loss=loss.detach(),
        tokens=mask_N.sum(dtype=dtype),
        nll=token_sum(-logp_N, mask_N),
        low=(is_bad_N & (clipped_N < 1 - clip.low)).sum(dtype=dtype),
        high=(is_good_N & (clipped_N > 1 + clip.high)).sum(dtype=dtype),
        dual=(is_bad_N & (clipped_N > clip.dual)).sum(dtype=dtype),
        log_ratio=distance_N.sum(),
        kl=token_sum(token_ratio(log_ratio_N, row_N) - 1 - log_ratio_N, mask_N),
        max_log_ratio=distance_N.max(),
        histogram=_histogram(log_ratio_N, mask_N).to(dtype),
    )


def _histogram(log_ratio_N: Tensor, mask_N: Tensor) -> Tensor:
    edges = torch.tensor(HISTOGRAM_EDGES, dtype=log_ratio_N.dtype, device=log_ratio_N.device)
    bins = torch.arange(len(HISTOGRAM_EDGES) + 1, device=log_ratio_N.device)
    bin_N = torch.bucketize(log_ratio_N, edges)
    return ((bin_N[:, None] == bins) & mask_N[:, None]).sum(dim=0)
