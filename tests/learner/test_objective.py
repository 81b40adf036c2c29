"""The formulas against numbers derived by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.learner.objective import (
    Clip,
    clipped_surrogate,
    constant_mean,
    kl_to_reference,
    log_ratio,
    sequence_mean,
    sequence_ratio,
    token_logprobs,
    token_mean,
    token_ratio,
    token_sum,
)

NAN = float("nan")


CLIP = Clip(low=0.2, high=0.28, dual=3.0)


def surrogate(logp_N: torch.Tensor, old_logp_N: torch.Tensor, adv_N: torch.Tensor) -> torch.Tensor:
    """The default composition: token ratios, then the clip."""
    row_N = torch.zeros(len(logp_N), dtype=torch.int64)
    return clipped_surrogate(token_ratio(log_ratio(logp_N, old_logp_N), row_N), adv_N, CLIP)


def surrogate_at(ratio: float, advantage: float) -> tuple[float, float]:
    """Loss and its derivative by log pi, for one token at a ratio."""
    logp_N = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    loss_N = surrogate(logp_N, torch.zeros_like(logp_N), torch.tensor([advantage], dtype=torch.float64))
    (gradient_N,) = torch.autograd.grad(loss_N.sum(), logp_N)
    return loss_N.item(), gradient_N.item()


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
    logp_N = token_logprobs(logits_NV, targets_N)
    mask_N = torch.tensor([False, True, True])  # the first token is the prompt's
    loss_N = surrogate(logp_N, logp_N.detach(), torch.full((3,), 1.5, dtype=torch.float64))
    (token_sum(loss_N, mask_N) / 2).backward()
    # d loss / d log pi = -A / N, and d log pi / d logits = onehot - softmax
    score_NV = torch.nn.functional.one_hot(targets_N, 5) - logits_NV.detach().softmax(dim=1)
    torch.testing.assert_close(logits_NV.grad, -1.5 / 2 * score_NV * mask_N[:, None])


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
    logp_N = torch.tensor([-1.0, -2.0], requires_grad=True)
    loss_N = surrogate(logp_N, torch.tensor([NAN, -2.0]), torch.full((2,), 2.0))
    loss_N.sum().backward()
    assert loss_N.tolist() == [-2.0, -2.0]
    assert logp_N.grad.tolist() == [0.0, -2.0]


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("distance", [-1e4, 1e4])
def test_a_ratio_that_would_overflow_leaves_loss_and_gradient_finite(advantage, distance):
    logp_N = torch.tensor([distance], requires_grad=True)
    loss_N = surrogate(logp_N, torch.zeros(1), torch.tensor([advantage]))
    loss_N.sum().backward()
    # A > 0: -1.28 above, -exp(-20) below; A < 0: 3 above, 0.8 below; all flat
    expected = {(1.0, 1e4): -1.28, (1.0, -1e4): -math.exp(-20), (-1.0, 1e4): 3.0, (-1.0, -1e4): 0.8}
    assert loss_N.item() == pytest.approx(expected[advantage, distance])
    assert logp_N.grad.item() == pytest.approx(0.0, abs=1e-8)


def test_the_sequence_ratio_is_the_geometric_mean_of_a_rows_token_ratios_at_each_of_its_tokens():
    # row 0: ratios 2 and 8, so sqrt(16) = 4; row 1: ratios 1, 1 and 8, so 8 ** (1/3) = 2; tokens of rows may alternate
    logs_N = torch.tensor([2.0, 1.0, 8.0, 1.0, 8.0], dtype=torch.float64).log().requires_grad_()
    row_N = torch.tensor([0, 1, 0, 1, 1])
    ratio_N = sequence_ratio(logs_N, row_N)
    assert ratio_N.tolist() == pytest.approx([4.0, 2.0, 4.0, 2.0, 2.0])
    (slope_N,) = torch.autograd.grad(ratio_N[0], logs_N)
    # d (prod rho) ** (1/2) / d log rho_t = ratio / 2
    assert slope_N.tolist() == pytest.approx([2.0, 0.0, 2.0, 0.0, 0.0])


def test_a_clipped_sequence_passes_no_gradient_to_any_of_its_tokens():
    # geometric means 4 (above 1.28) and 1; the second token alone, 1/2, is inside no clip of its own sequence
    logs_N = torch.tensor([32.0, 0.5, 2.0, 0.5], dtype=torch.float64).log().requires_grad_()
    row_N = torch.tensor([0, 0, 1, 1])
    loss_N = clipped_surrogate(sequence_ratio(logs_N, row_N), torch.ones(4, dtype=torch.float64), CLIP)
    assert loss_N.tolist() == pytest.approx([-1.28, -1.28, -1.0, -1.0])
    (slope_N,) = torch.autograd.grad(loss_N.sum(), logs_N)
    # row 1: two tokens of loss -ratio, and each of its log ratios moves the ratio by a half
    assert slope_N.tolist() == pytest.approx([0.0, 0.0, -1.0, -1.0])


@pytest.mark.parametrize(
    ("mean", "expected"),
    [
        # rows of 1 and 4 tokens whose losses are 5 and 1, 1, 1, 2
        (token_mean(), 10 / 5),
        (sequence_mean(), (5 / 1 + 5 / 4) / 2),
        (constant_mean(8), (5 / 8 + 5 / 8) / 2),
    ],
    ids=["token", "sequence", "constant"],
)
def test_each_mean_has_its_closed_form(mean, expected):
    loss_N = torch.tensor([5.0, 1.0, 1.0, 1.0, 2.0])
    weight_N = mean.weight(torch.tensor([1.0, 4.0]))[torch.tensor([0, 1, 1, 1, 1])]
    assert ((weight_N * loss_N).sum() / (mean.mass(1) + mean.mass(4))).item() == pytest.approx(expected)
    assert mean.mass(0) == 0  # a row that trains nothing is in no mean


def test_the_kl_estimate_has_its_closed_form_and_its_gradient_is_one_minus_the_ratio():
    logp_N = torch.tensor([math.log(0.5), math.log(0.2), math.log(0.3)], dtype=torch.float64, requires_grad=True)
    reference_N = torch.tensor([math.log(0.25), math.log(0.4), math.log(0.3)], dtype=torch.float64)
    kl_N = kl_to_reference(logp_N, reference_N)
    # pi_ref / pi is 1/2, 2 and 1: 1/2 - 1 + log 2, 2 - 1 - log 2, 0
    assert kl_N.tolist() == pytest.approx([math.log(2) - 0.5, 1 - math.log(2), 0.0], abs=1e-12)
    (slope_N,) = torch.autograd.grad(kl_N.sum(), logp_N)
    assert slope_N.tolist() == pytest.approx([0.5, -1.0, 0.0], abs=1e-12)


def test_the_kl_estimate_averaged_over_the_policy_is_the_kl():
    p, q = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64), torch.tensor([0.3, 0.3, 0.4], dtype=torch.float64)
    expected = sum(a * math.log(a / b) for a, b in [(0.7, 0.3), (0.2, 0.3), (0.1, 0.4)])
    assert (p * kl_to_reference(p.log(), q.log())).sum().item() == pytest.approx(expected)


def test_the_token_sum_ignores_nan_outside_the_mask_and_is_zero_for_an_empty_one():
    values_N = torch.tensor([NAN, 1.5, 2.0, NAN], requires_grad=True)
    mask_N = torch.tensor([False, True, True, False])
    total = token_sum(values_N, mask_N)
    total.backward()
    assert total.item() == 3.5
    assert values_N.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    assert token_sum(values_N, torch.zeros_like(mask_N)).item() == 0.0


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
