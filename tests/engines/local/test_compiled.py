"""The compiled decoding step against the same step through torch, and where it is not to be had."""

import asyncio
import hashlib
import logging
import tempfile

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from engine_cases import GREEDY, TEXTS, encoded, engine_of, sample_all, tokens
from processors import forget
from thor_tir.engines.local import compiled
from thor_tir.engines.local.model import CachedModel
from thor_tir.engines.local.sampling import Draws, draw
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault
from thor_tir.native import library
from tiny_models import tiny_model

pytestmark = pytest.mark.skipif(compiled.library(is_half=False) is None, reason="no C compiler on this machine")

UNEVEN = {
    "hidden_size": 40,
    "intermediate_size": 90,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 34,
}
"""Widths that no vector divides."""
PIECES = [[3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13]]


def uneven() -> torch.nn.Module:
    config = Qwen3Config(**{**tiny_model().config.to_dict(), **UNEVEN})
    torch.manual_seed(3)
    return Qwen3ForCausalLM(config).eval()


def long_model() -> torch.nn.Module:
    """As wide as to need several parts of a row of weights."""
    config = Qwen3Config(**{**tiny_model().config.to_dict(), "intermediate_size": 1600})
    torch.manual_seed(4)
    return Qwen3ForCausalLM(config).eval()


@torch.inference_mode()
def read(model, **config) -> CachedModel:
    cached = CachedModel(model, max_num_seqs=4, max_model_len=256, **config)
    cached.prefill(0, PIECES, [0] * len(PIECES))
    return cached


