"""The cold start: passes over shuffled rows, one checkpoint an optimiser step, so that no finished step is lost."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from random import Random
from typing import Any, Literal

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import UsageError
from thor_tir.learner.adapters import AdapterConfig
from thor_tir.learner.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Component, TrainingSample
from thor_tir.learner.schedule import Schedule
from thor_tir.rollout.attempts import Progress
from thor_tir.storage.journal import Journal


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """Defaults are the paper's (section D.1): one epoch, 256 rows a step, AdamW at a constant 2e-6."""

    epochs: int = 1
    batch_rows: int = 256
    learning_rate: float = 2e-6
    warmup_steps: int = 0
    is_cosine: bool = False
    """Decay to a tenth of the rate over the run instead of keeping it."""
    max_tokens: int = 4096
    """Longer rows are left out: 4,096 for non-reasoning, 20,000 for reasoning models."""
    micro_batch_tokens: int = 4096
    trains_observations: bool = False
    """Reproduce the paper's Eq. 3 to the letter: tool outputs are predicted too."""
    autocast: Literal["bfloat16"] | None = None
    """Precision of the matrix products; weights, optimiser and loss stay in float32."""
    recompute: bool = False
    """Compute each layer again on the way back instead of keeping what it computed: less memory, more time."""
    adapters: AdapterConfig = field(default_factory=AdapterConfig)
    checkpoint_every: int = 1
    """Optimiser steps between checkpoints; a kill repeats those since the last one."""
    keep_checkpoints: int = 2
    """Newest ones that stay; one that is damaged can be given up for the one before."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch_rows, self.max_tokens, self.checkpoint_every) < 1:
            raise ValueError(f"epochs, batch_rows, max_tokens and checkpoint_every are at least 1, found {self}")

    def learner(self, num_steps: int) -> LearnerConfig:
        """The learner for a run of so many steps."""
        schedule = Schedule.fitted(num_steps=num_steps, warmup_steps=self.warmup_steps, is_cosine=self.is_cosine)
        return LearnerConfig(
            learning_rate=self.learning_rate,
            schedule=schedule,
            micro_batch_tokens=self.micro_batch_tokens,
            autocast=self.autocast,
            recompute=self.recompute,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SftData:
    """What is trained on and what is only measured."""

    train: Sequence[TrainingSample]
    validation: Sequence[TrainingSample] = field(default_factory=tuple)


def batches(rows: Sequence[TrainingSample], config: SftConfig) -> list[list[TrainingSample]]:
    """All optimiser steps of the run: every row once an epoch, in an order that the seed alone decides."""
    steps: list[list[TrainingSample]] = []
    for epoch in range(config.epochs):
        order = list(rows)
        Random(f"sft {config.seed} {epoch}").shuffle(order)
        steps += [order[i : i + config.batch_rows] for i in range(0, len(order), config.batch_rows)]
    return steps


def train(
    model: Any,
    tokenizer: Any,
    data: SftData,
    config: SftConfig,
    folder: Path,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> Learner:
    """Train `model` in place, or continue where `folder` was left; returns what holds the trained weights.

    Raises UsageError where there is nothing to train on and TrainingDiverged where the loss stops being finite.
    """
    if not data.train:
        raise UsageError("no rows to train on: every trajectory was filtered out or too long")
    num_steps = config.epochs * ceil(len(data.train) / config.batch_rows)
    learner = Learner(model, config.learner(num_steps), ranks, inspection=folder / "nonfinite")
    checkpoint = newest_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        load_checkpoint(checkpoint, learner, options=asdict(config))
    metrics = Journal(folder / "metrics.jsonl", is_ours=ranks.leads)
    steps = batches(data.train, config)
    if progress is not None:
        progress.advance(learner.num_steps)
    for number in range(learner.num_steps, len(steps)):
        measured = learner.step(steps[number])
        is_last = number + 1 == len(steps)
        row: dict[str, Any] = {
            "step": measured.step,
            "loss": measured.loss,
            "lr": measured.learning_rate,
            "grad_norm": measured.gradient_norm,
            "tokens_per_s": round(measured.tokens_per_second),
        }
        if data.validation and (is_last or (number + 1) % max(1, len(steps) // 8) == 0):
            row["validation_loss"] = learner.evaluate(data.validation)[Component.SFT]
        if str(measured.step) not in metrics:
            metrics.add(str(measured.step), row)
        if is_last or (number + 1) % config.checkpoint_every == 0:
            save_checkpoint(
                folder / "checkpoints",
                learner,
                tokenizer=tokenizer,
                extra={"of": len(steps)},
                options=asdict(config),
                keep=config.keep_checkpoints,
            )
        if progress is not None:
            progress.advance()
    metrics.close()
    return learner
