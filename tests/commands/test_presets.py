"""What `--preset` sets, and for which commands."""

import dataclasses
import json
import tomllib
from pathlib import Path

import pytest

from thor_tir import cli
from thor_tir.app.config import RunConfig
from thor_tir.commands import options_of
from thor_tir.commands.options import PRESETS, check_size, defaults, preset_in, preset_words
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.errors import UsageError


def status_of(*argv: str) -> int:
    """The exit status of a command that is run in this process."""
    with pytest.raises(SystemExit) as ended:
        cli.main(list(argv))
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.parametrize("preset", ["paper", "paper-reasoning", "smollm2-135m"])
def test_a_chat_begins_from_the_values_of_a_single_question(preset: str) -> None:
    chat, solve = (dataclasses.asdict(defaults(command, ["--preset", preset])) for command in ("chat", "solve"))
    assert chat == {name: solve.get(name) for name in chat} | {"remember": False}


SAMPLING = ("eval", "rl", "tirgen", "tirgen generate", "solve", "quickstart")
"""Commands in which a model sees what programs print."""


def test_every_command_that_samples_with_tools_says_how_results_are_put_into_words() -> None:
    kinds = {name: {field.name: field.default for field in dataclasses.fields(options_of(name))} for name in SAMPLING}
    assert {name: fields.get("observation") for name, fields in kinds.items()} == dict.fromkeys(
        SAMPLING, ObservationConfig()
    )


@pytest.mark.parametrize("command", ["eval", "rl", "tirgen", "solve"])
def test_the_released_preset_shows_results_as_the_released_code_and_the_papers_leaves_them(command: str) -> None:
    released, paper = (defaults(command, ["--preset", name]) for name in ("released", "paper"))
    assert released.observation == ObservationConfig(style="paper", max_chars=256)
    assert paper.observation == ObservationConfig()


@pytest.mark.parametrize("args", [["--preset", "paper"], ["--preset=paper"], ["--preset", "nano", "--preset=paper"]])
def test_a_preset_is_named_with_a_blank_or_an_equals_sign_and_the_last_one_counts(args: list[str]) -> None:
    assert preset_in(args) == "paper"
    assert defaults("rl", args).rl.learning_rate == 1e-6
    assert defaults("rl", args).preset == "paper"


def test_without_a_preset_a_command_has_its_own_defaults() -> None:
    assert defaults("rl", ["--learning-rate", "1"]) is None


def test_the_papers_values_for_reasoning_models_are_a_preset_that_reasoning_selects() -> None:
    for command in ("tirgen", "tirgen generate", "sft", "rl", "eval", "solve"):
        for args in (
            ["--preset", "paper", "--reasoning"],
            ["--reasoning", "--preset=paper"],
            ["--preset=paper-reasoning"],
        ):
            found = defaults(command, args)
            assert found.reasoning, command
            values = {
                "tirgen": lambda o: o.tirgen.max_completion_length == 20_000,
                "sft": lambda o: o.sft.max_length == 20_000,
                "rl": lambda o: (o.rl.rollout.max_completion_length, o.rl.step.suffix_tokens) == (16_384, 500),
                "eval": lambda o: (
                    (o.eval.rollout.max_completion_length, o.eval.correction.suffix_tokens) == (16_384, 500)
                ),
                "solve": lambda o: (o.rollout.max_completion_length, o.correction.suffix_tokens) == (16_384, 500),
            }
            assert values[command.split()[0]](found), (command, args)


def test_the_papers_values_for_other_models_stay_where_reasoning_is_not_asked_for() -> None:
    for args in (["--preset", "paper"], ["--preset", "paper", "--reasoning", "--no-reasoning"]):
        rl, evaluation = (defaults(name, args) for name in ("rl", "eval"))
        assert (rl.reasoning, rl.rl.rollout.max_completion_length, rl.rl.step.suffix_tokens) == (False, 4096, 100)
        assert evaluation.eval.correction.suffix_tokens == 100


STAGES = ("tirgen", "sft", "rl", "eval", "solve", "serve")


@pytest.mark.parametrize("command", STAGES)
def test_the_presets_differ_in_nothing_but_what_the_paper_says_of_reasoning(command: str) -> None:
    plain, reasoning = (
        asdict_flat(dataclasses.asdict(defaults(command, ["--preset", name]))) for name in ("paper", "paper-reasoning")
    )
    assert {key for key in plain if plain[key] != reasoning[key]} <= {
        "preset",
        "reasoning",
        "tirgen.max_completion_length",
        "sft.max_length",
        "rl.rollout.max_completion_length",
        "rl.step.suffix_tokens",
        "eval.rollout.max_completion_length",
        "eval.correction.suffix_tokens",
        "rollout.max_completion_length",
        "correction.suffix_tokens",
    }


