"""Products in bfloat16: models that are only sampled from are loaded so, and RL samples in what it multiplies in."""

import asyncio
import json
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from scripted_agent import FakeSandbox
from thor_tir.app.config import ResourceConfig, quickstart
from thor_tir.app.runtime import Runtime
from thor_tir.app.stages import rl as stage
from thor_tir.console import ConsoleReporter
from thor_tir.engines.loading import load_model
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.options import EngineOptions
from thor_tir.problem import Problem, write_problems
from thor_tir.rl.train import _scoring_model
from thor_tir.verdict import Outcome, Verdict

SILENT = ConsoleReporter(Console(file=StringIO()))


async def judged(problem: Problem, text: str) -> Verdict:
    outcome = Outcome.CORRECT if len(text) % 2 else Outcome.WRONG
    return Verdict(outcome=outcome, extracted=None, reason="")


def runtime_of(**engine: object) -> Runtime:
    resources = ResourceConfig(engine=EngineOptions(num_threads=1, **engine))
    return Runtime(resources, FakeSandbox(), SimpleNamespace(grade=judged))


def test_a_model_that_is_only_sampled_from_is_loaded_in_the_type_that_the_engine_is_asked_for():
    async def dtype_of(runtime: Runtime) -> torch.dtype:
        async with runtime.load("nano/actor", ServedAs(), SILENT) as loaded:
            return loaded.model.dtype

    assert asyncio.run(dtype_of(runtime_of(bf16=True))) is torch.bfloat16
    assert asyncio.run(dtype_of(runtime_of())) is torch.float32


class Asked(Exception):
    """A model was asked for, with these options."""


def asked(name: str, **options: object) -> None:
    raise Asked(options)


def test_models_that_servers_sample_from_stay_in_the_hosts_memory_and_leave_gpus_to_the_servers(monkeypatch):
    async def load(runtime: Runtime) -> None:
        async with runtime.load("nano/actor", ServedAs(), SILENT):
            pass

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("thor_tir.app.runtime.load_model", asked)
    monkeypatch.setattr(stage, "load_model", asked)
    for name, device in (("vllm", "cpu"), ("local", None)):
        with pytest.raises(Asked) as found:
            asyncio.run(load(runtime_of(name=name)))
        assert found.value.args[0]["device"] == device
        assert found.value.args[0]["dtype"] == (torch.bfloat16 if device else None)
        with pytest.raises(Asked) as found:
            stage._replica("nano/actor", replace(quickstart().rl, bf16=True), name)
        assert found.value.args[0] == {"dtype": torch.bfloat16, "device": device}


def test_rows_are_read_again_by_the_model_on_the_gpu():
    config = quickstart().rl
    on_gpu, beside = (SimpleNamespace(device=torch.device(kind)) for kind in ("cuda:1", "cpu"))
    for replica, scoring in ((None, on_gpu), (beside, on_gpu), (SimpleNamespace(device=on_gpu.device), None)):
        inputs = SimpleNamespace(model=on_gpu, replica=replica)
        assert _scoring_model(inputs, config) is (scoring or replica)
    assert _scoring_model(inputs, replace(config, max_staleness=1)) is on_gpu


def test_rl_in_bfloat16_samples_from_a_copy_in_that_type_and_leaves_the_weights_that_were_trained(
    tmp_path, monkeypatch
):
    write_problems(
        tmp_path / "p.jsonl", [Problem(id=f"p{n}", question=f"{n} + 1?", answer="", source="") for n in "12"]
    )
    nano, sampled = quickstart(), []
    rl = replace(
        nano.rl, num_rounds=1, problems_per_round=2, levels="episode", bf16=True, validate_every=0, save_dtype="float32"
    )
    rl = replace(
        rl,
        episode=replace(rl.episode, num_generations=4, filters=()),
        rollout=replace(rl.rollout, max_completion_length=12, max_tool_calling_iterations=0),
    )
    config = replace(nano, problems=str(tmp_path / "p.jsonl"), rl=rl)
    opened = Runtime.engine

    def noted(self, model, *args, **options):
        sampled.append(model.dtype)
        return opened(self, model, *args, **options)

    monkeypatch.setattr(Runtime, "engine", noted)
    folder = asyncio.run(stage.reinforce(config, "nano/actor", tmp_path / "run", runtime_of(), SILENT))
    assert sampled == [torch.bfloat16]
    (row,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert row["levels"]["episode"]["mismatch"]["mean_log_ratio"] < 0.05
    before = load_model("nano/actor")[0].state_dict()
    after = load_file(folder / "model.safetensors")
    moved = [name for name in after if not torch.equal(after[name], before[name])]
    assert moved
    assert all(after[name].dtype is torch.float32 for name in moved)
    finer = after[moved[0]]
    assert not torch.equal(finer, finer.to(torch.bfloat16).float())  # the copy to sample from would be rounded
