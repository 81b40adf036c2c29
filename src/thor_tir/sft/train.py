"""The cold start: passes over shuffled rows, one checkpoint an optimiser step, so that no finished step is lost."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from random import Random

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import UsageError
from thor_tir.learner.checkpoint import CheckpointWriter, newest_checkpoint
from thor_tir.learner.config import Schedule
from thor_tir.learner.extension import resume
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import TrainingSample
from thor_tir.pretrained import CausalLM, ModelTokenizer
from thor_tir.progress import UNSEEN, Progress
from thor_tir.sft.config import SftConfig
from thor_tir.sft.examples import SFT
from thor_tir.storage.journal import Journal, JsonObject, whole
from thor_tir.storage.run_lock import option_defaults

LINES_AN_EPOCH = 10
"""Lines of progress in an epoch, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SftData:
    """The rows of a cold start."""

    train: Sequence[TrainingSample]
    """Rows to be trained."""
    validation: Sequence[TrainingSample] = ()
    """Rows whose loss is only measured."""


def schedule_of(config: SftConfig, num_rows: int, num_epochs: int) -> Schedule:
    """The course of the learning rate over so many epochs."""
    num_steps = num_epochs * ceil(num_rows / config.train_batch_size)
    return Schedule.fitted(num_steps=num_steps, warmup_steps=config.warmup_steps, kind=config.lr_scheduler_type)


def _learner_config(config: SftConfig, num_rows: int) -> LearnerConfig:
    """The learner of a run on so many rows."""
    return LearnerConfig(
        learning_rate=config.learning_rate,
        schedule=schedule_of(config, num_rows, config.num_train_epochs),
        max_grad_norm=config.max_grad_norm,
        micro_batch_tokens=config.micro_batch_tokens,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
    )


def batches(rows: Sequence[TrainingSample], config: SftConfig) -> list[list[TrainingSample]]:
    """All optimiser steps of the run: every row once an epoch, in an order that the seed alone decides."""
    steps: list[list[TrainingSample]] = []
    for epoch in range(config.num_train_epochs):
        order = [replace(row, group=SFT) for row in rows]  # the rules that all of them begin with are read once
        Random(f"sft {config.seed} {epoch}").shuffle(order)
        steps += [order[i : i + config.train_batch_size] for i in range(0, len(order), config.train_batch_size)]
    return steps


def _compared(config: SftConfig) -> dict[str, object]:
    """Options that a continued run must share."""
    return {name: value for name, value in asdict(config).items() if name not in ("async_save", "checkpoint_mirror")}


def cold_start(
    model: CausalLM,
    tokenizer: ModelTokenizer,
    data: SftData,
    config: SftConfig,
    folder: Path,
    progress: Progress = UNSEEN,
    ranks: Ranks = ALONE,
    say: Callable[[str], None] = lambda sentence: None,
) -> Learner:
    """Train `model` in place, or continue where `folder` was left; returns what holds the trained weights.

    Raises UsageError where there is nothing to train on and TrainingDiverged where the loss stops being finite.
    """
    if not data.train:
        raise UsageError("no rows to train on: every trajectory was filtered out or too long")
    learner = Learner(model, _learner_config(config, len(data.train)), ranks, inspection=folder / "nonfinite")
    checkpoint = ranks.lead(lambda: newest_checkpoint(folder / "checkpoints", config.checkpoint_mirror))
    if checkpoint is not None:
        resume(
            checkpoint,
            learner,
            _compared(config),
            defaults=option_defaults(config),
            length="num_train_epochs",
            schedule_of=partial(schedule_of, config, len(data.train)),
            say=say,
        )
    metrics = Journal(folder / "metrics.jsonl", is_ours=ranks.leads, brief=whole)
    steps = batches(data.train, config)
    progress.resume(learner.num_steps)
    every = max(1, len(steps) // (LINES_AN_EPOCH * config.num_train_epochs))
    with CheckpointWriter(
        folder / "checkpoints",
        learner,
        tokenizer=tokenizer,
        options=_compared(config),
        keep=config.save_total_limit,
        is_beside=config.async_save,
        mirror=config.checkpoint_mirror,
    ) as writer:
        for number in range(learner.num_steps, len(steps)):
            measured = learner.step(steps[number])
            is_last = number + 1 == len(steps)
            row: JsonObject = {
                "step": measured.step,
                "loss": measured.loss,
                "lr": measured.learning_rate,
                "grad_norm": measured.gradient_norm,
                "tokens_per_s": round(measured.tokens_per_second),
            }
            if data.validation and (is_last or (number + 1) % max(1, len(steps) // 8) == 0):
                row["validation_loss"] = learner.evaluate(data.validation)[SFT]
            if str(measured.step) not in metrics:
                metrics.add(str(measured.step), row)
            if is_last or (number + 1) % config.save_steps == 0:
                writer.save({"of": len(steps)})
            progress.advance()
            if is_last or (number + 1) % every == 0 or "validation_loss" in row:
                epochs = config.num_train_epochs * (number + 1) / len(steps)
                progress.log(
                    f"epoch {epochs:.2f} of {config.num_train_epochs}, {_line(row, len(steps))}",
                    brief=f"loss {row['loss']:.3f}",
                )
    metrics.close()
    return learner


def _line(row: JsonObject, num_steps: int) -> str:
    """One step in a line, for a person who watches or reads a log."""
    validation = f", validation {row['validation_loss']:.3f}" if "validation_loss" in row else ""
    return (
        f"step {row['step']} of {num_steps}: loss {row['loss']:.3f}{validation}, learning rate {row['lr']:.1e}, "
        f"gradient {row['grad_norm']:.2f}, {row['tokens_per_s']:,} tokens/s"
    )
