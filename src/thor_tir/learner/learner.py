"""The trainer of token rows: one call, one optimiser step over all the rows it is given.

The objective is `sum_c (1 / N_c) sum_t w_c * l_c(t)` over named terms c (paper, Eq. 3, 4, 8 and 10). Every N_c counts
tokens of the whole step, so the result does not depend on padding, order, accumulation or the number of processes. The
learner knows formulas, and no episodes, steps, rewards, groups or algorithms: rows carry terms, and their names are
data.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from math import isfinite
from operator import add
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import MachineFault, UsageError
from thor_tir.learner.batch import MicroBatch, Share, TermTotals, collate, own_plan, totals
from thor_tir.learner.config import Schedule
from thor_tir.learner.forward import quick_training, trained_logprobs
from thor_tir.learner.metrics import StepMetrics, Sums, TermMetrics, fetch, term_sums
from thor_tir.learner.objective import Objective, TokenInputs, token_sum
from thor_tir.learner.prefixes import can_share
from thor_tir.learner.sample import TrainingSample
from thor_tir.learner.trainable import is_in_parts, local, shard, sum_gradients, whole
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import write_atomically

MAX_FAILURES = 3
"""Steps in a row whose loss or gradient may be non-finite: more than a coincidence is a diverged model."""


class TrainingDiverged(MachineFault):
    """Loss or gradient stayed non-finite; the weights are those of the last good step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Options of the trainer. Defaults are those of the paper's RL and of its released code."""

    learning_rate: float = 1e-6
    """Learning rate of AdamW at factor 1 of the schedule."""
    schedule: Schedule = field(default_factory=Schedule)
    """Factor of the learning rate by optimiser step."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's first and second moments."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped."""
    objective: Objective = field(default_factory=Objective)
    """Ratio, clip and mean of the surrogate."""
    micro_batch_tokens: int = 2048
    """Padded tokens of one forward pass: it bounds memory and leaves the result alone. The default suits one core; an
    accelerator wants as many as its memory holds."""
    shares_prefixes: bool = True
    """Read what the rows of one group begin with only once, where the model allows it and it pays."""
    bf16: bool = False
    """True computes matrix products in bfloat16; parameters, optimiser and loss stay in float32."""
    gradient_checkpointing: bool = False
    """True computes each layer again in the backward pass: less memory, about a third more time."""
    seed: int = 0
    """Seed of torch's random numbers in this process, which a model with dropout reads."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.micro_batch_tokens < 1 or self.max_grad_norm <= 0:
            raise ValueError(f"learning_rate, micro_batch_tokens and max_grad_norm must be positive, found {self}")


class Learner:
    """A model, its optimiser and the count of steps taken."""

    def __init__(
        self, model: PreTrainedModel, config: LearnerConfig, ranks: Ranks = ALONE, *, inspection: Path | None = None
    ) -> None:
        """Trains the parameters of `model` that require a gradient, in place; several processes share it among them.

        Updates that are skipped leave a file in the folder `inspection`, if given. Raises UsageError where trained
        parameters are in half precision: an update of 1e-6 would be rounded away.
        """
        self.model = model
        self.config = config
        self.ranks = ranks
        self.num_steps = 0
        self.num_skipped = 0
        """Updates that were skipped because loss or gradient was not finite."""
        self.failures_in_a_row = 0
        self._inspection = inspection
        torch.manual_seed(seed_of("learner", config.seed, ranks.rank))  # without one it begins anywhere
        _refuse_half_precision([p for p in model.parameters() if p.requires_grad])
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        shard(model, ranks, dtype=torch.bfloat16 if config.bf16 else None)
        self.weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        """Trained parameters, by name; of a shared model this process's parts."""
        self._parameters = list(self.weights.values())
        self.optimizer = torch.optim.AdamW(
            self._parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=all(p.device.type in ("cpu", "cuda") for p in self._parameters),
        )

    def step(self, rows: Sequence[TrainingSample]) -> StepMetrics:
        """One optimiser step over all rows. Without any row that leaves a gradient the weights stay as they are.

        A non-finite loss or gradient skips the update; the third in a row raises TrainingDiverged.
        """
        start = perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        gathered = self.accumulate(rows)
        learning_rate = self.config.learning_rate * self.config.schedule.factor(self.num_steps)
        gradient_norm, is_updated = self._update(gathered, rows, learning_rate)
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
            terms=gathered.terms,
        )

    def accumulate(self, rows: Sequence[TrainingSample]) -> "Accumulated":
        """Add the gradient of the whole objective over `rows` to the parameters' gradients."""
        found = totals(rows, self.config.objective)
        tally = _Tally()
        with _mode(self.model, is_training=True):
            for batch in self._batches([row for row in rows if row.leaves_gradient]):
                with self._autocast():
                    logp_N = trained_logprobs(self.model, batch)
                self._objective(logp_N, batch, found, tally).backward()  # type: ignore[no-untyped-call]
        if not (self.ranks.is_alone or is_in_parts(self.model)):
            sum_gradients(self._parameters, self.ranks)
        tallies = self.ranks.gather(tally if self.ranks.is_alone else tally.cpu())
        return reduce(add, tallies).freeze(found)

    @torch.no_grad()
    def evaluate(self, rows: Sequence[TrainingSample]) -> dict[str, float]:
        """Mean negative log-likelihood in nats per trained token of the rows that carry each term, unweighted."""
        sums: dict[str, float] = defaultdict(float)
        with _mode(self.model, is_training=False):
            for batch in self._batches([row for row in rows if row.num_trained]):
                with self._autocast():
                    logp_N = trained_logprobs(self.model, batch)
                for name, share in batch.shares.items():
                    sums[name] += token_sum(-logp_N, share.is_carried_B[batch.row_N]).item()
        if is_in_parts(self.model):
            self.model.reshard()  # without a backward call the last layers stay whole, and what is loaded is not seen
        everywhere = self.ranks.gather(sums)
        counts = {name: total.num_tokens for name, total in totals(rows, self.config.objective).items()}
        return {name: sum(sums[name] for sums in everywhere) / max(1, count) for name, count in counts.items()}

    def whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Trained parameters by name, one whole tensor after another; processes that share a model must all ask."""
        for name, parameter in self.weights.items():
            yield name, whole(parameter.detach())

    def moments(self) -> dict[str, dict[str, Tensor]]:
        """The optimiser's own state by the names of `weights`, begun where no gradient has come yet."""
        for parameter in self._parameters:
            state = self.optimizer.state[parameter]
            if not state:  # as AdamW begins it
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
                state["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        return {name: self.optimizer.state[parameter] for name, parameter in self.weights.items()}

    def _batches(self, rows: Sequence[TrainingSample]) -> Iterator[MicroBatch]:
        """This process's micro-batches; of a model in parts also idle ones, until it has as many as every other."""
        dtype = torch.float64 if self._parameters[0].dtype == torch.float64 else torch.float32
        budget = self.config.micro_batch_tokens
        shares = self.config.shares_prefixes and can_share(self.model)
        in_step = is_in_parts(self.model)
        for group in own_plan(rows, self.ranks, micro_batch_tokens=budget, shares_prefixes=shares, in_step=in_step):
            yield collate(group, dtype=dtype, shares_prefixes=shares).to(self.model.device)

    def _objective(self, logp_N: Tensor, batch: MicroBatch, found: Mapping[str, TermTotals], tally: "_Tally") -> Tensor:
        """A micro-batch's part of the objective, measured into `tally` on the way."""
        if not batch.shares:
            return 0.0 * logp_N.sum()
        tally.num_tokens += batch.num_tokens
        tally.num_padded += batch.num_padded
        objective, losses = self.config.objective, []
        for name, share in batch.shares.items():
            formula, given = found[name].formula, _inputs(logp_N, batch, share)
            weight_B = share.weight_B * objective.mean_of(formula).weight(batch.num_trained_B)
            mask_N = share.is_carried_B[batch.row_N]
            loss_N = formula.loss(given, objective)
            losses.append(token_sum(weight_B[batch.row_N] * loss_N, mask_N) / found[name].mass)
            tally.add(name, term_sums(losses[-1], given, mask_N, objective))
        return torch.stack(losses).sum()

    def _update(
        self, gathered: "Accumulated", rows: Sequence[TrainingSample], learning_rate: float
    ) -> tuple[float, bool]:
        """The gradient norm before clipping, and True where the weights moved."""
        if not gathered.num_tokens:
            return 0.0, False
        norm = whole(torch.nn.utils.clip_grad_norm_(self._parameters, self.config.max_grad_norm)).item()
        if not (isfinite(norm) and isfinite(gathered.loss)):
            self._skip(norm, gathered, rows)
            return norm, False
        self.failures_in_a_row = 0
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        return norm, True

    def _skip(self, norm: float, gathered: "Accumulated", rows: Sequence[TrainingSample]) -> None:
        self.num_skipped += 1
        self.failures_in_a_row += 1
        where = ""
        if self._inspection is not None:
            losses = {name: metrics.loss for name, metrics in gathered.terms.items()}
            hits = self.ranks.gather(
                non_finite((n, local(p.grad)) for n, p in self.weights.items() if p.grad is not None)
            )
            path = self._inspection / f"step-{self.num_steps + 1}.json"
            if self.ranks.leads:
                _dump(path, rows, losses=losses, gradient_norm=norm, parameters=sorted(set().union(*hits)))
            where = f" in {path}"
        if self.failures_in_a_row >= MAX_FAILURES:
            raise TrainingDiverged(
                f"loss {gathered.loss} and gradient norm {norm} at step {self.num_steps + 1}, after "
                f"{MAX_FAILURES - 1} more such steps; the weights are those of the last good step: "
                f"lower the learning rate or look at the rows{where}"
            )

    def _autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision of a whole model: one in parts casts its weights before it sends them round."""
        is_on = self.config.bf16 and not is_in_parts(self.model)
        return torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=is_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accumulated:
    """Figures of one pass over all rows."""

    terms: dict[str, TermMetrics]
    """Figures of each term, by name."""
    num_tokens: int
    """Tokens read by the model, padding not counted."""
    num_padded: int
    """Tokens read by the model, padding counted."""

    @property
    def loss(self) -> float:
        """The objective."""
        return sum(metrics.loss for metrics in self.terms.values())


@dataclass(slots=True, kw_only=True)
class _Tally:
    """Grows over micro-batches, on the device, and freezes into a record; `+` joins those of several processes."""

    sums: dict[str, Sums] = field(default_factory=dict)
    """Sums of each term, by name."""
    num_tokens: int = 0
    """Tokens read, padding not counted."""
    num_padded: int = 0
    """Tokens read, padding counted."""

    def add(self, name: str, sums: Sums) -> None:
        self.sums[name] = self.sums[name] + sums if name in self.sums else sums

    def cpu(self) -> "_Tally":
        """The same on the CPU, to be sent to another process."""
        return replace(self, sums={name: sums.cpu() for name, sums in self.sums.items()})

    def __add__(self, other: "_Tally") -> "_Tally":
        joined = _Tally(
            sums=dict(self.sums),
            num_tokens=self.num_tokens + other.num_tokens,
            num_padded=self.num_padded + other.num_padded,
        )
        for name, sums in other.sums.items():
            joined.add(name, sums)
        return joined

    def freeze(self, found: Mapping[str, TermTotals]) -> Accumulated:
        terms = {name: fetch(self.sums.get(name), total) for name, total in found.items()}
        return Accumulated(terms=terms, num_tokens=self.num_tokens, num_padded=self.num_padded)


def _inputs(logp_N: Tensor, batch: MicroBatch, share: Share) -> TokenInputs:
    return TokenInputs(
        logp_N=logp_N,
        old_logp_N=batch.old_logp_N,
        reference_logp_N=batch.reference_logp_N,
        correction_N=batch.correction_N,
        adv_N=share.adv_N,
        row_N=batch.row_N,
    )


@contextmanager
def _mode(model: PreTrainedModel, *, is_training: bool) -> Iterator[None]:
    """Training or evaluation for a while; the model is left as it was found."""
    before = model.training
    model.train(is_training)
    try:
        with quick_training(model):
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
            "load it with dtype=torch.float32 and set bf16 for speed"
        )


def _dump(
    path: Path,
    rows: Sequence[TrainingSample],
    *,
    losses: Mapping[str, float],
    gradient_norm: float,
    parameters: Sequence[str],
) -> None:
    """Write the loss of each component, the gradient's norm, the parameters that were hit, and every row whole."""
    content = {
        "losses": losses,
        "gradient_norm": gradient_norm,
        "parameters": parameters,
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(path, json.dumps(_json_value(content), indent=1) + "\n")


def non_finite(gradients: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the parameters whose gradient holds something that is no finite number."""
    return [name for name, gradient in gradients if not bool(gradient.isfinite().all())]


def _json_value(value: Any) -> Any:
    """A value as JSON holds it, which knows no NaN: such numbers become text."""
    match value:
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {str(key): _json_value(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_json_value(entry) for entry in value]
    return value
