"""Options that the two trainings share; nothing here needs torch."""

from dataclasses import dataclass
from typing import Literal

SchedulerType = Literal["constant", "cosine_with_min_lr"]
"""How the learning rate goes on after warm-up, by the names of `transformers`."""


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
