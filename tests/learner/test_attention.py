"""Training's attention against torch's, and whole models under both."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from thor_tir.learner import attention
from thor_tir.learner.attention import NAME, causal_attention, train_attention, training_attention
from tiny_models import tiny_model


def states(heads=6, shared=2, length=11, dtype=torch.float64):
    """Queries, keys and values of two rows, as transformers lays them out, and a gradient of what is mixed."""
    draw = torch.Generator().manual_seed(0)
    made = [torch.randn(2, length, n, 8, generator=draw, dtype=dtype) for n in (heads, shared, shared, heads)]
    return [m.transpose(1, 2).requires_grad_() for m in made]


@pytest.mark.parametrize(("heads", "shared"), [(6, 2), (3, 3), (4, 1)])
@pytest.mark.parametrize(("queries", "scores"), [(64, 2**19), (4, 2**19), (3, 1), (1, 100)])
def test_values_and_gradients_are_those_of_torchs_own_attention(monkeypatch, heads, shared, queries, scores):
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", queries)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", scores)
    query, key, value, grad = states(heads, shared)
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3, enable_gqa=True)
    found = causal_attention(query, key, value, 0.3)
    inputs = (query, key, value)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    theirs = torch.autograd.grad(expected, inputs, grad)
    torch.testing.assert_close(torch.autograd.grad(found, inputs, grad), theirs, rtol=1e-12, atol=1e-12)


def test_under_an_autocast_everything_is_in_its_type_and_gradients_in_that_of_the_inputs():
    query, key, value, grad = states(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = causal_attention(query, key, value, 0.3)
    assert found.dtype == torch.bfloat16
    of_query = torch.autograd.grad(found, query, grad.bfloat16())[0]
    expected = torch.autograd.grad(causal_attention(query, key, value, 0.3), query, grad)[0]
    torch.testing.assert_close(of_query, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gemma2"])
def test_a_model_has_the_gradients_that_it_has_by_itself(kind):
    model = tiny_model(kind).double()
    ids_BT = torch.arange(60).view(2, 30)
    logits = [model(ids_BT, use_cache=False).logits]
    with training_attention(model):
        logits.append(model(ids_BT, use_cache=False).logits)
    weights = list(model.parameters())
    theirs, ours = (torch.autograd.grad(found.logsumexp(-1).sum(), weights) for found in logits)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)  # norms compute in float32


def test_what_is_not_plainly_causal_goes_to_torch(monkeypatch):
    monkeypatch.setattr(attention, "causal_attention", None)
    query, key, value, _ = states()
    module = torch.nn.Module()
    module.num_key_value_groups = 3
    mask = torch.ones(11, 11, dtype=torch.bool).tril()[None, None]
    mixed, _ = train_attention(module, query, key, value, mask, scaling=0.3)
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    torch.testing.assert_close(mixed, expected.transpose(1, 2))
    with pytest.raises(TypeError):  # the mark that a plain case would have left
        train_attention(module, query, key, value, None)


def test_the_configuration_is_left_as_it_was_found():
    model = tiny_model()
    before = model.config._attn_implementation
    with training_attention(model):
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == before
    model.set_attn_implementation("eager")
    with training_attention(model):
        assert model.config._attn_implementation == "eager"  # whoever asks for another one keeps it
