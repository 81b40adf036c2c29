"""Pretraining resumes to the same weights, reads training problems only, and leaves a model that others can load."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from nano_models import pretrain as module
from nano_models.corpus import Document, MixtureConfig
from nano_models.pretrain import PretrainConfig, pretrain
from thor_tir.engines.loading import EMBEDDED, load_model
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, split_of
from thor_tir.progress import Unseen

TINY = PretrainConfig(
    num_steps=103, batch_tokens=400, num_problems=24, width=16, layers=1, heads=2, vocab_size=300, checkpoint_every=40
)
"""As few steps as the learning rate's warm-up of 100 allows."""
MAX_BYTES = 8_000_000
"""Of a committed model."""


class KilledAt(Unseen):
    """Progress that dies after so many steps, as a killed process does."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.done = 0

    def resume(self, units: int) -> None:
        self.done += units

    def advance(self, units: int = 1) -> None:
        self.done += units
        if self.done == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return pretrain(TINY, folder / "model", folder / "work")


def weights(model: Path) -> dict[str, Any]:
    return load_file(model / "model.safetensors")


def test_a_killed_run_goes_on_to_the_weights_of_an_uninterrupted_one(uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        pretrain(TINY, tmp_path / "model", tmp_path / "work", KilledAt(45))
    assert not (tmp_path / "model").exists()  # nothing half-written
    resumed = KilledAt(-1)
    again = pretrain(TINY, tmp_path / "model", tmp_path / "work", resumed)
    expected = weights(uninterrupted)
    assert weights(again).keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in weights(again).items())
    assert resumed.done == 103  # 40 taken over from the checkpoint, 63 done now, five of them for the second time
    told = [json.loads((model / "pretraining.json").read_text()) for model in (uninterrupted, again)]
    assert {**told[0], "seconds": 0} == {**told[1], "seconds": 0}  # tokens and loss count the part before the kill


def test_the_model_is_small_in_bfloat16_and_says_what_it_is(uninterrupted: Path) -> None:
    with safe_open(uninterrupted / "model.safetensors", "pt") as tensors:
        assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}  # noqa: SIM118
    card = (uninterrupted / "README.md").read_text(encoding="utf-8")
    assert "`python -m nano_models --role actor --num-steps 103 --seed 0`" in card
    assert json.loads((uninterrupted / "config.json").read_text())["model_type"] == "qwen3"
    assert json.loads((uninterrupted / "pretraining.json").read_text())["config"]["width"] == 16


def test_the_written_model_loads_by_its_path_like_any_other(uninterrupted: Path) -> None:
    model, tokenizer = load_model(str(uninterrupted), device="cpu")
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.get_input_embeddings().weight.shape == (len(tokenizer), 16)


def test_by_default_a_model_stays_below_the_limit_of_a_committed_one(uninterrupted: Path) -> None:
    config = PretrainConfig()
    # Four matrices of attention (4 w^2) and three of the feed-forward net (9 w^2) a layer, one tied embedding.
    parameters = config.layers * 13 * config.width**2 + config.vocab_size * config.width
    assert 2 * parameters < MAX_BYTES  # two bytes each; norms and the header are a few thousand more
    # The same count for the tiny model, whose norms are three of width 16 and two of head width 8, checks the formula.
    tiny = sum(tensor.numel() for tensor in weights(uninterrupted).values())
    embedding = weights(uninterrupted)["model.embed_tokens.weight"].numel()
    assert tiny == TINY.layers * 13 * 16**2 + embedding + 3 * 16 + 2 * 8


@pytest.mark.parametrize("name", sorted(EMBEDDED))
def test_the_weights_that_the_package_carries_are_below_the_limit(name: str) -> None:
    path = EMBEDDED[name] / "model.safetensors"
    if not path.exists():
        pytest.skip(f"{name} is not in this tree; tools/nano_models makes it")
    assert path.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("role", ["actor", "critic", "thinker"])
def test_pretraining_reads_problems_of_the_training_split_only(
    role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Problem] = []
    name = f"{role}_documents"
    original = getattr(module, name)

    def watched(problems: Sequence[Problem], rng: Random, mix: MixtureConfig) -> Iterator[Document]:
        read.extend(problems)
        return original(problems, rng, mix)

    monkeypatch.setattr(module, name, watched)
    monkeypatch.setitem(module._DOCUMENTS, role, watched)
    with pytest.raises(KeyboardInterrupt):
        pretrain(replace(TINY, role=role), tmp_path / "model", tmp_path / "work", KilledAt(1))
    assert len(read) >= 2 * 24  # for the tokenizer, then for each pool of documents
    assert {split_of(problem.question) for problem in read} == {Split.TRAIN}
