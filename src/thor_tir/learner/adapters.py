"""Low-rank adapters (LoRA) through `peft`: small matrices beside a frozen model, trained in its place.

The sum of both samples and learns, so an engine over the model uses them at once. What training leaves is the merged
model, a folder like any other.
"""

from typing import Any

import torch

from thor_tir.errors import UsageError
from thor_tir.learner.config import AdapterConfig


def with_adapters(model: Any, config: AdapterConfig) -> Any:
    """The model with fresh adapters, which change nothing yet; alike in every process. Rank 0 leaves it as it is."""
    if not config.lora_r:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise UsageError(
            "adapters need the package peft: install it with `pip install 'thor-tir[lora]'`, or leave lora_r at 0"
        ) from error
    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,  # with dropout, what is trained would not be what sampled
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return get_peft_model(model, lora).eval()


def merged(model: Any) -> Any:
    """The model with its adapters added into its weights; one without adapters as it is."""
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model
