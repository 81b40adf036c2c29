"""One row of training: token ids, which of them are trained, and with which terms of the loss, whatever produced it.

The loss of one optimiser step is `sum_c (1 / N_c) sum_t w_c * l_c(t)` over the names c of terms, where N_c counts the
trained tokens of all rows that carry c in that whole step, whatever the padding, packing and accumulation. Another mean
is a matter of the learner's `Objective`; what differs from token to token is carried by the row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thor_tir.learner.objective import Formula


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A row's share in one summand of the loss."""

    name: str
    """Name of the summand; all rows that carry it share one mean."""
    formula: str
    """Name of the loss per token, in `objective.FORMULAS`; the same in all terms of one name."""
    weight: float = 1.0
    """w_c; a row may carry a term of weight 0, which counts in N_c and leaves no gradient."""
    advantage: float = 0.0
    """Advantage of every trained token, for formulas that read it."""
    token_advantages: tuple[float, ...] = ()
    """Advantage of each token of the row, in place of `advantage` if given."""

    @property
    def loss(self) -> "Formula":
        """The formula itself. Raises ValueError for a name that is not known."""
        from thor_tir.learner.objective import FORMULAS

        if self.formula not in FORMULAS:
            raise ValueError(
                f"term {self.name!r} has the unknown formula {self.formula!r}; known: {', '.join(FORMULAS)} "
                "(learner/objective.py)"
            )
        return FORMULAS[self.formula]

    @property
    def leaves_gradient(self) -> bool:
        """True where the term can move the model: it has weight and, if its formula reads one, an advantage."""
        has_credit = self.advantage != 0 or any(self.token_advantages) or not self.loss.needs_sampling
        return self.weight != 0 and has_credit


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSample:
    """One token sequence to be trained."""

    id: str
    """Unique within a step."""
    token_ids: tuple[int, ...]
    """Ids exactly as they were read and sampled."""
    trained: tuple[bool, ...]
    """True where the loss is taken; the first token is never trained, nothing predicts it."""
    old_logprobs: tuple[float, ...]
    """Nats under the policy that sampled; NaN where none did, so that misuse is loud."""
    terms: tuple[Term, ...]
    """Terms of the loss that the row takes part in, each name once."""
    group: str = ""
    """Name that rows with one baseline share."""
    parent: str = ""
    """Trajectory whose failed call a step row repairs; empty for other rows."""
    correction: tuple[float, ...] = ()
    """Constant factor of each token's surrogate loss, 1 everywhere if empty."""
    reference_logprobs: tuple[float, ...] = ()
    """Nats under the reference policy, for formulas that need one; empty without any."""
    versions: tuple[int, ...] = ()
    """Version of the weights that sampled each token, for whoever counts or drops old rows; empty without any."""

    def __post_init__(self) -> None:
        given = (
            self.correction,
            self.reference_logprobs,
            self.versions,
            *(term.token_advantages for term in self.terms),
        )
        optional = [len(values) for values in given if values]
        lengths: Sequence[int] = (len(self.token_ids), len(self.trained), len(self.old_logprobs), *optional)
        if len(set(lengths)) != 1:
            raise ValueError(f"row {self.id}: ids, mask, log-probabilities and the like have lengths {lengths}")
        if not self.token_ids or self.trained[0]:
            raise ValueError(f"row {self.id}: the first token cannot be trained, nothing predicts it")
        if len({term.name for term in self.terms}) != len(self.terms):
            raise ValueError(f"row {self.id} has two terms of one name; each name may appear once in a row")
        losses = [term.loss for term in self.terms]
        if any(loss.needs_sampling for loss in losses):
            self._refuse_unknown(self.old_logprobs, "sampling")
        if any(loss.needs_reference for loss in losses):
            self._refuse_unknown(self.reference_logprobs or (float("nan"),) * len(self.trained), "reference")

    @property
    def num_trained(self) -> int:
        """Number of tokens that the loss is taken over."""
        return sum(self.trained)

    @property
    def leaves_gradient(self) -> bool:
        """True where any term can move the model."""
        return self.num_trained > 0 and any(term.leaves_gradient for term in self.terms)

    def _refuse_unknown(self, logprobs: Sequence[float], whose: str) -> None:
        unknown = sum(m and lp != lp for m, lp in zip(self.trained, logprobs, strict=True))
        if unknown:
            raise ValueError(f"row {self.id}: {unknown} trained tokens have no {whose} log-probability")
