"""Norms, gates and attention in one pass against the model's own, with their gradients."""

import pytest
import torch

from thor_tir.learner import attention, fused
from thor_tir.learner.attention import training_attention
from thor_tir.learner.fused import fused_layers
from thor_tir.products import threads as set_threads
from tiny_models import tiny_model

pytestmark = pytest.mark.skipif(fused._library() is None, reason="no C compiler on this machine")


def logits_and_gradients(model) -> list[torch.Tensor]:
    model.zero_grad()
    logits = model(torch.arange(57).view(3, 19), use_cache=False).logits
    logits.log_softmax(-1)[..., 7].sum().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters())]


def reference(states, weight, gate, up):
    """The formulas, as torch computes them."""
    norm = weight * states * (states.pow(2).mean(-1, keepdim=True) + 1e-6).rsqrt()
    return norm, torch.nn.functional.silu(gate) * up


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(("rows", "width"), [(7, 8), (50, 40), (33, 64)])
def test_values_and_gradients_are_those_of_the_formulas_and_alike_on_several_threads(rows, width):
    draw = torch.Generator().manual_seed(0)
    inputs = [torch.randn(*shape, generator=draw).requires_grad_() for shape in ((rows, width), (width,))]
    inputs += [torch.randn(rows, width, generator=draw).requires_grad_() for _ in range(2)]
    grads = [torch.randn(rows, width, generator=draw) for _ in range(2)]
    precise = [x.detach().double().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(reference(*precise), precise, [g.double() for g in grads])
    before, by_threads = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            outputs = fused._Norm.apply(*inputs[:2], 1e-6), fused._Gated.apply(*inputs[2:])
            by_threads.append([*outputs, *torch.autograd.grad(outputs, inputs, grads)])
    finally:
        torch.set_num_threads(before)
    for ours, again, theirs in zip(*by_threads, [*reference(*precise), *expected], strict=True):
        assert torch.equal(ours, again)
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-5)


def attended(query, key, value, query_norm, key_norm, cosine, sine, numbers):
    """The formula, as torch computes it."""
    size = numbers.size
    heads = [x.view(*x.shape[:2], -1, size).transpose(1, 2) for x in (query, key, value)]
    if query_norm is not None:
        heads[:2] = (
            w * x * (x.pow(2).mean(-1, keepdim=True) + numbers.eps).rsqrt()
            for w, x in zip((query_norm, key_norm), heads[:2], strict=True)
        )
    halves = [(x, torch.cat((-x[..., size // 2 :], x[..., : size // 2]), -1)) for x in heads[:2]]
    turned = [x * cosine[:, None] + y * sine[:, None] for x, y in halves]
    mixed = torch.nn.functional.scaled_dot_product_attention(
        *turned, heads[2], is_causal=True, scale=numbers.scale, enable_gqa=True
    )
    return mixed.transpose(1, 2).flatten(2)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize(
    ("rows", "length", "heads", "shared", "size", "is_normed", "is_by_row"),
    [(2, 19, 4, 2, 8, True, False), (3, 70, 6, 2, 32, True, True), (1, 96, 3, 3, 40, False, False)],
)
def test_attention_is_that_of_the_formula_and_alike_on_several_threads(
    rows, length, heads, shared, size, is_normed, is_by_row
):
    draw = torch.Generator().manual_seed(0)
    shapes = [(rows, length, number * size) for number in (heads, shared, shared)] + [(size,)] * 2 * is_normed
    inputs = [torch.randn(*shape, generator=draw).requires_grad_() for shape in shapes]
    angle = torch.randn(rows if is_by_row else 1, length, size // 2, generator=draw).repeat(1, 1, 2)
    angles = [angle.cos(), angle.sin()]
    numbers = fused._Heads(query=heads, shared=shared, size=size, eps=1e-6, scale=size**-0.5)
    grad = torch.randn(*shapes[0], generator=draw)
    precise = [x.detach().double().requires_grad_() for x in inputs]
    none = () if is_normed else (None, None)
    expected = attended(*precise, *none, *(table.double() for table in angles), numbers)
    by_threads = []
    for threads in (1, 3):
        with set_threads(threads):
            output = fused._Mixed.apply(*inputs, *none, *angles, numbers)
            by_threads.append([output, *torch.autograd.grad(output, inputs, grad)])
    theirs = [expected, *torch.autograd.grad(expected, precise, grad.double())]
    for ours, again, exact in zip(*by_threads, theirs, strict=True):
        assert torch.equal(ours, again)
        torch.testing.assert_close(ours.double(), exact, rtol=1e-5, atol=1e-5 * exact.detach().abs().max().item())


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "mistral"])
def test_logits_and_gradients_are_the_models_own(kind, monkeypatch):
    model = tiny_model(kind, sharpness=1.0)
    expected = logits_and_gradients(model)
    with training_attention(model), fused_layers(model):
        assert "forward" in vars(model.model.norm)
        monkeypatch.setattr(attention, "_Causal", None)  # what would have attended through torch
        found = logits_and_gradients(model)
    assert "forward" not in vars(model.model.norm)
    largest = max(float(theirs.abs().max()) for theirs in expected[1:])
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5 * largest)


def test_other_families_and_types_run_as_they_are():
    for model in (tiny_model("gemma2"), tiny_model("gpt2"), tiny_model().double()):
        expected = logits_and_gradients(model)
        with fused_layers(model):
            found = logits_and_gradients(model)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))


def test_under_an_autocast_the_models_own_gates_run():
    model = tiny_model("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = logits_and_gradients(model)
        with fused_layers(model):
            found = logits_and_gradients(model)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.05 * float(theirs.abs().max()))
