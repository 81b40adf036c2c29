"""The trainer of token rows: one call, one optimiser step over all the rows it is given.

The objective is `sum_c (1 / N_c) sum_t w_c * l_c(t)` (paper, Eq. 3, 4, 8 and 10). Every N_c counts tokens of the whole
step, so the result does not depend on padding, order or accumulation. The learner knows no episodes, steps, rewards,
groups or algorithms: rows carry what differs from row to row, an `Objective` the formulas. It runs in one process.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from math import isfinite
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thor_tir.faults import MachineFault, UsageError
from thor_tir.learner.batch import MicroBatch, Share, collate, leaves_gradient, masses, plan, row_counts, token_counts
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.metrics import ComponentMetrics, StepMetrics, Sums, fetch, measure
from thor_tir.learner.objective import (
    Mean,
    Objective,
    clipped_surrogate,
    kl_to_reference,
    log_ratio,
    token_mean,
    token_sum,
)
from thor_tir.learner.row import Component, Kind, Row
from thor_tir.learner.schedule import Schedule

MAX_FAILURES = 3
"""Steps in a row whose loss or gradient may be non-finite: more than a coincidence is a diverged model."""


class TrainingDiverged(MachineFault):
    """Loss or gradient stayed non-finite; the weights are those of the last good step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """How rows are turned into updates. Defaults are those of the paper's RL and of its released code."""

    learning_rate: float = 1e-6
    schedule: Schedule = field(default_factory=Schedule)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    max_gradient_norm: float = 1.0
    objective: Objective = field(default_factory=Objective)
    micro_batch_tokens: int = 2048
    """Padded tokens of one forward pass: it bounds memory and leaves the result alone. The default suits one core; an
    accelerator wants as many as its memory holds."""
    autocast: Literal["bfloat16"] | None = None
    """Precision of the matrix products; parameters, optimiser and loss stay in float32."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.micro_batch_tokens < 1 or self.max_gradient_norm <= 0:
            raise ValueError(f"learning_rate, micro_batch_tokens and max_gradient_norm must be positive, found {self}")


class Learner:
    """A model, its optimiser and the count of steps taken."""

    def __init__(self, model: PreTrainedModel, config: LearnerConfig) -> None:
        """Trains the parameters of `model` that require a gradient, in place.

        Raises UsageError where they are in half precision: an update of 1e-6 would be rounded away.
        """
        self.model = model
        self.config = config
        self.num_steps = 0
        self.num_skipped = 0
        """Updates that were skipped because loss or gradient was not finite."""
        self._failures_in_a_row = 0
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        _refuse_half_precision(self._parameters)
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=all(p.device.type in ("cpu", "cuda") for p in self._parameters),
        )

    def step(self, rows: Sequence[Row]) -> StepMetrics:
        """One optimiser step over all rows. Without any row that leaves a gradient the weights stay as they are.

        A non-finite loss or gradient skips the update; the third in a row raises TrainingDiverged.
        """
        start = perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        gathered = self.accumulate(rows)
        learning_rate = self.config.learning_rate * self.config.schedule.factor(self.num_steps)
        gradient_norm, is_updated = self._update(gathered, learning_rate)
        self.num_steps += 1
        return StepMetrics(
            step=self.num_steps,
            is_updated=is_updated,
            loss=gathered.loss,
            gradient_norm=gradient_norm,
            learning_rate=learning_rate,
            num_rows=len(rows),
            num_tokens=gathered.num_tokens,
            padding_share=1 - gathered.num_tokens / max(1, gathered.num_padded),
            seconds=perf_counter() - start,
            components=gathered.components,
        )

    def accumulate(self, rows: Sequence[Row]) -> "Gathered":
        """Add the gradient of the whole objective over `rows` to the parameters' gradients."""
        denominators = masses(rows, self._mean)
        tally = _Tally()
        with _mode(self.model, is_training=True):
            for batch in self._batches([row for row in rows if leaves_gradient(row)]):
                with self._autocast():
                    logp_N = trained_logprobs(self.model, batch)
                self._objective(logp_N, batch, denominators, tally).backward()  # type: ignore[no-untyped-call]
                tally.num_tokens += batch.num_tokens
                tally.num_padded += batch.input_ids_BT.numel()
        return tally.freeze(token_counts(rows), row_counts(rows))

    @torch.no_grad()
    def evaluate(self, rows: Sequence[Row]) -> dict[Component, float]:
        """Mean negative log-likelihood in nats per trained token of the rows that carry each component, unweighted."""
        sums: dict[Component, float] = defaultdict(float)
        with _mode(self.model, is_training=False):
            for batch in self._batches([row for row in rows if row.num_trained]):
                with self._autocast():
                    logp_N = trained_logprobs(self.model, batch)
                for component, share in batch.shares.items():
                    sums[component] += token_sum(-logp_N, share.is_carried_B[batch.row_N]).item()
        return {component: sums[component] / max(1, count) for component, count in token_counts(rows).items()}

    def state_dict(self) -> dict[str, Any]:
        """What continuing needs besides the weights: optimiser and counters."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "num_steps": self.num_steps,
            "num_skipped": self.num_skipped,
            "failures_in_a_row": self._failures_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.num_steps = state["num_steps"]
        self.num_skipped = state["num_skipped"]
        self._failures_in_a_row = state["failures_in_a_row"]

    def _batches(self, rows: Sequence[Row]) -> Iterator[MicroBatch]:
        dtype = torch.float64 if self._parameters[0].dtype == torch.float64 else torch.float32
        for group in plan(rows, micro_batch_tokens=self.config.micro_batch_tokens):
            yield collate(group, dtype=dtype).to(self.model.device)

    def _mean(self, component: Component) -> Mean:
        return token_mean() if component.kind is Kind.NLL else self.config.objective.mean

    def _objective(
        self, logp_N: Tensor, batch: MicroBatch, denominators: Mapping[Component, float], tally: "_Tally"
    ) -> Tensor:
        """A micro-batch's part of the objective, measured into `tally` on the way."""
        losses = []
        for component, share in batch.shares.items():
            loss_N = self._losses(component.kind, logp_N, batch, share)
            weight_B = share.weight_B * self._mean(component).weight(batch.num_trained_B)
            mask_N = share.is_carried_B[batch.row_N]
            losses.append(token_sum(weight_B[batch.row_N] * loss_N, mask_N) / denominators[component])
            tally.add(component, measure(losses[-1], logp_N, batch, share, self.config.objective))
        return torch.stack(losses).sum()

    def _losses(self, kind: Kind, logp_N: Tensor, batch: MicroBatch, share: Share) -> Tensor:
        """l_c(t), before weights and means."""
        if kind is Kind.NLL:
            return -logp_N
        if kind is Kind.KL:
            return kl_to_reference(logp_N, batch.reference_logp_N)
        objective = self.config.objective
        ratio_N = objective.ratio(log_ratio(logp_N, batch.old_logp_N), batch.row_N)
        return batch.correction_N * clipped_surrogate(ratio_N, share.adv_B[batch.row_N], objective.clip)

    def _update(self, gathered: "Gathered", learning_rate: float) -> tuple[float, bool]:
        """Gradient norm before clipping, and whether the weights moved."""
        if not gathered.num_tokens:
            return 0.0, False
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_gradient_norm).item()
        if not (isfinite(norm) and isfinite(gathered.loss)):
            self._skip(norm, gathered.loss)
            return norm, False
        self._failures_in_a_row = 0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return norm, True

    def _skip(self, norm: float, loss: float) -> None:
        self.num_skipped += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= MAX_FAILURES:
            raise TrainingDiverged(
                f"loss {loss} and gradient norm {norm} at step {self.num_steps}, after {MAX_FAILURES - 1} more such "
                "steps; the weights are those of the last good step: lower the learning rate or look at the rows"
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        is_on = self.config.autocast is not None
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=is_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What one pass over all rows measured."""

    components: dict[Component, ComponentMetrics]
    num_tokens: int
    """Read by the model, padding not counted."""
    num_padded: int
    """Read by the model, padding counted."""

    @property
    def loss(self) -> float:
        """The objective."""
        return sum(metrics.loss for metrics in self.components.values())


class _Tally:
    """Grows over micro-batches, on the device, and freezes into a record."""

    def __init__(self) -> None:
        self.sums: dict[Component, Sums] = {}
        self.num_tokens = 0
        self.num_padded = 0

    def add(self, component: Component, sums: Sums) -> None:
        self.sums[component] = self.sums[component] + sums if component in self.sums else sums

    def freeze(self, num_tokens: Counter[Component], num_rows: Counter[Component]) -> Gathered:
        components = {
            component: fetch(self.sums.get(component), component, num_tokens[component], num_rows[component])
            for component in Component
            if num_rows[component]
        }
        return Gathered(components=components, num_tokens=self.num_tokens, num_padded=self.num_padded)


@contextmanager
def _mode(model: PreTrainedModel, *, is_training: bool) -> Iterator[None]:
    """Training or evaluation for a while; the model is left as it was found."""
    before = model.training
    model.train(is_training)
    try:
        yield
    finally:
        model.train(before)


def _refuse_half_precision(parameters: Sequence[Tensor]) -> None:
    if not parameters:
        raise UsageError("the model has no parameter that requires a gradient; unfreeze some before training it")
    halves = {str(p.dtype) for p in parameters if p.dtype in (torch.float16, torch.bfloat16)}
    if halves:
        raise UsageError(
            f"the model's trained parameters are {', '.join(sorted(halves))}, which rounds small updates away; "
            "load it with dtype=torch.float32 and set autocast='bfloat16' for speed"
        )
