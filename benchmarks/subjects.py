"""The models that benchmarks run: an embedded one, a local folder, or random weights of a given size.

Speed does not depend on what weights say, so sizes that nobody trained are filled at random. All share the tokenizer of
the embedded actor and have no end-of-sequence token: a turn's length is then what the benchmark asks for, on all sides.
"""

from typing import Any

import torch
from transformers import AutoModelForCausalLM, Qwen3Config, Qwen3ForCausalLM

from thor_tir.engines.loading import load_model, load_tokenizer

SIZES = {"2M": (192, 4, 512), "10M": (384, 6, 1024), "30M": (512, 10, 1408)}
"""Width, layers and width of the feed-forward part; heads of 32."""


def subject(name: str) -> tuple[Any, Any]:
    """A model in eval mode and its tokenizer, neither of which knows an end of sequence."""
    if name in SIZES:
        tokenizer = load_tokenizer("nano/actor")
        model = _random(name, len(tokenizer))
    else:
        model, tokenizer = load_model(name, dtype=torch.float32)
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, tokenizer


def _random(size: str, vocabulary: int) -> Any:
    width, layers, inner = SIZES[size]
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        head_dim=32,
        intermediate_size=inner,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
    )
    return Qwen3ForCausalLM(config).eval()


def copy_of(model: Any) -> Any:
    """Another model with the same weights."""
    twin = AutoModelForCausalLM.from_config(model.config)
    twin.load_state_dict(model.state_dict())
    twin.generation_config = model.generation_config
    return twin.eval()


def parameters(model: Any) -> int:
    """Parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())
