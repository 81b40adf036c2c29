"""The command line: what a mistake costs (one sentence, status 2, nothing written), and what help there is."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from thor_tir import cli, commands

ANSWERABLE = {"question": "Find the Greatest Common Divisor (GCD) of these numbers: 84, 36.", "answer": "12"}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every command runs in an empty folder of its own, offline."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def status_of(*argv: str) -> int:
    """The exit status of a command that is run in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(argv))
    assert isinstance(ended.value.code, int)
    return ended.value.code


def complaint(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one sentence on stderr of a command that must fail as the user's mistake."""
    assert status_of(*argv) == 2
    told = capsys.readouterr().err
    assert told.startswith("thor: ")
    assert told.count("\n") == 1  # one line: no traceback, no second complaint
    return told


def problems_file(*lines: str) -> str:
    """A problem file outside the folder that commands run in."""
    path = Path("../problems.jsonl")
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_an_unknown_command_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    told = complaint(capsys, "fly")
    assert "'fly'" in told
    assert all(name.split()[0] in told for name in commands.COMMANDS)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("eval --problems nowhere.jsonl", ["nowhere.jsonl", "JSONL"]),
        ("tirgen --problems nowhere.jsonl", ["'nowhere.jsonl'", "JSONL"]),
        ("sft --data nowhere.jsonl", ["nowhere.jsonl", "`thor tirgen` writes one"]),
        ("show nowhere", ["there is no folder", "nowhere"]),
        ("eval --problems reasoning_gym:gcd,gdc", ["unknown", "'gdc'", "did you mean 'gcd'", "known: ", "count_bits"]),
        ("eval --model ./nowhere --problems reasoning_gym:gcd", ["'./nowhere'", "no model"]),
        ("rl --model ./nowhere --problems reasoning_gym:gcd", ["'./nowhere'", "no model"]),
        ("tirgen --critic ./nowhere --problems reasoning_gym:gcd", ["'./nowhere'", "no model"]),
        ("solve 2+2? --model ./nowhere", ["'./nowhere'", "no model"]),
        ("eval --preset enormous", ["--preset", "nano", "paper", "released", "'enormous'"]),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it_and_leaves_nothing_behind(
    argv: str, words: list[str], empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = complaint(capsys, *argv.split())
    assert [word for word in words if word not in told] == []
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"question": "2 + 2?", "answer": ', "not valid JSON"),
        ('{"question": "2 + 2?"}', "`answer` must be"),
        ('{"answer": "4"}', "`question`"),
        ("[1, 2]", "expected a JSON object"),
    ],
)
def test_a_malformed_line_of_problems_is_named_by_its_number(
    line: str, reason: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = complaint(capsys, "eval", "--problems", problems_file(json.dumps(ANSWERABLE), "", line))
    assert "problems.jsonl, line 3: " in told  # the empty line counts, as it does in an editor
    assert reason in told
    assert list(empty_folder.iterdir()) == []


def test_a_malformed_line_of_a_data_set_is_named_by_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    told = complaint(capsys, "sft", "--data", problems_file(json.dumps({"segments": []})))
    assert "problems.jsonl, line 1 is no TIRGen sample: id is missing" in told


def test_problems_are_no_data_set_to_be_learnt_and_the_columns_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    told = complaint(capsys, "sft", "--data", problems_file(json.dumps(ANSWERABLE)))
    assert "nothing to train on in its 1 samples (no response is found in the columns question, answer; --ans" in told


def test_a_folder_that_is_no_model_is_one_sentence(empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = empty_folder.parent / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "no-such-type"}')
    told = complaint(capsys, "eval", "--model", str(folder), "--problems", problems_file(json.dumps(ANSWERABLE)))
    assert repr(str(folder)) in told
    assert list(empty_folder.iterdir()) == []


def test_an_empty_question_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the question is empty" in complaint(capsys, "solve", " ")


@pytest.mark.parametrize(
    ("argv", "word"),
    [
        (["eval", "--no-such-option"], "no-such-option"),
        (["rl", "--count", "many"], "--count"),
        (["solve", "--json", "2+2?", "--file", "q"], "two questions"),
        (["rl", "--rollout.temperature", "0.5"], "temperature 1 without top-p"),
        (["rl", "--num-generations", "1"], "num_generations is 1"),
        (["rl", "--step.which", "all"], "--rollout.no-stop-at-failure"),
        (["rl", "--delta", "1"], "delta >= 1 + epsilon_high"),
    ],
)
def test_a_bad_or_contradictory_option_is_named_on_stderr_with_status_2(
    argv: list[str], word: str, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == 2
    told = capsys.readouterr()
    assert word in told.out + told.err
    assert "Traceback" not in told.out + told.err
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",), ("help",)])
def test_help_lists_every_command_with_what_it_does(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(*argv) == 0
    told = capsys.readouterr().out
    assert [name for name, c in commands.COMMANDS.items() if f"{name:<18}{c.summary}" not in told] == []


def test_version_is_the_installed_packages(capsys: pytest.CaptureFixture[str]) -> None:
    from importlib.metadata import version

    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"thor {version('thor-tir')}\n"


SAID_BY_NAME = {
    *("seed", "output", "data", "count", "role", "temperature", "top-p", "top-k", "learning-rate", "warmup-steps"),
    *("num-steps", "num-problems", "num-validation", "num-rounds", "problems-per-round", "epochs", "batch-rows"),
    *("max-steps", "max-tokens", "micro-batch-tokens", "best-of", "per-question", "sandbox-timeout-s"),
    *("deterministic", "report"),  # explained where the command, or the resources, explains itself
}
"""Last words of options that may do without a text: the trade's own words, or a count of what they name."""


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
@pytest.mark.parametrize("command", list(commands.COMMANDS))
def test_a_commands_help_shows_every_option_with_its_text(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    import tyro

    assert status_of(*command.split(), "--help") == 0
    told = capsys.readouterr().out
    parser = tyro.extras.get_parser(commands.options_of(command))
    options = [action for action in parser._actions if action.option_strings and "--help" not in action.option_strings]
    assert [o.option_strings for o in options if not any(name in told for name in o.option_strings)] == []
    silent = {o.option_strings[0] for o in options if (o.help or "").startswith("(default")}
    assert {name for name in silent if name.rpartition(".")[2].removeprefix("--") not in SAID_BY_NAME} == set()


def test_the_module_runs_as_a_program_and_its_help_does_not_load_torch() -> None:
    program = (
        "import runpy, sys; sys.argv = ['thor', '--help']\ntry: runpy.run_module('thor_tir', run_name='__main__')\n"
    )
    program += "finally: print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: thor COMMAND")
    assert done.stdout.endswith("False False\n")


HELP_OF_EACH = """
import sys
from thor_tir.cli import main
from thor_tir.commands import COMMANDS
for command in COMMANDS:
    try:
        main([*command.split(), "--help"])
    except SystemExit as ended:
        assert ended.code == 0, command
    loaded = [name for name in ("torch", "transformers", "sympy") if name in sys.modules]
    assert not loaded, (command, loaded)
print("done", len(COMMANDS))
"""


def test_no_commands_help_loads_a_deep_learning_library() -> None:
    done = subprocess.run([sys.executable, "-c", HELP_OF_EACH], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(f"done {len(commands.COMMANDS)}\n")


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
@pytest.mark.parametrize("command", ["tirgen", "tirgen filter", "sft", "rl", "eval", "solve", "quickstart"])
def test_a_command_has_one_seed(command: str) -> None:
    import tyro

    parser = tyro.extras.get_parser(commands.options_of(command))
    names = {name.removeprefix("--") for action in parser._actions for name in action.option_strings}
    assert {name for name in names if name.rpartition(".")[2] == "seed"} == {"seed"}
