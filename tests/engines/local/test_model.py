from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from thor_tir.engines.local.model import NAME, decode_attention, decoding
from tiny_models import tiny_model


@pytest.mark.parametrize(("heads", "shared"), [(4, 4), (4, 2), (6, 1)])
def test_one_query_a_row_attends_as_the_fused_kernel_does(heads, shared):
    torch.manual_seed(0)
    query = torch.randn(3, heads, 1, 8)
    key, value = torch.randn(3, shared, 10, 8), torch.randn(3, shared, 10, 8)
    is_hidden = torch.arange(10) > torch.tensor([2, 9, 5])[:, None]
    mask = torch.zeros(3, 10).masked_fill(is_hidden, torch.finfo(torch.float32).min)[:, None, None]
    expected = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3, enable_gqa=True)
    mixed, _ = decode_attention(SimpleNamespace(), query, key, value, mask, scaling=0.3)
    torch.testing.assert_close(mixed, expected.transpose(1, 2))


def test_several_queries_a_row_go_to_the_implementation_replaced():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    mask = torch.zeros(2, 1, 5, 5).masked_fill(torch.ones(5, 5).triu(1).bool(), -1e9)
    mixed, _ = decode_attention(SimpleNamespace(), query, key, value, mask)
    torch.testing.assert_close(mixed, scaled_dot_product_attention(query, key, value, is_causal=True).transpose(1, 2))


def test_the_config_asks_for_it_only_while_decoding_even_when_that_fails():
    config = tiny_model().config
    assert config._attn_implementation == "sdpa"
    seen = []

    def fail() -> None:
        with decoding(config):
            seen.append(config._attn_implementation)
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fail()
    assert [*seen, config._attn_implementation] == [NAME, "sdpa"]


def test_a_model_that_asks_for_another_implementation_keeps_it():
    config = SimpleNamespace(_attn_implementation="eager")
    with decoding(config):
        assert config._attn_implementation == "eager"
