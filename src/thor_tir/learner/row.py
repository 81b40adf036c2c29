"""The row contract: what the learner trains, whatever produced it. The learner knows neither episodes nor steps.

The loss of one optimiser step is `sum_c (1 / N_c) sum_t w_c * l_c(t)` over components c, where N_c counts the trained
tokens of all rows that carry c in that whole step, whatever the padding, packing and accumulation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


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
    SFT = "sft"
    """Cross-entropy of the cold start (paper, Eq. 3)."""

    @property
    def is_surrogate(self) -> bool:
        """Whether it needs an advantage and the log-probabilities of the policy that sampled the row."""
        return self in (Component.EPISODE, Component.STEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A row's share in one component."""

    component: Component
    weight: float = 1.0
    """Coefficient w_c; a row may carry a term of weight 0, which counts in N_c and leaves no gradient."""
    advantage: float = 0.0
    """Read by surrogates only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
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

    def __post_init__(self) -> None:
        lengths: Sequence[int] = (len(self.token_ids), len(self.trained), len(self.old_logprobs))
        if len(set(lengths)) != 1:
            raise ValueError(f"row {self.id}: ids, mask and log-probabilities have lengths {lengths}")
        if not self.token_ids or self.trained[0]:
            raise ValueError(f"row {self.id}: the first token cannot be trained, nothing predicts it")
        if any(t.component.is_surrogate for t in self.terms):
            unknown = sum(m and lp != lp for m, lp in zip(self.trained, self.old_logprobs, strict=True))
            if unknown:
                raise ValueError(f"row {self.id}: {unknown} trained tokens have no sampling log-probability")

    @property
    def num_trained(self) -> int:
        """Tokens the loss is taken over."""
        return sum(self.trained)
