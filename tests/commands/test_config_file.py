"""Options from a file: every option of every command can stand there, and nothing that is no option."""

import dataclasses
import json
from pathlib import Path

import pytest
import tyro

from thor_tir import commands
from thor_tir.commands.config_file import leaves_of, with_config
from thor_tir.commands.options import PRESETS, defaults
from thor_tir.errors import UsageError
from thor_tir.hooks import hook_files

WHOLE = ("quickstart", "tirgen", "tirgen generate", "sft", "rl", "eval")
"""Commands that need no word to begin."""


def parsed(name: str, *args: str) -> object:
    kind = commands.options_of(name)
    words = with_config(name, args)
    return tyro.cli(kind, args=words, default=defaults(name, words))


def written(folder: Path, text: str, name: str = "options.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("name", WHOLE)
def test_the_options_of_a_run_read_back_are_its_options(name: str, tmp_path: Path) -> None:
    kind = commands.options_of(name)
    preset = ("--preset", "paper") if "preset" in {f.name for f in dataclasses.fields(kind)} else ()
    given = ("--seed", "7", *preset)
    options = parsed(name, *given)
    record = {"command": "thor ...", "options": dataclasses.asdict(options), "versions": {}}
    for content, place in ((record, "run.json"), (record["options"], "config.json")):
        file = written(tmp_path, json.dumps(content, default=str), place)
        assert parsed(name, "--config", file) == options


def test_names_may_be_nested_or_dotted_with_dashes_or_underscores(tmp_path: Path) -> None:
    nested = written(tmp_path, "learning_rate = 1e-4\n[step]\nsuffix_tokens = 6\n[rollout]\nstop_at_failure = false\n")
    dotted = written(tmp_path, '"learning-rate": 1e-4\nstep.suffix-tokens: 6\nrollout.stop-at-failure: no\n', "o.yaml")
    assert parsed("rl", "--config", nested) == parsed("rl", f"--config={dotted}")
    assert parsed("rl", "--config", nested).rl.step.suffix_tokens == 6


def test_words_of_the_command_line_win_and_a_later_file_wins_over_an_earlier(tmp_path: Path) -> None:
    first = written(tmp_path, 'num-rounds = 3\nproblems-per-round = 5\nreward = ["exact", "boxed=0.5"]\n', "a.toml")
    second = written(tmp_path, "num-rounds = 4\n", "b.toml")
    options = parsed("rl", "--config", first, "--config", second, "--problems-per-round", "6").rl
    assert (options.num_rounds, options.problems_per_round) == (4, 6)
    assert options.reward == ("exact", "boxed=0.5")


def test_a_preset_in_the_file_is_a_preset(tmp_path: Path) -> None:
    file = written(tmp_path, 'preset = "paper"\n')
    assert parsed("rl", "--config", file) == parsed("rl", "--preset", "paper")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "lerning-rate = 1\n", "lerning-rate is no option of this command; did you mean learning-rate"),
        ("a.toml", "[rollout]\nbanana = 1\n", "rollout.banana is no option of this command"),
        ("a.toml", "x = [\n", "is no valid TOML"),
        ("a.json", "[1]", "holds no table of options but list"),
        ("a.json", "{", "is no valid JSON"),
        ("a.yaml", "a: [", "is no valid YAML"),
        ("a.json", '{"rl": {"seed": 1, "seed": 2}}', "an object names seed twice"),
        ("a.yaml", "rl:\n  seed: 1\n  seed: 2\n", "an object names seed twice"),
        ("a.yaml", "!!python/object/apply:os.system ['echo']", "is no valid YAML"),
        ("a.ini", "[rl]\n", "a file of options ends in .toml, .yaml or .json"),
    ],
)
def test_what_is_no_file_of_options_is_said_in_a_sentence(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed("rl", "--config", written(tmp_path, text, name))


def test_a_missing_file_and_a_missing_word_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        parsed("rl", "--config", str(tmp_path / "nowhere.toml"))
    with pytest.raises(UsageError, match="--config needs a file"):
        parsed("rl", "--config")


@pytest.mark.parametrize("command", ["tirgen", "sft", "rl", "eval"])
@pytest.mark.parametrize("preset", ["nano", "released", "qwen3-8b"])
def test_a_preset_that_is_printed_is_a_file_that_gives_the_preset(
    preset: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.run("presets", [preset, "--command", command])
    file = written(tmp_path, capsys.readouterr().out)
    assert parsed(command, "--config", file) == parsed(command, "--preset", preset)


RECIPE = """
seed = 3
[rl]
num-rounds = 4
rollout.max-completion-length = 64
[sft]
train-batch-size = 2
[tirgen]
count = 5
filter.max-share = 0.9
["tirgen filter"]
seed = 4
"""


def test_one_file_has_sections_for_commands_and_what_stands_outside_is_for_all(tmp_path: Path) -> None:
    file = written(tmp_path, RECIPE)
    found = {name: parsed(name, "--config", file) for name in ("rl", "sft", "tirgen", "tirgen generate", "eval")}
    assert (found["rl"].rl.num_rounds, found["rl"].rl.seed, found["rl"].rl.rollout.max_completion_length) == (4, 3, 64)
    assert (found["sft"].sft.train_batch_size, found["sft"].sft.seed) == (2, 3)
    assert (found["tirgen"].count, found["tirgen"].filter.max_share) == (5, 0.9)
    assert found["tirgen generate"].count == 5  # a command of two words takes what it has of the first one's section
    assert found["eval"].eval.seed == 3
    filtering = parsed("tirgen filter", "--config", file)
    assert (filtering.seed, filtering.filter.max_share) == (4, 0.9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[rl]\nnum-round = 4\n", r"rl.num-round is no option of `thor rl`; did you mean num-rounds"),
        ("[sft]\ntrain-batch = 4\n", r"sft.train-batch is no option of `thor sft`; did you mean train-batch-size"),
        ("[rll]\nmodel = 'x'\n", r"options.toml: \[rll\] is no command and no group of options; did you mean \[rl\]"),
        ("[rl]\nnum-rounds = 'three'\n", r"rl.num-rounds is 'three', and a whole number is wanted"),
        ("[rl]\nlearning-rate = [1]\n", r"rl.learning-rate is \[1\], and a number is wanted"),
        ("modle = 'x'\n[sft]\nseed = 4\n", r"modle is no option of this command; did you mean model"),
    ],
)
def test_a_wrong_name_is_refused_in_every_section(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parsed("rl", "--config", written(tmp_path, text))


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
@pytest.mark.parametrize("name", commands.COMMANDS)
def test_every_command_takes_each_of_its_options_from_a_file_and_no_other(name: str, tmp_path: Path) -> None:
    parser = tyro.extras.get_parser(commands.options_of(name))
    known = {word for action in parser._actions for word in action.option_strings}
    leaves = [leaf for leaf in leaves_of(name).values() if not (leaf.is_hidden or leaf.is_positional)]
    assert {f"--{leaf.flag}" for leaf in leaves} <= known
    with pytest.raises(UsageError, match="no-such-option is no option of this command"):
        commands.run(*_called(name, "--config", written(tmp_path, "no-such-option = 1\n")))


def _called(name: str, *args: str) -> tuple[str, list[str]]:
    first, *more = name.split()
    return first, [*more, *args]


def test_presets_are_listed_and_an_unknown_one_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    commands.run("presets", [])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(PRESETS)
    commands.run("presets", ["qwen3-8b"])
    assert capsys.readouterr().out == PRESETS["qwen3-8b"].read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="a preset is one of nano"):
        commands.run("presets", ["huge"])


def test_files_of_own_functions_are_inputs_of_a_run() -> None:
    assert hook_files(["exact", "mine.py:f=0.5", "a/b.py:g", "package.module:f", "exact=2"]) == ["mine.py", "a/b.py"]
