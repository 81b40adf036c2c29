"""The quick forward pass against the model it stands for, and the models it must leave alone."""

import logging

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine_cases import GREEDY, TEXTS, encoded, engine_of, sample_all, tokens
from thor_tir.engines.local.fast_decoder import attend, decoder_of, rotated
from thor_tir.engines.local.kv_cache import SlotCache
from thor_tir.engines.local.model import CachedModel
from thor_tir.engines.protocol import Sampling
from tiny_models import tiny_model

FAMILIES = ["qwen3", "qwen2", "llama", "mistral"]


def scrambled(kind: str) -> torch.nn.Module:
    """A tiny model whose norms and biases are random too: none of them may be overlooked."""
    model = tiny_model(kind, sharpness=1.0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def is_quick(model) -> bool:
    cache = SlotCache(num_layers=model.config.num_hidden_layers, max_num_seqs=2, max_tokens=64)
    return decoder_of(model, cache, max_model_len=64) is not None


@pytest.mark.parametrize("kind", FAMILIES)
def test_logprobs_of_every_turn_equal_those_of_a_full_forward_to_1e_5(kind):
    model = scrambled(kind)
    assert is_quick(model)
    asks = [(encoded(text), Sampling(max_tokens=30, seed=i)) for i, text in enumerate(TEXTS)]
    engine = engine_of(model)
    contexts = [
        [*ids, *tokens(completion), *encoded("77\n")]
        for (ids, _), completion in zip(asks, sample_all(engine, asks), strict=True)
    ]
    later = [(context, Sampling(max_tokens=20)) for context in contexts]
    for (prompt, _), completion in zip(later, sample_all(engine, later), strict=True):
        ids = torch.tensor([[*prompt, *completion.span.token_ids]])
        with torch.no_grad():
            logp_TV = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logp_TV.gather(1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.span.logprobs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", FAMILIES)
def test_logits_and_stored_keys_equal_the_models_own_pass_in_double_precision(kind):
    model = scrambled(kind).double()
    quick, plain = (CachedModel(model, max_num_seqs=4, max_model_len=64) for _ in range(2))
    plain._decoder, plain._is_tried = None, True
    pieces = [[3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13]]
    with torch.inference_mode():
        for cached in (quick, plain):
            cached.prefill(0, pieces, [0, 0, 0])
            cached.prefill(1, [[20, 21, 22], [23]], [2, 3])
        found, expected = (cached.decode([1, 2, 3], [6, 5, 4]) for cached in (quick, plain))
        assert quick._decoder is not None
        assert plain._decoder is None
        torch.testing.assert_close(found, expected, atol=5e-6, rtol=0)  # models compute norms in float32
        for row, length in enumerate((7, 6, 5)):
            for ours, theirs in zip(quick.cache.copy_out(row, length), plain.cache.copy_out(row, length), strict=True):
                torch.testing.assert_close(ours, theirs, atol=5e-6, rtol=0)


def test_tied_embeddings_and_weights_in_half_precision_are_read_as_they_are():
    config = tiny_model().config
    config.tie_word_embeddings = True
    assert is_quick(type(tiny_model())(config).eval())
    assert is_quick(tiny_model().bfloat16())


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])
def test_another_family_is_decoded_through_its_own_forward_pass(kind):
    model = tiny_model(kind)
    assert not is_quick(model)
    [completion] = sample_all(engine_of(model), [(encoded(TEXTS[0]), GREEDY)])
    ids = torch.tensor([encoded(TEXTS[0])])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
    assert tokens(completion) == expected[0, ids.shape[1] :].tolist()


class Adapted(torch.nn.Linear):
    """A projection with something added, as adapters make them."""


def adapted(model):
    attention = model.model.layers[0].self_attn
    attention.q_proj = Adapted(attention.q_proj.in_features, attention.q_proj.out_features, bias=False)
    return model


def hooked(model):
    model.model.layers[1].register_forward_hook(lambda module, inputs, output: output)
    return model


def with_output_bias(model):
    return LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "attention_bias": True})).eval()


def with_positions_that_stretch(model):
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    return LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "rope_parameters": rope})).eval()


@pytest.mark.parametrize("change", [adapted, hooked, with_output_bias, with_positions_that_stretch])
def test_a_changed_model_of_a_known_family_is_left_alone(change):
    assert is_quick(tiny_model("llama"))
    assert not is_quick(change(tiny_model("llama")))


def test_a_model_that_computes_something_else_is_found_out_and_reported_once(caplog):
    model = tiny_model()
    norm = model.model.norm
    norm.forward = lambda hidden: 1.01 * type(norm).forward(norm, hidden)
    with caplog.at_level(logging.WARNING):
        [completion] = sample_all(engine_of(model), [(encoded(TEXTS[0]), GREEDY)])
    [record] = caplog.records
    assert "logits of Qwen3ForCausalLM differ by 0.01" in record.getMessage()
    with torch.no_grad():
        logp_V = model(torch.tensor([encoded(TEXTS[0])])).logits[0, -1].log_softmax(-1)
    assert completion.span.logprobs[0] == pytest.approx(logp_V.max().item(), abs=1e-5)


def test_rotation_turns_each_half_by_the_angle_of_its_position():
    # one head of two halves (3, 4) turned by 90 degrees: (a, b) becomes (-b, a)
    turned = rotated(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[0.0, 0.0]]]), torch.tensor([[[1.0]]]))
    assert turned.flatten().tolist() == [-4.0, 3.0]


@pytest.mark.parametrize("cuts", [[3], [1, 2]], ids=["one block", "two"])
def test_one_query_a_row_mixes_the_values_it_may_see_by_the_softmax_of_its_scores(cuts):
    # scores 0 and ln 3 give weights 1/4 and 3/4; the third key is hidden; two heads share keys and values
    query = torch.tensor([[[1.0], [0.0]]])
    key = torch.tensor([0.0, 3.0, 50.0]).log1p().sub(torch.tensor([0.0, torch.log(torch.tensor(4 / 3)), 0.0]))
    value = torch.tensor([8.0, 4.0, 1000.0])
    mask = torch.tensor([[[0.0, 0.0, torch.finfo(torch.float32).min]]])
    keys, values = (torch.split(states.view(1, 1, 3, 1), cuts, dim=2) for states in (key, value))
    mixed = attend(query, keys, values, mask)
    torch.testing.assert_close(mixed, torch.tensor([[5.0, 6.0]]))  # 8/4 + 4 * 3/4; (8 + 4) / 2
