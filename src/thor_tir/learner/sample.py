"""The row contract: what the learner trains, whatever produced it. The learner knows neither episodes nor steps.

The loss of one optimiser step is `sum_c (1 / N_c) sum_t w_c * l_c(t)` over components c, where N_c counts the trained
tokens of all rows that carry c in that whole step, whatever the padding, packing and accumulation. Another mean is a
matter of the learner's `Objective`; what differs from token to token is carried by the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class LossKind(StrEnum):
    """Which formula a component's loss is."""

    SURROGATE = "surrogate"
    """Needs an advantage and the log-probabilities of the policy that sampled the row."""
    NLL = "nll"
    """Negative log-likelihood."""
    KL = "kl"
    """Distance to a reference policy, whose log-probabilities the row must carry."""


class Component(StrEnum):
    """One summand of the loss, with a mean of its own."""

    EPISODE = "episode"
    """Clipped surrogate over whole trajectories (paper, Eq. 4)."""
    EPISODE_NLL = "episode_nll"
    """Negative log-likelihood of trajectories with positive advantage (paper, Eq. 4, last term)."""
    STEP = "step"
    """Clipped surrogate over regenerated suffix and action (paper, Eq. 8)."""
    STEP_NLL = "step_nll"
    """Negative log-likelihood of repairs with positive advantage (paper, Eq. 8, last term)."""
    EPISODE_KL = "episode_kl"
    """KL to a reference policy over whole trajectories; not in the paper."""
    STEP_KL = "step_kl"
    """KL to a reference policy over regenerated suffix and action; not in the paper."""
    SFT = "sft"
    """Cross-entropy of the cold start (paper, Eq. 3)."""

    @property
    def kind(self) -> LossKind:
        """The formula of its loss."""
        if self in (Component.EPISODE, Component.STEP):
            return LossKind.SURROGATE
        return LossKind.KL if self in (Component.EPISODE_KL, Component.STEP_KL) else LossKind.NLL


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A row's share in one component."""

    component: Component
    weight: float = 1.0
    """Coefficient w_c; a row may carry a term of weight 0, which counts in N_c and leaves no gradient."""
    advantage: float = 0.0
    """Read by surrogates only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One token sequence to be trained."""

    id: str
    token_ids: tuple[int, ...]
    """Exactly what was read and sampled."""
    trained: tuple[bool, ...]
    """True where the loss is taken; the first token is never trained, nothing predicts it."""
    old_logprobs: tuple[float, ...]
    """Nats under the policy that sampled; NaN where none did, so that misuse is loud."""
    terms: tuple[Term, ...]
    group: str = ""
    """Rows with one baseline share it."""
    parent: str = ""
    """For a step row, the trajectory whose failed call it repairs."""
    correction: tuple[float, ...] = ()
    """Constant factor of each token's surrogate loss, 1 everywhere if empty."""
    reference_logprobs: tuple[float, ...] = ()
    """Nats under the reference policy, for KL terms; empty without any."""

    def __post_init__(self) -> None:
        optional = [len(values) for values in (self.correction, self.reference_logprobs) if values]
        lengths: Sequence[int] = (len(self.token_ids), len(self.trained), len(self.old_logprobs), *optional)
        if len(set(lengths)) != 1:
            raise ValueError(f"row {self.id}: ids, mask, log-probabilities and the like have lengths {lengths}")
        if not self.token_ids or self.trained[0]:
            raise ValueError(f"row {self.id}: the first token cannot be trained, nothing predicts it")
        kinds = {term.component.kind for term in self.terms}
        if LossKind.SURROGATE in kinds:
            self._refuse_unknown(self.old_logprobs, "sampling")
        if LossKind.KL in kinds:
            self._refuse_unknown(self.reference_logprobs or (float("nan"),) * len(self.trained), "reference")

    @property
    def num_trained(self) -> int:
        """Tokens the loss is taken over."""
        return sum(self.trained)

    def _refuse_unknown(self, logprobs: Sequence[float], whose: str) -> None:
        unknown = sum(m and lp != lp for m, lp in zip(self.trained, logprobs, strict=True))
        if unknown:
            raise ValueError(f"row {self.id}: {unknown} trained tokens have no {whose} log-probability")
