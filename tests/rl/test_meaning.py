"""Options that mean nothing, or that nothing would read: which they are, and that runs are not begun with them."""

import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path

import pytest

from thor_tir import commands
from thor_tir.commands.options import PRESETS, defaults
from thor_tir.errors import UsageError
from thor_tir.rl import config as config_module
from thor_tir.rl.config import EpisodeConfig, RLConfig, StepConfig
from thor_tir.rl.meaning import check_meaning
from thor_tir.rl.step_methods.table import METHODS
from toy_task import BREAKS, LIMITS, OTHER, RIGHT, primed_model, run

NAMES = {field.name for field in fields(StepConfig)} - {"method"}
RL_FOLDER = str(Path(config_module.__file__).parent)
READ: set[str] = set()


class Watched(StepConfig):
    """Notes which of its fields the code of RL reads, its own checks aside."""

    def __getattribute__(self, name: str):
        reader = sys._getframe(1).f_code.co_filename
        if name in NAMES and reader.startswith(RL_FOLDER) and reader != config_module.__file__:
            READ.add(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_the_options_that_it_says(tmp_path: Path, method: str) -> None:
    READ.clear()
    for horizon in ("call", "answer") if method == "recovery" else ("call",):
        step = Watched(method=method, horizon=horizon, num_generations=4, suffix_tokens=4)
        config = RLConfig(
            num_rounds=1,
            problems_per_round=2,
            rollout=replace(LIMITS, max_tool_calling_iterations=2),
            episode=EpisodeConfig(num_generations=6, filters=()),
            step=step,
        )
        run(primed_model(RIGHT, OTHER, BREAKS), config, tmp_path / horizon)
    assert METHODS[method].reads >= READ
    # one function makes the rows of all groups, where rewards differ: behind an error the toy's are all the same
    assert METHODS[method].reads - READ <= ({"nll_weight"} if method == "recovery" else set())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--step.max-queries-share 2", r"--step.max-queries-share is 2: .* at most 1"),
        ("--step.max-queries-share -1 --step.method recovery", r"is -1: .* above 0"),
        ("--grouping tree --first-chains 99 --num-generations 4", "--first-chains 99 leaves none of the 4"),
        ("--step.method potential --step.probe=", "--step.probe is empty"),
        ("--step.method locate --levels episode", "--step.method locate would not be read: leave one of them out"),
        ("--step.turn-reward 1", "--step.turn-reward 1.0 would not be read with --step.method thor: .* returns"),
        ("--step.probes 5 --step.method potential", "--step.probes 5 would not be read .* --step.method locate"),
        ("--step.shaping 1 --step.method none", "--step.shaping 1.0 would not be read with --step.method none"),
        ("--step.reward runs --step.method locate", "or give --step.method thor or recovery"),
        ("--step.num-generations 4 --levels episode", r"leave it out \(then it is 8\)$"),
        ("--preset paper --step.suffix-tokens 8 --step.method none", "--step.suffix-tokens 8 would not be read"),
        ("--min-tokens 5", "--min-tokens 5 is of the filter too-short"),
        ("--lora-alpha 5", "give --lora-r"),
    ],
)
def test_an_option_without_an_effect_is_refused(words: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=sentence):
        commands.run("rl", ["--model", "nano/actor", "--dry-run", "--output", str(tmp_path), *words.split()])


def test_presets_go_with_every_method_and_level() -> None:
    for preset in PRESETS:
        usual = defaults("rl", ["--preset", preset]).rl
        kept = replace(usual, rollout=replace(usual.rollout, stop_at_failure=False))
        for method in METHODS:
            config = replace(kept, episode=replace(kept.episode, filters=()), step=replace(kept.step, method=method))
            check_meaning(config, usual)
        check_meaning(replace(usual, levels="episode"), usual)
        check_meaning(replace(usual, levels="episode", step=replace(usual.step, method="none")), usual)


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--levels episode", ""),
        ("--step.method none", ""),
        ("--levels episode --step.probes 5", r"--step.probes 5 would not be read .*leave it out \(then it is 3\)"),
        ("--levels episode --step.max-queries-share 0.5", r"leave it out \(then it is 0.75\)"),
        ("--levels episode --step.method locate", "--step.method locate would not be read"),
    ],
)
def test_options_of_another_runs_record_need_no_reader_but_those_that_are_typed_do(
    typed: str, sentence: str, tmp_path: Path
) -> None:
    record = tmp_path / "run.toml"
    record.write_text("[step]\nmax-queries-share = 0.75\nprobes = 3\nmethod = 'locate'\n", encoding="utf-8")
    if "probes" not in typed:
        record.write_text("[step]\nmax-queries-share = 0.75\n", encoding="utf-8")
    words = ["--config", str(record), "--model", "nano/actor", "--dry-run", "--output", str(tmp_path), *typed.split()]
    with pytest.raises(UsageError, match=sentence) if sentence else nullcontext():
        commands.run("rl", words)


def test_a_file_that_contradicts_itself_is_refused_unless_the_command_line_sets_it_right(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("levels = 'episode'\n[step]\nprobes = 3\nmethod = 'locate'\n", encoding="utf-8")
    words = ["--config", str(file), "--model", "nano/actor", "--dry-run", "--output", str(tmp_path)]
    with pytest.raises(UsageError, match="--levels episode credits no single steps"):
        commands.run("rl", words)
    commands.run("rl", [*words, "--levels", "joint"])


def test_a_run_that_was_begun_before_goes_on(tmp_path: Path, monkeypatch) -> None:
    words = ["--model", "nano/actor", "--dry-run", "--output", str(tmp_path), "--step.probes", "5"]
    monkeypatch.setattr("thor_tir.commands.training.is_begun", lambda folder: folder == tmp_path)
    commands.run("rl", words)
