"""Options that the two trainings share, and the learning rate as a function of the step; nothing here needs torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

SaveDtype = Literal["loaded", "float32"]
"""Types in which a trained model is written."""

SchedulerType = Literal["constant", "cosine_with_min_lr"]
"""Course of the learning rate after warm-up, by the names of `transformers`."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Low-rank adapters (LoRA) beside every linear layer but the output head. They have no dropout: with it, the model
    that is trained would not be the one that sampled."""

    lora_r: int = 0
    """Rank of the adapters; 0 trains the model itself. Needs `peft` (extra `lora`)."""
    lora_alpha: int = 32
    """Scale of the adapters: their output is multiplied by lora_alpha / lora_r."""

    def __post_init__(self) -> None:
        if self.lora_r < 0 or self.lora_alpha < 1:
            raise ValueError(f"lora_r is at least 0 and lora_alpha at least 1, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Linear warm-up, then constant, or a cosine down to a floor."""

    warmup_steps: int = 0
    """Steps that climb in equal parts; the last of them has the full rate."""
    decay_steps: int | None = None
    """Step at which the cosine, counted from the first step of the run, reaches its floor; None keeps the rate."""
    floor: float = 0.0
    """Share of the full rate that is left after the cosine."""

    def __post_init__(self) -> None:
        if self.warmup_steps < 0 or not 0 <= self.floor <= 1:
            raise ValueError(f"expected warmup_steps >= 0 and 0 <= floor <= 1, found {self}")
        if self.decay_steps is not None and self.decay_steps <= self.warmup_steps:
            raise ValueError(f"decay_steps is {self.decay_steps}; it must exceed warmup_steps, {self.warmup_steps}")

    @classmethod
    def fitted(cls, *, num_steps: int, warmup_steps: int, kind: SchedulerType) -> "Schedule":
        """For a run of `num_steps`: constant, or a cosine to a tenth of the rate; warm-up ends before the run does."""
        return cls(
            warmup_steps=min(warmup_steps, max(0, num_steps - 1)),
            decay_steps=num_steps if kind == "cosine_with_min_lr" else None,
            floor=0.1 if kind == "cosine_with_min_lr" else 0.0,
        )

    def factor(self, step: int) -> float:
        """Share of the full learning rate at an optimiser step, counted from 0."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay_steps is None:
            return 1.0
        progress = min(1.0, (step - self.warmup_steps) / (self.decay_steps - self.warmup_steps))
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2


def check_bounds(least: Mapping[str, tuple[float, float]], above: Mapping[str, tuple[float, float]]) -> None:
    """Raise ValueError for the first option, by its name on the command line, that is out of bounds.

    Each stands with its value and its bound: `least` may equal it, `above` may not.
    """
    for name, (value, bound) in least.items():
        if value < bound:
            raise ValueError(f"--{name} is {value:g}; it must be at least {bound:g}")
    for name, (value, bound) in above.items():
        if not value > bound:
            raise ValueError(f"--{name} is {value:g}; it must be larger than {bound:g}")
