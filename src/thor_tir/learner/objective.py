"""The formulas of the loss, free of models and records, and the record that says which of them a learner composes.

Legend: `B` rows, `N` trained tokens of a micro-batch, `V` vocabulary; `row_N` is the row of each token.
Losses are to be minimised and computed in float32, or in float64 where the input is.

Departure from the paper: by default ratios are per token and Eq. 4's mean over each sequence is a mean over all trained
tokens, as in the released code; `sequence_ratio` and `sequence_mean` are the printed forms.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**26
"""Entries of the float32 logits that are alive at a time in `token_logprobs`: 256 MiB."""

MAX_LOG_RATIO = 20.0
"""Nats. Far outside any clip range, and small enough that no exponential overflows into a NaN gradient."""

Ratio = Callable[[Tensor, Tensor], Tensor]
"""From log ratios and `row_N` to the ratio that the clip looks at, one per token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Range of ratios outside which the surrogate rewards no further change of the policy."""

    low: float = 0.2
    """epsilon_low: ratios below 1 - low earn nothing more at negative advantage."""
    high: float = 0.28
    """epsilon_high: ratios above 1 + high earn nothing more at positive advantage (the clip-higher of DAPO)."""
    dual: float = 3.0
    """delta: the loss at negative advantage A is at most -dual * A."""

    def __post_init__(self) -> None:
        if not (0 <= self.low <= 1 and self.high >= 0 and self.dual >= 1 + self.high):
            raise ValueError(f"expected 0 <= low <= 1, high >= 0 and dual >= 1 + high, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """A weighted mean over rows i of n_i trained tokens: `sum_i weight(n_i) sum_t l_i(t) / sum_i mass(n_i)`."""

    weight: Callable[[Tensor], Tensor]
    """Weight of each token of a row, from `n_B`."""
    mass: Callable[[int], float]
    """Share of a row in the denominator, from its n."""


def token_mean() -> Mean:
    """Every trained token weighs the same: a long row counts more (DAPO, arXiv 2503.14476, Eq. 8)."""
    return Mean(weight=torch.ones_like, mass=float)


def sequence_mean() -> Mean:
    """Every row weighs the same: tokens of a long row count less (paper, Eq. 4)."""
    return Mean(weight=torch.reciprocal, mass=lambda n: float(n > 0))


def constant_mean(length: int) -> Mean:
    """Every row's sum over one constant: no length is favoured (Dr. GRPO, arXiv 2503.20783, section 3.2)."""
    return Mean(weight=lambda n_B: torch.full_like(n_B, 1 / length), mass=lambda n: float(n > 0))


def log_ratio(logp_N: Tensor, old_logp_N: Tensor) -> Tensor:
    """log pi(s) - log pi_old(s), in nats; the constant 0 where the old one is NaN, so that no gradient passes there."""
    logp_N, old_logp_N = _precise(logp_N), _precise(old_logp_N)
    is_known_N = ~old_logp_N.isnan()
    zero = logp_N.new_zeros(())
    return torch.where(is_known_N, logp_N, zero) - torch.where(is_known_N, old_logp_N, zero)


def token_ratio(log_ratio_N: Tensor, row_N: Tensor) -> Tensor:
    """rho(t) = pi(s_t) / pi_old(s_t)."""
    return log_ratio_N.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()


def sequence_ratio(log_ratio_N: Tensor, row_N: Tensor) -> Tensor:
    """The geometric mean of a row's token ratios, at each of its tokens (GSPO, arXiv 2507.18071, Eq. 7)."""
    zero_N = torch.zeros_like(log_ratio_N)  # rows have a trained token each, so there are at most N of them
    totals_N = zero_N.index_add(0, row_N, log_ratio_N)
    counts_N = zero_N.index_add(0, row_N, torch.ones_like(log_ratio_N))
    return token_ratio((totals_N / counts_N.clamp(min=1))[row_N], row_N)


