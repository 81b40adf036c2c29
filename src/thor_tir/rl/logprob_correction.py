"""Rows get log-probabilities of a forward pass before they are trained: the trainer's own, and a reference's.

The engine that samples and the trainer compute the same numbers in another order, so that their log-probabilities
differ. Truncated importance sampling corrects the expectation for it: the clipped ratio is taken against the trainer's
own log-probabilities, and each token weighs as much more often as the trainer would have sampled it.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import exp, isnan
from pathlib import Path
from typing import cast

from torch.nn import Module

from thor_tir.distributed import ALONE, Ranks
from thor_tir.learner.forward import row_logprobs
from thor_tir.learner.sample import TrainingSample
from thor_tir.learner.trainable import shard
from thor_tir.pretrained import CausalLM
from thor_tir.rl.config import LossConfig
from thor_tir.rl.samples import kl_terms
from thor_tir.storage.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Scores the rows of a round before its first update, as far as the loss asks for it."""

    config: LossConfig
    """Options of the loss."""
    model: CausalLM
    """Model whose log-probabilities are taken."""
    reference: CausalLM | None
    """A frozen copy of the model that training started from, shared among the processes; None where the loss has no
    KL."""
    journal: Journal | None
    """Journal of the trainer's log-probabilities: after a kill between two updates the weights that gave them are
    gone. None where the loss corrects nothing."""
    micro_batch_tokens: int
    """Tokens per forward pass, padding included."""
    ranks: Ranks = ALONE
    """Processes that share the rows, and the reference."""

    @classmethod
    def begin(
        cls,
        model: CausalLM,
        config: LossConfig,
        path: Path,
        *,
        hold: bool,
        micro_batch_tokens: int,
        reference: CausalLM | None = None,
        ranks: Ranks = ALONE,
    ) -> "Scorer":
        """`reference` is that of `frozen_reference`; the first process writes the journal at `path`."""
        return cls(
            config=config,
            model=model,
            reference=reference,
            journal=Journal(path, hold=hold, is_ours=ranks.leads) if config.importance_sampling_cap else None,
            micro_batch_tokens=micro_batch_tokens,
            ranks=ranks,
        )

    def score(self, rows: Sequence[TrainingSample]) -> list[TrainingSample]:
        """The rows with everything that their loss reads; the same rows where it reads nothing more."""
        scored = list(rows)
        if self.journal is not None:
            trainer = self._trainer_logprobs(scored, self.journal)
            scored = corrected(scored, trainer, cap=self.config.importance_sampling_cap)
        if self.reference is not None:
            reference = self._logprobs(self.reference, scored)
            scored = with_kl(scored, reference, weight=self.config.beta)
        return scored

    def _trainer_logprobs(self, rows: Sequence[TrainingSample], journal: Journal) -> Mapping[str, Sequence[float]]:
        known: dict[str, Sequence[float]] = self.ranks.lead(
            lambda: {row.id: journal[row.id]["logprobs"] for row in rows if row.id in journal}
        )
        found = self._logprobs(self.model, [row for row in rows if row.id not in known])
        for id, logprobs in found.items():
            journal.add(id, {"logprobs": logprobs})
        journal.commit()
        return {**known, **found}

    def _logprobs(self, model: CausalLM, rows: Sequence[TrainingSample]) -> Mapping[str, tuple[float, ...]]:
        return row_logprobs(model, rows, micro_batch_tokens=self.micro_batch_tokens, ranks=self.ranks)


def frozen_reference(model: CausalLM, config: LossConfig, ranks: Ranks = ALONE) -> CausalLM | None:
    """A frozen copy of `model`, of which each process holds a part; None where the loss has no KL.

    Taken before the learner: it spreads the model itself over the processes, and a copy is made of a whole one.
    """
    if not config.beta:
        return None
    reference: CausalLM = deepcopy(model).requires_grad_(False)
    shard(cast(Module, reference), ranks, dtype=None)
    return reference


def truncated_weights(trainer: Sequence[float], engine: Sequence[float], *, cap: float) -> tuple[float, ...]:
    """min(pi_trainer / pi_engine, cap) per token, 1 where no policy sampled (truncated importance sampling)."""
    pairs = zip(trainer, engine, strict=True)
    return tuple(1.0 if isnan(t) or isnan(e) else min(exp(min(t - e, 20.0)), cap) for t, e in pairs)


def corrected(
    rows: Sequence[TrainingSample], trainer: Mapping[str, Sequence[float]], *, cap: float
) -> list[TrainingSample]:
    """The rows against the trainer's log-probabilities at the time of sampling, each token with its weight."""
    return [
        replace(
            row,
            old_logprobs=tuple(trainer[row.id]),
            correction=truncated_weights(trainer[row.id], row.old_logprobs, cap=cap),
        )
        for row in rows
    ]


def with_kl(
    rows: Sequence[TrainingSample], reference: Mapping[str, Sequence[float]], *, weight: float
) -> list[TrainingSample]:
    """The rows with a KL to the reference beside each surrogate, over the same tokens and the same mean."""
    return [
        replace(row, terms=row.terms + kl_terms(row, weight=weight), reference_logprobs=tuple(reference[row.id]))
        for row in rows
    ]
