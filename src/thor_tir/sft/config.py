"""The options of the cold start; nothing here needs torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from thor_tir.learner.config import AdapterConfig, SaveDtype, SchedulerType, check_bounds


@dataclass(frozen=True, kw_only=True)
class SftConfig:
    """Cold-start fine-tuning. Defaults are the paper's (section D.1): one epoch, 256 rows a step, a constant 2e-6."""

    num_train_epochs: int = 1
    """Passes over the data set."""
    train_batch_size: int = 256
    """Rows per optimiser step, over all processes together."""
    learning_rate: float = 2e-6
    """Learning rate of AdamW after warm-up."""
    warmup_steps: int = 0
    """Optimiser steps over which the learning rate grows to its full value."""
    lr_scheduler_type: SchedulerType = "constant"
    """Learning rate after warm-up: `constant` (paper), or `cosine_with_min_lr` down to a tenth over the run."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped."""
    max_length: int = 4096
    """Maximum length of a row in tokens; longer rows are left out whole. The paper has 4,096 for non-reasoning and
    20,000 for reasoning models."""
    micro_batch_tokens: int = 4096
    """Tokens per forward pass, padding included: bounds memory and leaves the result alone."""
    trains_observations: bool = False
    """True trains tool outputs too, as the paper's Eq. 3 is printed."""
    bf16: bool = False
    """True computes matrix products in bfloat16; weights, optimiser and loss stay in float32."""
    gradient_checkpointing: bool = False
    """True computes each layer again in the backward pass: less memory, about a third more time."""
    adapters: Annotated[AdapterConfig, tyro.conf.arg(name="")] = field(default_factory=AdapterConfig)
    """Low-rank adapters, trained in place of the model."""
    save_steps: int = 1
    """Optimiser steps between checkpoints; a kill repeats those since the last one."""
    save_dtype: SaveDtype = "loaded"
    """Type of the numbers in the model that is written: that of the model that was loaded (`loaded`), or float32."""
    async_save: bool = False
    """True writes checkpoints while training goes on, from a copy in the host's memory."""
    checkpoint_mirror: str = ""
    """Address of a store that gets a copy of each checkpoint, and from which a folder without any goes on: whatever
    fsspec reaches, such as s3://bucket/run with s3fs installed."""
    save_total_limit: int = 2
    """Checkpoints that are kept, newest first; a damaged one can be given up for the one before."""
    seed: int = 0
    """Seed of the order of rows."""

    def __post_init__(self) -> None:
        check_bounds(
            {
                "num-train-epochs": (self.num_train_epochs, 1),
                "train-batch-size": (self.train_batch_size, 1),
                "max-length": (self.max_length, 1),
                "save-steps": (self.save_steps, 1),
                "micro-batch-tokens": (self.micro_batch_tokens, 1),
                "save-total-limit": (self.save_total_limit, 1),
                "warmup-steps": (self.warmup_steps, 0),
                "seed": (self.seed, 0),
            },
            {"learning-rate": (self.learning_rate, 0), "max-grad-norm": (self.max_grad_norm, 0)},
        )


@dataclass(frozen=True, kw_only=True)
class ChatFields:
    """Columns of a data set that is not TIRGen's."""

    question_field: str = ""
    """Column of the questions; by default `messages` or `conversations`, else `question`, `problem`, `prompt` or
    `query`."""
    answer_field: str = ""
    """Column of what the model is to write; by default `completion`, `generated_solution`, `solution`, `response` or
    `output`."""
    system_field: str = "system"
    """Column of the system prompt, where a conversation brings none itself."""


@dataclass(frozen=True, kw_only=True)
class ChatConfig:
    """Training on conversations of other data sets than TIRGen's."""

    train_turns: Literal["all", "last"] = "all"
    """Turns of the assistant that are trained: all of them, or the last one of each conversation alone."""
    ask_as: Literal["thor", "data"] = "thor"
    """Questions as THOR asks them, with its rules before the system prompt of the data, or as they stand in the data.
    Calls in the turns of a chat template are asked in THOR's words where --dialect tool-call has them there, too, and
    never elsewhere."""
    calls_as: Literal["template", "fences"] = "template"
    """Calls of tools in messages: by the model's chat template where it has turns of tools, or as programs between
    fences, as THOR runs them. Programs within a text are always spelled between fences."""
