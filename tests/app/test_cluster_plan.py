"""Plans for GPUs that are not here: closed forms of time and memory, and the recipes that ship with the project."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import tyro
from transformers import AutoModelForCausalLM

from thor_tir import commands
from thor_tir.app import memory
from thor_tir.app.chips import CHIPS, ClusterOptions
from thor_tir.app.cluster_plan import ClusterPlan, Decoder, plan_cluster, remedies
from thor_tir.app.known_models import KNOWN, known_config
from thor_tir.commands.config_file import with_config
from thor_tir.commands.options import defaults
from thor_tir.commands.training import Rl
from thor_tir.engines.loading import model_config
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm import opening
from thor_tir.errors import UsageError
from thor_tir.rl.config import RLConfig

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
DECODER = Decoder(
    size=8_000_000_000, token_bytes=147_456, vocabulary=150_000, gpus=1, chip=CHIPS["h100"], rows=64, efficiency=1.0
)


def test_a_step_takes_what_reading_or_computing_takes() -> None:
    alone = DECODER.step_seconds(1, 2048)
    assert alone == pytest.approx((16e9 + 2048 * 147_456) / 3.35e12)
    many = replace(DECODER, token_bytes=0).step_seconds(4096, 2048)
    assert many == pytest.approx(2 * 8e9 * 4096 / 989e12)
    assert replace(DECODER, gpus=2, efficiency=0.5).step_seconds(1, 2048) == pytest.approx(alone)


def test_the_cache_is_what_weights_and_logits_leave() -> None:
    left = 0.9 * 80e9 - 10e9 - 16e9 - 2 * 4 * 64 * 150_000
    assert DECODER.cached(10_000_000_000) == int(left / 147_456)
    assert DECODER.cached(70_000_000_000) == 0


def test_sampling_and_training_apart_share_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "WHOLE_UP_TO", 0)  # as of a model that is not small
    config, rl = model_config("nano/actor"), RLConfig()
    together = plan_cluster(config, rl, ClusterOptions(gpus=4), EngineOptions(), prompt=50, limit=100)
    apart = plan_cluster(config, rl, ClusterOptions(gpus=4, engine_gpus=2), EngineOptions(), prompt=50, limit=100)
    assert set(together.parts) == {"training, vLLM asleep", "sampling"}
    assert "trained weights and moments" in together.parts["sampling"]
    assert "trained weights and moments" not in apart.parts["sampling"]
    assert apart.parts["training"]["weights"] == 2 * together.parts["training, vLLM asleep"]["weights"]
    assert together.fits
    assert apart.fits
    assert sum(together.seconds.values()) > 0
    assert replace(rl, levels="episode").most_samples[1] == 0


@pytest.mark.parametrize(
    ("rl", "cluster", "placement", "said"),
    [
        ({}, {"gpus": 16, "engine_gpus": 4}, "apart", "12 processes train together, and 4 engines sample"),
        ({}, {"gpus": 8}, "apart", "needs --engine.placement colocated"),
        ({}, {"gpus": 8, "engine_gpus": 4}, "colocated", "leave out --engine.placement colocated"),
        ({}, {"gpus": 8, "tensor_parallel": 2}, "colocated", "needs --cluster.engine-gpus"),
        ({"max_staleness": 1}, {"gpus": 8}, "colocated", "--max-staleness samples while others train"),
    ],
)
def test_the_plan_refuses_what_the_run_refuses(rl: Any, cluster: Any, placement: Any, said: str) -> None:
    engine = EngineOptions(name="vllm", placement=placement)
    with pytest.raises(UsageError, match=said):
        plan_cluster(
            model_config("nano/actor"), RLConfig(**rl), ClusterOptions(**cluster), engine, prompt=50, limit=100
        )


def test_processes_may_share_servers_that_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    config, cluster = model_config("nano/actor"), ClusterOptions(gpus=8, engine_gpus=2)
    engine = EngineOptions(name="vllm", address=("http://a:1",))
    assert plan_cluster(config, RLConfig(), cluster, engine, prompt=50, limit=100).fits
    with pytest.raises(UsageError, match="weights by path"):
        plan_cluster(config, RLConfig(), cluster, replace(engine, weights="nccl"), prompt=50, limit=100)
    words = ["--model", "nano/actor", "--dry-run", "--engine.name", "vllm", "--engine.address", "http://a:1"]
    commands.run("rl", [*words, "--processes", "4"])
    assert "1 named, which 4 processes share" in capsys.readouterr().out
    with pytest.raises(UsageError, match="processes that share a server bring weights by path"):
        commands.run("rl", [*words, "--processes", "4", "--engine.weights", "nccl"])


def test_the_plan_reads_the_options_of_the_engine() -> None:
    config, cluster = model_config("nano/actor"), ClusterOptions(gpus=2, engine_gpus=1)

    def plan(rl: RLConfig, **options: Any) -> ClusterPlan:
        return plan_cluster(config, rl, cluster, EngineOptions(name="vllm", **options), prompt=50, limit=100)

    few, many = plan(RLConfig(), max_num_seqs=8), plan(RLConfig(), max_num_seqs=64)
    assert few.seconds["trajectories"] > many.seconds["trajectories"]
    assert few.parts["sampling"]["logits"] < many.parts["sampling"]["logits"]
    half = plan(RLConfig(), gpu_memory_utilization=0.5)
    assert sum(half.parts["sampling"].values()) == pytest.approx(0.56 * 80e9, rel=1e-3)
    over, files = plan(RLConfig(), weights="nccl"), plan(RLConfig())
    assert over.seconds["weights to the engines"] < files.seconds["weights to the engines"]
    assert any("of its disk" in sentence for sentence in files.assumed)
    assert not any("of its disk" in sentence for sentence in over.assumed)
    assert any("without --bf16" in sentence for sentence in files.assumed)
    assert not any("without --bf16" in sentence for sentence in plan(RLConfig(bf16=True)).assumed)
    ahead = plan(RLConfig(max_staleness=1))
    long = replace(ahead, seconds={"trajectories": 3600.0, "training": 1800.0})
    assert dict(long.time_rows)["a round"] == "3,600 s"
    assert dict(replace(long, is_ahead=False).time_rows)["a round"] == "5,400 s"
    assert any("of the memory of a host of 8 GPUs" in sentence for sentence in ahead.assumed)


def test_a_run_ahead_on_servers_is_planned_with_the_model_that_they_are_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "check_environment", lambda python: "0.32+cpu")
    args = ["--model", "nano/actor", "--engine.name", "vllm", "--dry-run", "--max-staleness"]
    commands.run("rl", [*args, "1"])
    assert "replica" in capsys.readouterr().out
    commands.run("rl", [*args, "0"])
    assert "replica" not in capsys.readouterr().out


def test_the_published_shapes_have_the_parameters_that_their_names_say() -> None:
    for name, billions in {
        "Qwen2.5-Math-1.5B": 1.54,
        "Qwen2.5-Math-7B": 7.62,
        "Qwen3-1.7B": 1.72,
        "Qwen3-8B": 8.19,
    }.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(known_config(f"Qwen/{name}"))
        assert model.num_parameters() == pytest.approx(1e9 * billions, rel=0.005)


def test_what_does_not_fit_says_so() -> None:
    parts = {"training": {"weights": 50_000_000_000, "gradients": 31_000_000_000}}
    planned = ClusterPlan(parts=parts, chip=CHIPS["h100"], seconds={"training": 1.0}, assumed=(), rounds=1, gpus=1)
    assert not planned.fits
    assert dict(planned.memory_rows("training"))["together"] == "81.00 GB  does NOT fit"
    assert replace(planned, chip=CHIPS["h200"]).fits


@pytest.mark.parametrize(
    ("fits", "said"),
    [
        (lambda rl, on: rl.bf16, "it fits with --bf16"),
        (lambda rl, on: rl.micro_batch_tokens == 1024, "it fits with --micro-batch-tokens 1024"),
        (lambda rl, on: rl.bf16 and on.gpus == 8, "it fits with --bf16 --cluster.gpus 8"),
        (lambda rl, on: False, "it fits with none of these"),
    ],
)
def test_the_first_change_that_helps_is_named(fits: Callable[[RLConfig, ClusterOptions], bool], said: str) -> None:
    def plan(rl: RLConfig, on: ClusterOptions) -> ClusterPlan:
        size = 1 if fits(rl, on) else 10**12
        return ClusterPlan(
            parts={"training": {"weights": size}}, chip=CHIPS["h100"], seconds={}, assumed=(), rounds=1, gpus=1
        )

    (sentence,) = remedies(RLConfig(), ClusterOptions(gpus=1), plan)
    assert sentence.startswith(said)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"gpus": 8, "engine_gpus": 8}, "some must be left that train"),
        ({"gpus": 8, "tensor_parallel": 3}, "no multiple"),
        ({"efficiency": 0}, "a share above 0"),
        ({"gpus": -1}, r"^--cluster\.gpus is -1: at least 0 is wanted$"),
    ],
)
def test_clusters_that_cannot_be_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ClusterOptions(**wrong)  # type: ignore[arg-type]


def test_every_recipe_is_one_that_the_commands_read() -> None:
    assert len(RECIPES) == 12
    for file in RECIPES:
        args = with_config("rl", ["--config", str(file)])
        options = tyro.cli(Rl, args=args, default=defaults("rl", args))
        gpus = int(file.stem.rpartition("-")[2].removesuffix("gpu"))
        assert (options.cluster.gpus, options.cluster.model in KNOWN) == (gpus, True), file
        engine = options.resources.engine
        assert (engine.name, engine.placement, engine.weights) == ("vllm", "colocated", "path")
        with_config("sft", ["--config", str(file)])


@pytest.mark.slow  # 2 to 10 s each
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_every_recipe_fits(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands.run("rl", ["--config", str(recipe), "--dry-run"])
    said = capsys.readouterr().out
    assert "memory of a GPU" in said
    assert "NOT" not in said
    assert " 0 full responses" not in said


def test_a_plan_names_the_model_that_is_unknown_and_says_what_it_does_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--dry-run", "--output", str(tmp_path / "run"), "--problems", "reasoning_gym:gcd", "--count", "40"]
    with pytest.raises(UsageError, match=r"--cluster\.model 'Qwen/Qwen9-900B' has no published shape here: Qwen/Qwen2"):
        commands.run("rl", [*words, "--cluster.model", "Qwen/Qwen9-900B", "--cluster.gpus", "8"])
    commands.run("rl", [*words, "--model", "nano/actor", "--cluster.model", "Qwen/Qwen3-8B", "--processes", "16"])
    said = capsys.readouterr().out
    assert "--cluster.*: not read without --cluster.gpus" in said
    assert "problems: reasoning_gym:gcd; " in said
    assert "gathered layers" not in said  # so small a model is whole in each process
