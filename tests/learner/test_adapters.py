"""Adapters beside a frozen model: they alone are trained, the engine samples with them, and what is left is a model."""

import asyncio
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.protocol import Sampling
from thor_tir.engines.vllm.weights import ByPath
from thor_tir.errors import UsageError
from thor_tir.learner.checkpoint import load_checkpoint, save_checkpoint
from thor_tir.learner.config import AdapterConfig
from thor_tir.learner.forward import row_logprobs
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.learner.trainable import merged, with_adapters
from thor_tir.pretrained import plain_weights
from tiny_models import tiny_model, tiny_tokenizer
from tiny_rows import NAN, mixed_rows, random_row

IDS = tuple(tiny_tokenizer().encode("What is the sum of all primes below 20?"))


def learner_of(*, rank: int = 4) -> Learner:
    model = with_adapters(tiny_model(sharpness=1.0), AdapterConfig(lora_r=rank))
    return Learner(model, LearnerConfig(learning_rate=1e-2))


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([IDS])).logits


def test_fresh_adapters_change_nothing_and_rank_zero_means_none():
    model = tiny_model()
    before = logits(model)
    assert with_adapters(model, AdapterConfig()) is model
    assert torch.equal(logits(with_adapters(model, AdapterConfig(lora_r=4))), before)


def test_training_moves_the_adapters_and_leaves_the_model_beneath_alone():
    learner = learner_of()
    frozen = {n: p.clone() for n, p in learner.model.named_parameters() if "lora_" not in n}
    before = logits(learner.model)
    learner.step(mixed_rows())
    learner.step(mixed_rows())
    assert not torch.allclose(logits(learner.model), before)
    assert all(torch.equal(p, frozen[n]) for n, p in learner.model.named_parameters() if n in frozen)
    assert all("lora_" in name for name in learner.weights)


def test_the_merged_model_is_a_folder_like_any_other_and_computes_the_same(tmp_path):
    learner = learner_of()
    learner.step(mixed_rows())
    with_them = logits(learner.model)
    merged(learner.model).save_pretrained(tmp_path)
    alone = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert not [name for name, _ in alone.named_parameters() if "lora" in name]
    torch.testing.assert_close(logits(alone), with_them, rtol=1e-5, atol=1e-5)


def test_the_engine_samples_from_the_weights_that_the_learner_trains():
    learner = learner_of()
    learner.step(mixed_rows())

    async def sample():
        async with TransformersEngine(learner.model, tiny_tokenizer()) as engine:
            return await engine.sample(IDS, Sampling(max_tokens=12))

    span = asyncio.run(sample()).span
    row = TrainingSample(
        id="sampled",
        token_ids=(*IDS, *span.token_ids),
        trained=(False,) * len(IDS) + (True,) * len(span.token_ids),
        old_logprobs=(NAN,) * len(IDS) + tuple(span.logprobs),
        terms=(Term(name="sft", formula="nll"),),
    )
    trainer = row_logprobs(learner.model, [row], micro_batch_tokens=100)["sampled"][len(IDS) :]
    assert span.logprobs == pytest.approx(trainer, abs=1e-5)


def test_a_run_with_adapters_goes_on_bit_for_bit(tmp_path):
    whole, first = learner_of(), learner_of()
    for learner in (whole, first):
        learner.step(mixed_rows())
    path = save_checkpoint(tmp_path, first)
    assert not (path / "model" / "model.safetensors").exists()  # the model beneath is not written again
    resumed = learner_of()
    load_checkpoint(path, resumed)
    rows = [random_row(seed, [Term(name="sft", formula="nll")]) for seed in range(3)]
    assert resumed.step(rows).loss == whole.step(rows).loss
    assert torch.equal(logits(resumed.model), logits(whole.model))


def test_a_checkpoint_of_other_adapters_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, learner_of())
    with pytest.raises(UsageError, match="cannot be loaded into this model"):
        load_checkpoint(path, learner_of(rank=8))


def test_without_peft_one_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)  # so that importing it fails
    with pytest.raises(
        UsageError, match=r"an adapter .* needs peft, which is not installed: pip install '\.\[lora\]'"
    ) as e:
        with_adapters(tiny_model(), AdapterConfig(lora_r=4))
    assert "\n" not in str(e.value)


def loaded(folder: Path) -> torch.nn.Module:
    """A model from the files of a folder as a server reads them: all that there are, by no index."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    found = {name: each for path in folder.glob("*.safetensors") for name, each in load_file(path).items()}
    model.load_state_dict(found, strict=False)
    assert found.keys() == dict(model.named_parameters()).keys()
    return model.eval()


def test_a_server_that_knows_no_adapters_gets_a_folder_of_the_sums(tmp_path):
    learner = learner_of()
    learner.step(mixed_rows())
    expected, before = logits(learner.model), {n: p.clone() for n, p in learner.model.named_parameters()}
    files = ByPath(learner.model, tiny_tokenizer(), tmp_path)
    files.write_model()
    torch.testing.assert_close(logits(loaded(tmp_path)), expected, rtol=1e-5, atol=1e-5)
    assert all(torch.equal(p, before[n]) for n, p in learner.model.named_parameters())
    learner.step(mixed_rows())
    asyncio.run(files.prepare("run:1"))
    torch.testing.assert_close(logits(loaded(tmp_path)), logits(learner.model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("is_adapted", [False, True])
def test_plain_weights_have_the_names_of_the_model_without_adapters(is_adapted):
    model = learner_of().model if is_adapted else tiny_model(sharpness=1.0)
    assert [name for name, _ in plain_weights(model)] == [name for name, _ in tiny_model().named_parameters()]
