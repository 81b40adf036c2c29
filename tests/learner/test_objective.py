"""The formulas against numbers derived by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.learner.objective import Clip, clipped_surrogate, token_logprobs, token_sum

NAN = float("nan")


def surrogate_at(ratio: float, advantage: float) -> tuple[float, float]:
    """Loss and its derivative by log pi, for one token at a ratio."""
    logp_BT = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    adv_B = torch.tensor([advantage], dtype=torch.float64)
    loss_BT = clipped_surrogate(logp_BT, torch.zeros_like(logp_BT), adv_B, low=0.2, high=0.28, dual_clip=3.0)
    (gradient_BT,) = torch.autograd.grad(loss_BT.sum(), logp_BT)
    return loss_BT.item(), gradient_BT.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 2.0, -2.2, -2.2),  # inside: -A rho, and d rho / d log pi = rho
        (1.5, 2.0, -2.56, 0.0),  # above 1.28 with A > 0: -A * 1.28, flat
        (0.5, 2.0, -1.0, -1.0),  # below 0.8 with A > 0: the unclipped -A rho is the larger, so it still pulls up
        (0.5, -2.0, 1.6, 0.0),  # below 0.8 with A < 0: -A * 0.8, flat
        (2.0, -2.0, 4.0, 4.0),  # above 1.28 with A < 0: unclipped, pushes down
        (5.0, -2.0, 6.0, 0.0),  # above 3 with A < 0: the dual clip caps the loss at 3 * 2, flat
        (5.0, 0.0, 0.0, 0.0),
    ],
)
def test_the_surrogate_has_its_closed_form_in_every_region(ratio, advantage, loss, slope):
    assert surrogate_at(ratio, advantage) == pytest.approx((loss, slope), abs=1e-12)


def test_on_policy_the_gradient_is_minus_advantage_over_trained_tokens():
    logits_NV = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets_N = torch.tensor([1, 4, 0])
    logp_BT = token_logprobs(logits_NV, targets_N)[None]
    mask_BT = torch.tensor([[False, True, True]])  # the first token is the prompt's
    adv_B = torch.tensor([1.5], dtype=torch.float64)
    loss_BT = clipped_surrogate(logp_BT, logp_BT.detach(), adv_B, low=0.2, high=0.28, dual_clip=3.0)
    (token_sum(loss_BT, mask_BT) / 2).backward()
    # d loss / d log pi = -A / N, and d log pi / d logits = onehot - softmax
    score_NV = torch.nn.functional.one_hot(targets_N, 5) - logits_NV.detach().softmax(dim=1)
    torch.testing.assert_close(logits_NV.grad, -1.5 / 2 * score_NV * mask_BT.T)


@given(ratio=st.floats(0.05, 8.0), advantage=st.floats(-3.0, 3.0))
@settings(max_examples=60, deadline=None)
def test_the_gradient_agrees_with_finite_differences(ratio, advantage):
    corners = (0.8, 1.28, 3.0)
    if any(abs(ratio / corner - 1) < 1e-3 for corner in corners):
        return  # not differentiable there
    h = 1e-6
    above, below = surrogate_at(ratio * math.exp(h), advantage)[0], surrogate_at(ratio * math.exp(-h), advantage)[0]
    assert surrogate_at(ratio, advantage)[1] == pytest.approx((above - below) / (2 * h), abs=1e-6)


def test_an_unknown_old_logprob_passes_no_gradient_and_no_nan():
    logp_BT = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    old_logp_BT = torch.tensor([[NAN, -2.0]])
    loss_BT = clipped_surrogate(logp_BT, old_logp_BT, torch.tensor([2.0]), low=0.2, high=0.28, dual_clip=3.0)
    loss_BT.sum().backward()
    assert loss_BT.tolist() == [[-2.0, -2.0]]
    assert logp_BT.grad.tolist() == [[0.0, -2.0]]


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("distance", [-1e4, 1e4])
def test_a_ratio_that_would_overflow_leaves_loss_and_gradient_finite(advantage, distance):
    logp_BT = torch.tensor([[distance]], requires_grad=True)
    adv_B = torch.tensor([advantage])
    loss_BT = clipped_surrogate(logp_BT, torch.zeros(1, 1), adv_B, low=0.2, high=0.28, dual_clip=3.0)
    loss_BT.sum().backward()
    # A > 0: -1.28 above, -exp(-20) below; A < 0: 3 above, 0.8 below; all flat
    expected = {(1.0, 1e4): -1.28, (1.0, -1e4): -math.exp(-20), (-1.0, 1e4): 3.0, (-1.0, -1e4): 0.8}
    assert loss_BT.item() == pytest.approx(expected[advantage, distance])
    assert logp_BT.grad.item() == pytest.approx(0.0, abs=1e-8)


def test_the_token_sum_ignores_nan_outside_the_mask_and_is_zero_for_an_empty_one():
    values_BT = torch.tensor([[NAN, 1.5], [2.0, NAN]], requires_grad=True)
    mask_BT = torch.tensor([[False, True], [True, False]])
    total = token_sum(values_BT, mask_BT)
    total.backward()
    assert total.item() == 3.5
    assert values_BT.grad.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert token_sum(values_BT, torch.zeros_like(mask_BT)).item() == 0.0


def test_logprobs_in_chunks_have_the_values_and_gradients_of_logprobs_at_once():
    generator = torch.Generator().manual_seed(1)
    logits_NV = torch.randn(7, 5, dtype=torch.float64, generator=generator).requires_grad_()
    targets_N = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    whole_N = token_logprobs(logits_NV, targets_N)
    chunked_N = token_logprobs(logits_NV, targets_N, logits_at_once=10)  # two tokens of five logits at a time
    torch.testing.assert_close(chunked_N, whole_N, rtol=0, atol=1e-15)
    (whole,) = torch.autograd.grad((whole_N**2).sum(), logits_NV)
    (chunked,) = torch.autograd.grad((chunked_N**2).sum(), logits_NV)
    torch.testing.assert_close(chunked, whole, rtol=0, atol=1e-14)


def test_logprobs_of_half_precision_logits_are_computed_in_float32():
    logits_NV = torch.zeros(1, 1000, dtype=torch.bfloat16)
    # log 1000 = 6.907755; bfloat16 would say 6.90625
    assert token_logprobs(logits_NV, torch.tensor([3])).item() == pytest.approx(-math.log(1000), abs=1e-6)


def test_a_dual_clip_inside_the_clip_range_is_refused():
    with pytest.raises(ValueError, match="dual >= 1"):
        Clip(high=0.5, dual=1.2)