def clipped_surrogate(ratio_N: Tensor, adv_N: Tensor, clip: Clip) -> Tensor:
    """Loss per token: max(-A rho, -A clip(rho, 1 - low, 1 + high)), and where A < 0 at most -dual * A.

    Paper, Eq. 4 and 8, with the dual clip of the released code.
    """
    adv_N = adv_N.to(ratio_N.dtype)
    loss_N = torch.maximum(-adv_N * ratio_N, -adv_N * ratio_N.clamp(1 - clip.low, 1 + clip.high))
    return torch.where(adv_N < 0, torch.minimum(loss_N, -clip.dual * adv_N), loss_N)


def kl_to_reference(logp_N: Tensor, reference_logp_N: Tensor) -> Tensor:
    """rho - 1 - log rho with rho = pi_ref / pi: never negative, and on average over samples of pi KL(pi || pi_ref).

    The estimator k3 of http://joschu.net/blog/kl-approx.html, as in GRPO (arXiv 2402.03300, Eq. 4).
    """
    back_N = -log_ratio(logp_N, reference_logp_N).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return back_N.exp() - 1 - back_N


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """The parts of the surrogate. The learner calls these functions and knows no algorithm by name."""

    ratio: Ratio = token_ratio
    """Ratio that the clip looks at."""
    clip: Clip = field(default_factory=Clip)
    """Range of the ratio."""
    mean: Mean = field(default_factory=token_mean)
    """Mean of surrogates and of the KL. Log-likelihoods always have a token mean (paper, Eq. 3 and Eq. 4, last
    term)."""

    def mean_of(self, formula: "Formula") -> Mean:
        """The mean of a formula: its own, or this objective's."""
        return formula.mean or self.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenInputs:
    """Everything that a formula may read of the trained tokens of a micro-batch."""

    logp_N: Tensor
    """Nats under the model that is trained, with a gradient."""
    old_logp_N: Tensor
    """Nats under the policy that sampled; NaN where none did."""
    reference_logp_N: Tensor
    """Nats under the reference policy; NaN where there is none."""
    correction_N: Tensor
    """Constant factor of the surrogate."""
    adv_N: Tensor
    """Advantage under the term whose loss is computed; 0 where a row does not carry the term."""
    row_N: Tensor
    """int64, the row of each token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """A loss per token, and what the rows must bring for it."""

    loss: Callable[[TokenInputs, Objective], Tensor]
    """Loss of each token, shape N, before weights and means."""
    mean: Mean | None = None
    """Mean over the tokens of a step; None for the mean of the `Objective`."""
    needs_sampling: bool = False
    """True for a loss of advantage and ratio: it needs the log-probabilities of the policy that sampled, leaves no
    gradient at advantage 0, and the policy's drift is measured beside it."""
    needs_reference: bool = False
    """True for a loss that reads the log-probabilities of a reference policy."""


def surrogate_loss(given: TokenInputs, objective: Objective) -> Tensor:
    """The clipped surrogate under the objective's ratio, times the constant factor of each token."""
    ratio_N = objective.ratio(log_ratio(given.logp_N, given.old_logp_N), given.row_N)
    return given.correction_N * clipped_surrogate(ratio_N, given.adv_N, objective.clip)


def nll_loss(given: TokenInputs, objective: Objective) -> Tensor:
    """Negative log-likelihood."""
    return -given.logp_N


def kl_loss(given: TokenInputs, objective: Objective) -> Tensor:
    """KL to the reference policy."""
    return kl_to_reference(given.logp_N, given.reference_logp_N)


FORMULAS: Mapping[str, Formula] = {
    "surrogate": Formula(loss=surrogate_loss, needs_sampling=True),
    "nll": Formula(loss=nll_loss, mean=token_mean()),
    "kl": Formula(loss=kl_loss, needs_reference=True),
}
"""Losses that a term can name. A new one is a function and a line here; whoever makes rows gives them its terms."""


def token_sum(values_N: Tensor, mask_N: Tensor) -> Tensor:
    """Sum over the tokens where the mask holds; whatever stands elsewhere, NaN included, leaves value and gradient."""
    return torch.where(mask_N.bool(), values_N, values_N.new_zeros(())).sum()


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
