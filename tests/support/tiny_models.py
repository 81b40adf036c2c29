"""A tokenizer and random causal language models small enough for any test: built here, in milliseconds, from a seed."""

from functools import cache

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|user|>' if message['role'] == 'user' else '<|assistant|>' }}{{ message['content'] }}<|end|>"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

LINES = [
    "What is the sum of all primes below 20? Let us compute it with a program.",
    "```python\nprint(sum(p for p in range(2, 20) if all(p % q for q in range(2, p))))\n```\n",
    "```output\n77\n```\nSo the answer is \\boxed{77}. Let us check the answer once more.",
    "First we import the module, then we define a function and print the result.",
]

GROUPED = {
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "llama": (LlamaForCausalLM, LlamaConfig),
    "mistral": (MistralForCausalLM, MistralConfig),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config),
}
"""Kinds whose attention shares keys and values among heads."""


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most 320 tokens with a chat template; any text survives encoding and decoding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=[PAD, USER, ASSISTANT, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, chat_template=CHAT_TEMPLATE
    )


def tiny_model(kind: str = "qwen3", *, seed: int = 0, sharpness: float = 4.0) -> PreTrainedModel:
    """A random model in eval mode with grouped-query attention where the kind has it, 512 tokens of context.

    `sharpness` scales the output layer: without it a random model is nearly uniform, and with it arg-max decisions
    have margins that rounding cannot flip.
    """
    vocab = len(tiny_tokenizer())
    shape = {"vocab_size": vocab, "max_position_embeddings": 512, "eos_token_id": None, "bos_token_id": None}
    grouped = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "tie_word_embeddings": False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel
        if kind in GROUPED:
            family, configured = GROUPED[kind]
            model = family(configured(**shape, **grouped, initializer_range=0.2))
        elif kind == "gpt2":
            config = GPT2Config(
                **shape, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2, tie_word_embeddings=False
            )
            model = GPT2LMHeadModel(config)
        else:
            raise ValueError(f"unknown kind {kind!r}; known: gpt2, {', '.join(GROUPED)}")
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(sharpness)
    model.generation_config.eos_token_id = tiny_tokenizer().eos_token_id
    model.generation_config.pad_token_id = tiny_tokenizer().pad_token_id
    return model.eval()
