"""Models whose layers see a window: what the engine samples beyond it has the model's own probabilities."""

import logging

import pytest
import torch
import transformers

from engine_cases import engine_of, sample_all, tokens
from thor_tir.engines.local import model as local_model
from thor_tir.engines.local.model import MaskForm, sliding_window
from thor_tir.engines.protocol import ContextFull, Sampling
from tiny_models import tiny_model, tiny_tokenizer

WINDOW, CONTEXT = 16, 96
SHAPE = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.3,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "tie_word_embeddings": False,
}
HEADS = {"head_dim": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"] * 2}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
KINDS = {
    "mistral": ("Mistral", HEADS, MaskForm.SLIDING),
    "phi3": ("Phi3", {}, MaskForm.SLIDING),
    "starcoder2": ("Starcoder2", {}, MaskForm.SLIDING),
    "mixtral": ("Mixtral", EXPERTS, MaskForm.SLIDING),
    "qwen2, upper layers": (
        "Qwen2",
        {"use_sliding_window": True, "max_window_layers": 2},
        MaskForm.BY_LAYER,
    ),
    "qwen3, all layers": (
        "Qwen3",
        {**HEADS, "use_sliding_window": True, "max_window_layers": 0},
        MaskForm.BY_LAYER,
    ),
    "gemma2": ("Gemma2", {**HEADS, "query_pre_attn_scalar": 8}, MaskForm.BY_LAYER),
    "gemma3": ("Gemma3Text", {**HEADS, **MIXED, "query_pre_attn_scalar": 8}, MaskForm.BY_LAYER),
    "gpt-oss": ("GptOss", {**HEADS, **MIXED, **EXPERTS}, MaskForm.BY_LAYER),
    "cohere2": ("Cohere2", MIXED, MaskForm.BY_LAYER),
    "olmo3": ("Olmo3", MIXED, MaskForm.BY_LAYER),
    "exaone4": ("Exaone4", {**HEADS, **MIXED}, MaskForm.BY_LAYER),
    "smollm3": ("SmolLM3", {**MIXED, "use_sliding_window": True}, MaskForm.BY_LAYER),
}


def windowed(kind: str, **more):
    name, settings, _ = KINDS[kind]
    config = getattr(transformers, f"{name}Config")(**{**SHAPE, **settings, "sliding_window": WINDOW, **more})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{name.removesuffix('Text')}ForCausalLM")(config).eval()
    model.generation_config.eos_token_id = None
    with torch.no_grad():
        model.get_output_embeddings().weight.mul_(4)
    return model


def prompts() -> list[list[int]]:
    return [[(5 + 31 * row + 7 * place) % 250 + 10 for place in range(n)] for row, n in enumerate((50, 70, 9))]


@torch.inference_mode()
def largest_error(model, completions) -> float:
    """Of the log-probabilities that the engine tells, in nats."""
    errors = []
    for ids, completion in zip(prompts(), completions, strict=True):
        sampled = tokens(completion)
        logp = model(torch.tensor([ids + sampled])).logits[0].float().log_softmax(-1)
        expected = logp[torch.arange(len(ids) - 1, len(ids) + len(sampled) - 1), sampled]
        errors.append(float((torch.tensor(completion.span.logprobs) - expected).abs().max()))
    return max(errors)


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_beyond_a_window_are_the_models_own(kind):
    model = windowed(kind)
    engine = engine_of(model)
    assert engine._model._form is KINDS[kind][2]
    assert engine.max_model_len == CONTEXT
    # in pieces, so that a prompt is computed in several calls too
    piecewise = engine_of(model, prefill_tokens=23)
    for each in (engine, piecewise):
        completions = sample_all(each, [(ids, Sampling(max_tokens=12, seed=3)) for ids in prompts()])
        assert largest_error(model, completions) < 2e-4


def test_the_window_matters_in_these_tests():
    model = windowed("mistral")
    engine = engine_of(model)
    engine._model._window = None  # as if it were not known
    engine._model._form = MaskForm.CAUSAL
    completions = sample_all(engine, [(ids, Sampling(max_tokens=12, seed=3)) for ids in prompts()])
    assert largest_error(model, completions) > 0.1


@pytest.mark.parametrize("kind", ["mistral", "phi3", "gemma2"])
def test_a_context_within_the_window_is_read_as_ever(kind):
    assert engine_of(windowed(kind), max_model_len=WINDOW)._model._form is MaskForm.CAUSAL
    assert engine_of(windowed(kind, sliding_window=CONTEXT))._model._form is MaskForm.CAUSAL


@pytest.mark.parametrize("kind", ["mistral", "gemma3"])
def test_where_no_masks_compute_the_same_the_context_ends_with_the_window_and_a_sentence_says_so(
    kind, monkeypatch, caplog
):
    monkeypatch.setattr(local_model, "TOLERANCE", {})
    with caplog.at_level(logging.WARNING):
        engine = engine_of(windowed(kind))
    assert engine.max_model_len == WINDOW
    assert "sees a window of 16 tokens in some layers" in caplog.text
    with pytest.raises(ContextFull):
        sample_all(engine, [(prompts()[0], Sampling(max_tokens=1))])
    completions = sample_all(engine, [(prompts()[2], Sampling(max_tokens=20))])
    assert len(tokens(completions[0])) == WINDOW - len(prompts()[2])


def test_a_self_test_that_costs_too_much_is_not_made(monkeypatch):
    monkeypatch.setattr(local_model, "AFFORDABLE", 10.0)
    assert engine_of(windowed("mistral")).max_model_len == WINDOW


def test_a_window_that_this_engine_knows_nothing_of_ends_the_context(caplog):
    config = transformers.GPTNeoConfig(
        vocab_size=len(tiny_tokenizer()),
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=WINDOW,
        max_position_embeddings=CONTEXT,
    )
    engine = engine_of(transformers.GPTNeoForCausalLM(config).eval())
    assert engine.max_model_len == WINDOW
    assert "GPTNeoForCausalLM sees a window of 16 tokens" in caplog.text


@pytest.mark.parametrize(
    ("settings", "window"),
    [
        ({}, None),
        ({"sliding_window": None}, None),
        ({"sliding_window": 8}, 8),
        ({"sliding_window": 8, "use_sliding_window": False}, None),
        ({"sliding_window": 8, "layer_types": ["full_attention"]}, None),
        ({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"]}, 8),
        ({"sliding_window": None, "layer_types": ["sliding_attention"]}, None),
    ],
)
def test_the_window_of_a_configuration(settings, window):
    class Config:
        pass

    for name, value in settings.items():
        setattr(Config, name, value)
    assert sliding_window(Config()) == window


def test_models_without_windows_are_not_tried(monkeypatch):
    monkeypatch.setattr(local_model, "TOLERANCE", {})
    assert engine_of(tiny_model("llama")).max_model_len == 512
