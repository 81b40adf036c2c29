"""Float32 products stay float32 whichever library makes them."""

import pytest
import torch

from thor_tir import products
from thor_tir.products import product_dtype, quick_products


def test_products_have_the_error_of_float32_and_the_setting_is_left_as_it_was_found():
    a, b = torch.randn(2, 48, 48, generator=torch.Generator().manual_seed(1))
    before = torch.backends.mkldnn.matmul.fp32_precision
    with quick_products():
        found = a @ b
    expected = a.double() @ b.double()
    assert (found - expected).abs().max() < 2e-6 * expected.abs().max()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


def test_whoever_leaves_last_leaves_the_setting_as_the_first_found_it():
    """Two threads that overlap, as their contexts are entered and left."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    one, other = products._precision("bf16"), products._precision("bf16")
    one.__enter__()
    other.__enter__()
    one.__exit__(None, None, None)
    other.__exit__(None, None, None)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize(("is_exact", "expected"), [(True, "bf16"), (False, "none")])
def test_the_permission_is_given_only_where_a_trial_found_float32(monkeypatch, is_exact, expected):
    monkeypatch.setattr(products, "_is_exact", lambda: is_exact)
    before = torch.backends.mkldnn.matmul.fp32_precision
    with quick_products():
        assert torch.backends.mkldnn.matmul.fp32_precision == (expected if is_exact else before)


def test_a_processor_that_rounds_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert products._is_exact.__wrapped__() is False


def test_the_type_of_a_product_is_that_of_an_autocast_or_of_the_factor():
    assert product_dtype(torch.zeros(1, dtype=torch.float64)) == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product_dtype(torch.zeros(1)) == torch.bfloat16
