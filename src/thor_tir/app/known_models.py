"""Shapes of the models of the paper, from their published configurations: what a plan needs where no hub is reached."""

from collections.abc import Mapping
from typing import Any

QWEN2_5: dict[str, Any] = {
    "model_type": "qwen2",
    "num_hidden_layers": 28,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
}
QWEN3: dict[str, Any] = {
    "model_type": "qwen3",
    "head_dim": 128,
    "num_key_value_heads": 8,
    "max_position_embeddings": 40_960,
    "vocab_size": 151_936,
    "rms_norm_eps": 1e-6,
}
KNOWN: Mapping[str, Mapping[str, Any]] = {
    "Qwen/Qwen2.5-Math-1.5B": QWEN2_5
    | {
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "vocab_size": 151_936,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen2.5-Math-7B": QWEN2_5
    | {
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "vocab_size": 152_064,
        "tie_word_embeddings": False,
    },
    "Qwen/Qwen3-1.7B": QWEN3
    | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
    },
    "Qwen/Qwen3-8B": QWEN3
    | {
        "hidden_size": 4096,
        "intermediate_size": 12_288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "tie_word_embeddings": False,
    },
}
"""Fields of their configurations by their names on the hub."""


def known_config(name: str) -> Any:
    """The configuration of a model of the table, as `transformers` has it; None for any other."""
    from transformers import AutoConfig

    if (fields := KNOWN.get(name)) is None:
        return None
    return AutoConfig.for_model(**fields)
