"""A dry run refuses what the run itself would, in the same sentence: no server is started and no weights are read."""

from pathlib import Path

import pytest

from thor_tir import commands, on_ray
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm import opening
from thor_tir.engines.vllm.opening import check_machine, open_engine
from thor_tir.errors import UsageError
from tiny_models import tiny_model, tiny_tokenizer

VLLM = ("--engine.name", "vllm")


@pytest.mark.parametrize("command", [("rl", "--model", "nano/actor"), ("eval",), ("tirgen",), ("quickstart",)])
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((*VLLM, "--deterministic"), "servers do not promise the same bits again"),
        (("--engine.name", "sglang"), "takes weights by path, at an --engine.address"),
        ((*VLLM, "--engine.python", "/nowhere/python"), "/nowhere/python cannot be started"),
    ],
)
def test_an_engine_that_could_not_be_opened_is_refused(command, words, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        commands.run(command[0], [*command[1:], *words, "--dry-run", "--output", str(tmp_path / "run")])
    assert not any(tmp_path.iterdir())


def test_the_engine_itself_refuses_the_same_in_the_same_sentence() -> None:
    for options, deterministic, sentence in (
        (EngineOptions(name="vllm"), True, "servers do not promise the same bits again"),
        (EngineOptions(name="sglang"), False, "takes weights by path, at an --engine.address"),
    ):
        with pytest.raises(UsageError, match=sentence):
            open_engine(tiny_model(), tiny_tokenizer(), options, deterministic=deterministic)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("rl", "--model", "nano/actor", "--deterministic", "--max-staleness", "1"), "needs --max-staleness 0"),
        (("rl", "--model", "nano/actor", "--cluster.gpus", "8", "--deterministic", *VLLM), "the same bits"),
        (("eval", "--sandbox.endpoints", "here"), "'here' is no plain http"),
        (("eval", "--select", "reward:/nowhere"), "no reward model in /nowhere"),
        (("eval", "--rewards.model", "x"), "--rewards.model x is a model on a reward model's server"),
        (("tirgen", "--filter.benchmarks", "nowhere.jsonl"), "no problem file at nowhere.jsonl"),
        (("eval", "--window", "2024-01-01.."), "--window is of contests"),
        (("rl", "--engine.python", "/x", "--engine.weights", "nccl"), "--engine.python and --engine.weights would not"),
        (("eval", "--model-name", "x"), "is no address, so it has no name on a server"),
        (("eval", "--shard", "1/2", "--processes", "2"), "is one part, and --processes 2 makes 2"),
        (("tirgen", *VLLM, "--engine.address", "http://a:1"), "http://a:1 holds one model, and this command samples"),
        (("tirgen", "--reasoning", "--actor", "http://a:1/v1"), "could not go on after a program"),
        (("tirgen", "--end-token", "<none>"), "is no token of 'nano/actor'"),
        (("reproduce", "table3", "--model", "nope"), "there is no model at 'nope'"),
        (("reproduce", "ladder", "--model", "x/y/z", "--like", "paper"), "there is no model at 'x/y/z'"),
    ],
)
def test_what_a_run_would_refuse_a_dry_run_refuses(words, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        commands.run(words[0], [*words[1:], "--dry-run", "--output", str(tmp_path / "run")])


def test_a_run_on_other_machines_does_not_ask_for_servers_of_this_one(monkeypatch, capsys, tmp_path: Path) -> None:
    monkeypatch.setattr(on_ray, "need", lambda *what: None)
    words = ["--model", "nano/actor", *VLLM, "--engine.python", "/nowhere/python", "--dry-run"]
    commands.run("rl", [*words, "--output", str(tmp_path / "run"), "--launcher", "ray"])
    assert "micro-batches" in capsys.readouterr().out


def test_gpus_that_a_check_counts_are_free_again(monkeypatch) -> None:
    monkeypatch.setattr(opening, "gpus", lambda: ("0", "1"))
    monkeypatch.setattr(opening, "check_environment", lambda python: "0.32")
    engine = EngineOptions(name="vllm")
    for _ in range(2):
        check_machine([engine, engine], processes=1, trains=False)
    with pytest.raises(UsageError, match="need on this host: 1; visible: 2, left: 0"):
        check_machine([engine] * 3, processes=1, trains=False)
