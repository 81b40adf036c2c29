"""The memory of a run before it runs, beside what the trainer and the engine really allocate."""

import json
from pathlib import Path

import pytest
import torch

from thor_tir import commands
from thor_tir.app import memory
from thor_tir.app.memory import (
    ACTIVATIONS,
    CACHE,
    GATHERED,
    GRADIENTS,
    OPTIMIZER,
    WEIGHTS,
    Shape,
    _Allocated,
    _row,
    sampling_memory,
    training_memory,
)
from thor_tir.engines.loading import load_model, model_config
from thor_tir.engines.local.kv_cache import SlotCache
from thor_tir.learner.config import AdapterConfig
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.rl.config import RLConfig

SHAPE = Shape(rows=4, tokens=128, trained=100)
WITHIN = 0.25
"""Share of what is allocated by which the model may be above it; below it, it is no bound."""


@pytest.mark.parametrize(("checkpointing", "bf16"), [(False, False), (True, False), (True, True)])
def test_the_parts_are_what_an_optimiser_step_allocates(
    checkpointing: bool, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through torch alone: norms and gates that run fused keep less, and the parts are a bound then."""
    said = training_memory(model_config("nano/actor"), SHAPE, RLConfig(bf16=bf16, gradient_checkpointing=checkpointing))
    model, _ = load_model("nano/actor", dtype=torch.float32)
    size = model.num_parameters()
    assert (said[WEIGHTS], said[GRADIENTS], said[OPTIMIZER]) == (4 * size, 4 * size, 8 * size)
    config = LearnerConfig(
        learning_rate=1e-6,
        micro_batch_tokens=SHAPE.rows * SHAPE.tokens,
        shares_prefixes=False,
        bf16=bf16,
        gradient_checkpointing=checkpointing,
    )
    learner = Learner(model, config)
    rows = [_row(SHAPE, number) for number in range(2 * SHAPE.rows)]  # two micro-batches: gradients lie there already
    learner.step(rows[:1])  # from here on the optimiser's moments are there
    with _Allocated() as fused:
        learner.step(rows)
    monkeypatch.setattr("thor_tir.learner.fused._library", lambda: None)
    with _Allocated() as made:
        learner.step(rows)
    assert made.peak <= said[GRADIENTS] + said[ACTIVATIONS] <= (1 + WITHIN) * made.peak
    assert fused.peak <= made.peak


def test_the_cache_is_that_of_the_engine() -> None:
    config = model_config("nano/actor")
    said = sampling_memory(config, rows=3, tokens=200, parked=False)
    cache = SlotCache(num_layers=config.num_hidden_layers, max_num_seqs=3, max_tokens=200)
    cache.reserve(rows=3, tokens=200)
    keys, values = cache.buffers(shared=config.num_key_value_heads, size=config.head_dim, like=torch.zeros(1))
    assert said[CACHE] == keys.untyped_storage().nbytes() + values.untyped_storage().nbytes()
    assert sampling_memory(config, rows=3, tokens=200)[CACHE] == 2 * said[CACHE]  # the same once more for who waits
    assert sampling_memory(config, rows=9, tokens=200, pool=768)[CACHE] == said[CACHE]  # 3 rows of 4 blocks of 64
    assert said[ACTIVATIONS] > 0


def test_processes_share_all_but_the_activations_of_a_model_that_is_not_small(monkeypatch: pytest.MonkeyPatch) -> None:
    one, small = (training_memory(model_config("nano/actor"), SHAPE, RLConfig(), processes=n) for n in (1, 4))
    assert small == one  # each process has all of it
    monkeypatch.setattr(memory, "WHOLE_UP_TO", 0)
    four = training_memory(model_config("nano/actor"), SHAPE, RLConfig(), processes=4)
    assert GATHERED not in one
    assert four.pop(GATHERED) > 0
    assert {part: one[part] // size for part, size in four.items()} == {
        WEIGHTS: 4,
        GRADIENTS: 4,
        OPTIMIZER: 4,
        ACTIVATIONS: 1,
    }


def test_adapters_are_trained_in_place_of_the_model() -> None:
    pytest.importorskip("peft", reason="peft is not installed: adapters need it")
    config = model_config("nano/actor")
    whole, few = (training_memory(config, SHAPE, RLConfig(adapters=AdapterConfig(lora_r=r))) for r in (0, 8))
    added = few[WEIGHTS] - whole[WEIGHTS]
    assert (few[GRADIENTS], few[OPTIMIZER]) == (added, 2 * added)
    assert 0 < added < whole[WEIGHTS] // 8


LARGE = {
    "model_type": "qwen3",
    "vocab_size": 32_000,
    "hidden_size": 1024,
    "intermediate_size": 2048,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "max_position_embeddings": 4096,
}


def planned(capsys: pytest.CaptureFixture[str], *argv: str) -> dict[str, str]:
    """The rows that a dry run prints, by their names."""
    commands.run(argv[0], [*argv[1:], "--dry-run"])
    said = capsys.readouterr().out
    assert "dry run: nothing is loaded, sampled or written" in said
    return {" ".join(line.split("  ")[0].split()): line for line in map(str.strip, said.splitlines()) if line}


def test_a_dry_run_needs_no_weights_says_the_arithmetic_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from thor_tir.engines.loading import EMBEDDED

    model = tmp_path / "model"
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (model / name).write_bytes((EMBEDDED["nano/actor"] / name).read_bytes())
    (model / "config.json").write_text(json.dumps(LARGE))
    monkeypatch.chdir(tmp_path)
    few = ("--problems", "reasoning_gym:gcd", "--count", "40")
    rows = planned(capsys, "rl", "--preset", "paper", "--model", "model", *few)
    assert "128 of 16 trajectories, and at most 128 of 16 repairs" in rows["groups a round"]
    assert "at most 4,096, 4,096 an optimiser step" in rows["rows a round"]
    assert "40, each with 1 optimiser steps: 40 in all" in rows["rounds"]
    assert "at most 163,840 in all" in rows["generations"]
    prompt = int(rows["problems"].split("prompt ")[1].split()[0])
    assert f"in responses of at most {4096 - prompt:,}" in rows["tokens a round"]  # the model's context
    assert {"weights", "gradients", "optimizer", "activations", "KV cache", "together, at most"} <= rows.keys()
    assert any(name.startswith("Python, torch and what was read") for name in rows)
    evaluated = planned(capsys, "eval", "--model", "nano/actor", "--limit", "6", "--samples", "3")
    assert "18, 3 a problem" in evaluated["generations"]
    tirgen = planned(capsys, "tirgen", *few)
    assert {"actor, weights", "critic, KV cache"} <= tirgen.keys()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