MODELS = [tiny_model, lambda: tiny_model("qwen2"), lambda: tiny_model("llama"), uneven, long_model]


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("make", MODELS, ids=["qwen3", "qwen2", "llama", "uneven", "long"])
def test_logits_and_what_is_stored_are_those_of_torch(make):
    model = make()
    quick, plain = read(model), read(model, compiles=False)
    with torch.inference_mode():
        for step in range(70):  # into the second block
            ids, positions = [1 + step, 2, 3], [6 + step, 2 + step, 3 + step]
            found, expected = (cached.decode(ids, positions) for cached in (quick, plain))
            torch.testing.assert_close(found, expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
        for ours, theirs in zip(quick.cache.copy_out(1, 72), plain.cache.copy_out(1, 72), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("make", [tiny_model, uneven])
def test_the_bits_of_a_row_depend_neither_on_the_others_nor_on_threads(make):
    model, threads = make(), torch.get_num_threads()
    together, apart = read(model), read(model)
    try:
        torch.set_num_threads(3)
        with torch.inference_mode():
            all_three = together.decode([1, 2, 3], [6, 2, 3])
            torch.set_num_threads(1)
            assert torch.equal(apart.decode([1], [6]), all_three[:1])
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def test_keys_and_values_read_at_another_row_give_the_same_bits():
    shared = [(7 + 31 * place) % 300 for place in range(101)]
    rows = [[*shared, 1], [*shared[:90], 5, 6], [*shared, 9, 10, 11], [2, 3]]
    cached = CachedModel(tiny_model(), max_num_seqs=4, max_model_len=256)
    for row, ids in enumerate(rows):
        cached.prefill(row, [ids], [0])
    # one row read what is lent: its keys are the same numbers only if they were computed alike
    for row in (1, 2):
        states = cached.cache.copy_out(0, 90)
        cached.cache.copy_in(row, states, 90)
    asks = [1, 2, 3, 4], [len(ids) for ids in rows]
    expected = cached.decode(*asks)
    for row, ids in enumerate(rows):
        cached.cache.loans.enter(row, ids[:90])
    assert cached.cache.loans.lent_S.tolist() == [0, 90, 90, 0]
    assert torch.equal(cached.decode(*asks), expected)


def test_a_group_of_one_prompt_writes_what_each_would_write_alone():
    ids = encoded(TEXTS[2])
    asks = [(ids, Sampling(max_tokens=20 + seed, seed=seed)) for seed in range(6)]
    together = sample_all(engine_of(), asks)
    alone = [sample_all(engine_of(compiled=False), [ask])[0] for ask in asks]
    assert [tokens(c) for c in together] == [tokens(c) for c in alone]


@pytest.mark.usefixtures("processor")
@pytest.mark.parametrize("vocabulary", [5, 320, 4097])
def test_drawing_takes_the_tokens_that_torch_takes(vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    logits_BV = 3 * torch.randn(40, vocabulary, generator=generator)
    logits_BV[1, : vocabulary // 2] = float("-inf")
    uniforms = [0.0, 0.0, 1 - 2.0**-53, *torch.rand(37, generator=generator, dtype=torch.float64).tolist()]
    samplings = [Sampling(max_tokens=1, temperature=(1.0, 0.7, 0.0)[row % 3]) for row in range(40)]
    draws = Draws.of(samplings, vocabulary=vocabulary, device=torch.device("cpu"))
    tokens, logprobs = read(tiny_model())._decoder.step.draw(logits_BV, draws.plain_B, uniforms)
    token_B, logp_B = draw(logits_BV, draws, torch.tensor(uniforms, dtype=torch.float64))
    assert tokens == token_B.tolist()
    torch.testing.assert_close(torch.tensor(logprobs), logp_B, atol=2e-6, rtol=0)


def test_weights_that_are_no_numbers_end_the_request():
    model = tiny_model()
    with torch.no_grad():
        model.model.layers[0].self_attn.v_proj.weight[0, 0] = float("nan")
    engine = engine_of(model)
    engine._model._decoder, engine._model._is_tried = read(tiny_model())._decoder, True
    engine._model._decoder.step = compiled.compiled_step(
        model, engine._model.cache, (engine._model._decoder._cos_PD[:, :4], engine._model._decoder._sin_PD)
    )

    async def ask() -> None:
        async with engine:
            await engine.sample([5], GREEDY)

    with pytest.raises(EngineFault, match="not numbers"):
        asyncio.run(ask())


def replaced(model) -> None:
    weights = model.model.layers[0].mlp.up_proj
    weights.weight = torch.nn.Parameter(weights.weight.detach() * 3)


def assigned(model) -> None:
    model.load_state_dict({name: 1.5 * value for name, value in model.state_dict().items()}, assign=True)


def redirected(model) -> None:
    for parameter in model.parameters():
        parameter.data = 1.5 * parameter.data


@pytest.mark.parametrize("change", [replaced, assigned, redirected])
@pytest.mark.parametrize("compiles", [True, False])
def test_weights_that_lie_elsewhere_are_read_there(change, compiles):
    model = tiny_model(sharpness=1.0)
    cached, asked = read(model, compiles=compiles), ([3, 5, 7], [6, 2, 3])
    with torch.inference_mode():
        before = cached.decode(*asked).clone()
    change(model)
    with torch.inference_mode():
        cached.prefill(0, PIECES, [0] * len(PIECES))
        found, expected = cached.decode(*asked), read(model, compiles=False).decode(*asked)
    assert (found - before).abs().max() > 1e-3
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_layers_that_are_not_alike_are_decoded_through_torch():
    model = tiny_model()
    narrow = model.model.layers[-1].mlp
    for name in ("gate_proj", "up_proj"):
        part = getattr(narrow, name)
        part.weight, part.out_features = torch.nn.Parameter(part.weight[:8].detach().clone()), 8
    narrow.down_proj.weight = torch.nn.Parameter(narrow.down_proj.weight[:, :8].detach().clone())
    assert compiled.compiled_step(model, None, None) is None


def test_without_a_compiler_torch_decodes_and_a_warning_says_so_once(monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("CC", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    forget()
    try:
        with caplog.at_level(logging.WARNING):
            found = [sample_all(engine_of(), [(encoded(TEXTS[0]), GREEDY)]) for _ in range(2)]
        assert [record.getMessage().split(":")[0] for record in caplog.records] == [
            "going on through torch, which is slower"
        ]
        assert list(tmp_path.glob("**/*.so")) == []
    finally:
        forget()
    expected = sample_all(engine_of(), [(encoded(TEXTS[0]), GREEDY)])
    assert [tokens(c) for [c] in found] == [tokens(c) for c in expected] * 2


def test_a_compiler_that_fails_is_quoted(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'no vectors here' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(OSError, match="no vectors here"):
        library._built("step.c")


def test_a_library_that_is_damaged_or_of_another_system_is_made_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = library._built("train.c")
    whole = path.read_bytes()
    for damaged in (b"", whole[:4096], b"\x7fELF" + whole[4:18] + b"\xb7" + whole[19:]):
        path.write_bytes(damaged)
        assert library._built("train.c").read_bytes() == whole
    assert [each.name for each in (tmp_path / "thor-tir").iterdir()] == [path.name]
    path.unlink()
    foreign = b"\x7fELF, whole, and of a system with the same processor"
    named = path.with_name(f"{path.stem.rpartition('-')[0]}-{hashlib.sha256(foreign).hexdigest()}.so")
    named.write_bytes(foreign)
    library.compiled_library.cache_clear()
    try:
        assert library.compiled_library("train.c") is not None
        assert not named.exists()
    finally:
        library.compiled_library.cache_clear()


def test_a_home_that_nobody_knows_is_no_fault(monkeypatch):
    def unknown() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(library.Path, "home", unknown)
    made = library._built("train.c")
    assert made.exists()
    assert made.is_relative_to(tempfile.gettempdir())


def test_a_compiler_may_have_words_of_its_own_and_any_message(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_bytes(b"#!/bin/sh\necho $1: \xe9 >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -wide")
    with pytest.raises(OSError, match="-wide: \ufffd"):
        library._built("step.c")
