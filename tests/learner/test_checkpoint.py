"""A run that is stopped and continued is the run that was not stopped."""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from tiny_rows import mixed_rows
from transformers import AutoTokenizer, PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from thor_tir.faults import UsageError
from thor_tir.learner.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.schedule import Schedule
from tiny_models import tiny_model, tiny_tokenizer


def tied_model() -> PreTrainedModel:
    """With dropout in the attention, so that continuing needs the random states, and one tensor under two names."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    return Qwen3ForCausalLM(
        Qwen3Config(vocab_size=64, tie_word_embeddings=True, attention_dropout=0.2, **shape, **heads)
    )


def learner_of(model: PreTrainedModel) -> Learner:
    return Learner(model, LearnerConfig(learning_rate=1e-2, schedule=Schedule(warmup_steps=3, decay_steps=8)))


def run(learner: Learner, num_steps: int) -> None:
    """Steps on rows that Python's random state shuffles."""
    for _ in range(num_steps):
        rows = mixed_rows()
        learner.step(random.sample(rows, 5))


def same_weights(one: Learner, other: Learner) -> bool:
    pairs = zip(one.model.parameters(), other.model.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("make_model", [tied_model, tiny_model])
def test_two_steps_a_restart_and_two_more_are_four_steps_bit_for_bit(make_model, tmp_path):
    whole, first = learner_of(make_model()), learner_of(make_model())
    random.seed(1)
    torch.manual_seed(1)
    run(whole, 4)
    random.seed(1)
    torch.manual_seed(1)
    run(first, 2)
    path = save_checkpoint(tmp_path, first, extra={"round": 2})

    resumed = learner_of(make_model())
    run(resumed, 1)  # weights, optimiser and random states are now others
    assert load_checkpoint(path, resumed) == {"round": 2}
    run(resumed, 2)
    assert resumed.num_steps == whole.num_steps == 4
    assert same_weights(resumed, whole)


def test_the_model_folder_is_a_model_of_its_own_with_its_tokenizer(tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner, tokenizer=tiny_tokenizer())
    loaded = Qwen3ForCausalLM.from_pretrained(path / "model")
    assert same_weights(learner, learner_of(loaded))
    text = "print(1)"
    assert AutoTokenizer.from_pretrained(path / "model").encode(text) == tiny_tokenizer().encode(text)


def test_the_newest_is_found_by_order_of_saving_and_older_ones_are_removed(tmp_path):
    learner = learner_of(tiny_model())
    assert newest_checkpoint(tmp_path) is None
    paths = [save_checkpoint(tmp_path, learner, extra={"save": i}, keep=2) for i in range(3)]
    assert len(set(paths)) == 3  # the same step three times: nothing is overwritten
    assert newest_checkpoint(tmp_path) == paths[-1]
    assert sorted(tmp_path.iterdir()) == paths[1:]


def test_a_kill_between_writing_and_renaming_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    learner = learner_of(tiny_model())
    old = save_checkpoint(tmp_path, learner, extra={"save": "old"})
    run(learner, 1)

    def killed(_source: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path, learner, extra={"save": "new"})
    assert len(list(tmp_path.iterdir())) == 2  # the old one and what the kill left
    assert newest_checkpoint(tmp_path) == old
    assert load_checkpoint(old, learner) == {"save": "old"}
    new = save_checkpoint(tmp_path, learner)
    assert sorted(tmp_path.iterdir()) == [old, new]  # the next save clears the leftovers


@pytest.mark.parametrize("file", ["model/model.safetensors", "learner.pt", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "missing", "garbled"])
def test_a_damaged_checkpoint_is_told_in_one_sentence(file, damage, tmp_path):
    learner = learner_of(tiny_model())
    path = save_checkpoint(tmp_path, learner)
    target = path / file
    blob = target.read_bytes()
    match damage:
        case "truncated":
            target.write_bytes(blob[: len(blob) // 2])
        case "missing":
            target.unlink()
        case "garbled":
            target.write_bytes(b"\xff" * len(blob))
    with pytest.raises(UsageError, match=r"^the checkpoint .* delete it") as caught:
        load_checkpoint(path, learner)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path):
    path = save_checkpoint(tmp_path, learner_of(tiny_model()))
    with pytest.raises(UsageError, match="cannot be loaded into this model"):
        load_checkpoint(path, learner_of(tied_model()))


def test_what_the_caller_saves_beside_it_is_readable_json(tmp_path):
    path = save_checkpoint(tmp_path, learner_of(tiny_model()), extra={"seen": ["a", "b"]})
    assert json.loads((path / "manifest.json").read_text())["extra"] == {"seen": ["a", "b"]}
    shutil.rmtree(path)
    assert newest_checkpoint(tmp_path) is None