def test_the_values_of_a_stages_own_record_are_the_papers() -> None:
    whole = RunConfig()
    for command in ("tirgen", "sft", "rl", "eval"):
        found = defaults(command, ["--preset", "paper"])
        assert getattr(found, command) == getattr(whole, command)
    assert defaults("tirgen", ["--preset", "paper"]).filter == whole.filter


@pytest.mark.parametrize("command", [*STAGES, "tirgen generate", "tirgen filter"])
def test_the_embedded_models_values_are_a_file_that_says_all_that_the_paper_has_otherwise(command: str) -> None:
    import tyro

    kind = options_of(command)
    question = ["?"] if command == "solve" else []
    plain = tyro.cli(kind, args=question)
    words = [*preset_words("paper", command), *preset_words("nano", command)]
    assert tyro.cli(kind, args=[*question, *words]) == plain


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_a_file_that_every_command_takes_as_a_config(preset: str) -> None:
    lines = PRESETS[preset].read_text(encoding="utf-8")
    assert lines.startswith("# ")
    assert len(lines.splitlines()[0]) <= 110  # a line of `thor presets`
    assert tomllib.loads(lines)
    for command in STAGES:
        assert preset_words(preset, command)[-2:] == ["--preset", preset]


def test_every_file_of_the_folder_is_a_preset() -> None:
    assert {file.stem for file in PRESETS["nano"].parent.glob("*.toml")} == set(PRESETS)


def asdict_flat(values: dict, before: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in values.items():
        found |= asdict_flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def test_the_released_codes_values_are_not_for_reasoning_models() -> None:
    with pytest.raises(UsageError, match="give --preset paper-reasoning"):
        defaults("rl", ["--preset", "released", "--reasoning"])


@pytest.mark.parametrize("command", ["tirgen", "tirgen generate", "tirgen filter", "sft", "rl", "eval", "solve"])
def test_every_help_page_of_a_command_with_presets_shows_them(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["--preset=paper"], ["--preset", "paper-reasoning"]):
        assert status_of(*command.split(), *more, "--help") == 0
        text = capsys.readouterr().out
        assert f"--preset {{{','.join(PRESETS)}}}" in "".join(text.split()).replace("│", "").replace(
            "--preset{", "--preset {"
        )
        assert "efaults are the paper's" not in text
        assert "efaults follow the paper" not in text


LARGE = {"hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 4, "vocab_size": 32_000}
"""About 90 million parameters, of which no weight is needed to refuse them."""
COMMANDS = {
    "eval": ["--model"],
    "solve": ["1+1?", "--model"],
    "sft": ["--model"],
    "rl": ["--model"],
    "tirgen": ["--actor"],
    "tirgen generate": ["--actor"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_large_model_on_values_of_the_embedded_ones_is_refused_with_the_presets_name(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "large"
    model.mkdir()
    (model / "config.json").write_text(
        json.dumps({"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **LARGE})
    )
    place = [] if command == "solve" else ["--output", str(tmp_path / "run")]
    for preset in ([], ["--preset", "nano"]):
        assert status_of(*command.split(), *COMMANDS[command], str(model), *place, *preset) == 2
        said = capsys.readouterr().err
        assert "million parameters" in said
        assert "give --preset paper" in said
        assert not (tmp_path / "run").exists()
    # With other values the model is loaded, which this one cannot be.
    assert status_of(*command.split(), *COMMANDS[command], str(model), *place, "--preset", "paper") == 2
    assert "million parameters" not in capsys.readouterr().err


def test_a_small_model_and_single_options_pass(tmp_path: Path) -> None:
    check_size("nano/actor", {"--a": (1, 1)})
    with pytest.raises(UsageError, match="no model at"):
        check_size(str(tmp_path / "nowhere"), {"--a": (1, 1)})
    check_size(str(tmp_path / "nowhere"), {"--a": (2, 1)})


def test_a_model_behind_an_address_is_asked_and_the_limit_said() -> None:
    said: list[str] = []
    check_size("http://127.0.0.1:1/v1", {"--length": (320, 320)}, said.append)
    assert len(said) == 1
    assert "--length 320" in said[0]
    assert "--preset paper" in said[0]
