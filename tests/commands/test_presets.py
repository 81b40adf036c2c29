"""What `--preset` sets, and for which commands."""

import dataclasses

import pytest

from thor_tir.commands import options_of
from thor_tir.commands.options import defaults, preset_in
from thor_tir.dialect.observation import ObservationConfig

SAMPLING = ("eval", "rl", "tirgen", "tirgen generate", "solve", "quickstart")
"""Commands in which a model sees what programs print."""


def test_every_command_that_samples_with_tools_says_how_results_are_put_into_words() -> None:
    kinds = {name: {field.name: field.default for field in dataclasses.fields(options_of(name))} for name in SAMPLING}
    assert {name: fields.get("observation") for name, fields in kinds.items()} == dict.fromkeys(
        SAMPLING, ObservationConfig()
    )


@pytest.mark.parametrize("command", ["eval", "rl", "tirgen", "solve"])
def test_the_released_preset_shows_results_as_the_released_code_and_the_papers_leaves_them(command: str) -> None:
    released, paper = (defaults(options_of(command), ["--preset", name]) for name in ("released", "paper"))
    assert released.observation == ObservationConfig(style="paper", max_chars=256)
    assert paper.observation == ObservationConfig()


@pytest.mark.parametrize("args", [["--preset", "paper"], ["--preset=paper"], ["--preset", "nano", "--preset=paper"]])
def test_a_preset_is_named_with_a_blank_or_an_equals_sign_and_the_last_one_counts(args: list[str]) -> None:
    assert preset_in(args) == "paper"
    assert defaults(options_of("rl"), args).rl.learning_rate == 1e-6
    assert defaults(options_of("rl"), args).preset == "paper"


def test_without_a_preset_a_command_has_its_own_defaults() -> None:
    assert defaults(options_of("rl"), ["--learning-rate", "1"]) is None
