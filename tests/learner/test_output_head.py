"""The output head a part of the vocabulary at a time, against all logits at once."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from thor_tir.learner import output_head
from thor_tir.learner.batch import collate
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.output_head import LEAST_WORDS, head_logprobs, is_linear
from tiny_models import tiny_model
from tiny_rows import mixed_rows


class Largest(TorchDispatchMode):
    """Notes the entries of the largest tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.entries = max(self.entries, found.numel())
        return found


def case(dtype=torch.float64, tokens=7, words=2 * LEAST_WORDS + 5):
    draw = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(tokens, 6, generator=draw, dtype=dtype, requires_grad=True)
    weight_VH = torch.randn(words, 6, generator=draw, dtype=dtype, requires_grad=True)
    target_ids_N = torch.randint(words, (tokens,), generator=draw)
    return hidden_NH, weight_VH, target_ids_N, torch.randn(tokens, generator=draw, dtype=dtype)


def with_gradients(logp_N, grad_N, *inputs):
    return logp_N, *torch.autograd.grad(logp_N, inputs, grad_N)


@pytest.mark.parametrize("at_once", [1, 10**6], ids=["in parts", "whole"])
def test_values_and_gradients_are_those_of_a_softmax_over_all_logits(at_once):
    hidden_NH, weight_VH, target_ids_N, grad_N = case()
    plain_N = (hidden_NH @ weight_VH.t()).log_softmax(dim=1).gather(1, target_ids_N[:, None])[:, 0]
    ours_N = head_logprobs(hidden_NH, weight_VH, target_ids_N, logits_at_once=at_once)
    expected = with_gradients(plain_N, grad_N, hidden_NH, weight_VH)
    torch.testing.assert_close(with_gradients(ours_N, grad_N, hidden_NH, weight_VH), expected, rtol=1e-12, atol=1e-12)


def test_a_frozen_head_gets_no_gradient_and_the_hidden_states_theirs():
    hidden_NH, weight_VH, target_ids_N, grad_N = case()
    head_logprobs(hidden_NH, weight_VH.detach(), target_ids_N).backward(grad_N)
    plain_N = (hidden_NH @ weight_VH.t()).log_softmax(dim=1).gather(1, target_ids_N[:, None])[:, 0]
    torch.testing.assert_close(hidden_NH.grad, torch.autograd.grad(plain_N, hidden_NH, grad_N)[0])


def test_no_more_logits_than_those_of_one_part_are_ever_made():
    tokens = 64
    hidden_NH, weight_VH, target_ids_N, grad_N = case(torch.float32, tokens=tokens, words=16 * LEAST_WORDS)
    with Largest() as largest:
        logp_N = head_logprobs(hidden_NH, weight_VH, target_ids_N, logits_at_once=1)
        torch.autograd.grad(logp_N, (hidden_NH, weight_VH), grad_N)
    assert largest.entries == max(tokens * LEAST_WORDS, weight_VH.numel())


def test_under_an_autocast_products_are_in_half_precision_and_what_follows_is_not():
    hidden_NH, weight_VH, target_ids_N, _ = case(torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logp_N = head_logprobs(hidden_NH, weight_VH, target_ids_N)
    logits_NV = (hidden_NH.bfloat16() @ weight_VH.bfloat16().t()).float()
    torch.testing.assert_close(logp_N, logits_NV.log_softmax(dim=1).gather(1, target_ids_N[:, None])[:, 0])


@pytest.mark.parametrize(("kind", "expected"), [("qwen3", True), ("llama", True), ("gemma2", False)])
def test_models_that_cap_their_logits_keep_their_own_head(kind, expected):
    model = tiny_model(kind).train()
    assert is_linear(model) is expected
    assert model.training  # left in the mode it was found in


def test_a_capped_model_has_the_logprobs_of_its_capped_logits(monkeypatch):
    model, batch = tiny_model("gemma2"), collate(mixed_rows())
    with torch.no_grad():
        capped_N = trained_logprobs(model, batch)
        monkeypatch.setitem(output_head._known, model, True)
        assert not torch.allclose(trained_logprobs(model, batch), capped_N, atol=1e-3)  # the cap is felt
        logits_BTV = model(input_ids=batch.input_ids_BT, use_cache=False).logits
    logits_NV = logits_BTV.flatten(0, 1)[batch.trained_N]
    targets_N1 = batch.target_ids_BT.flatten()[batch.trained_N][:, None]
    torch.testing.assert_close(capped_N, logits_NV.log_softmax(dim=1).gather(1, targets_N1)[:, 0])
