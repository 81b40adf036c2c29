"""What `--preset` sets, and for which commands."""

import dataclasses

import pytest

from thor_tir.commands import options_of
from thor_tir.commands.presets import preset
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
    released, paper = (preset(options_of(command), name) for name in ("released", "paper"))
    assert released.observation == ObservationConfig(style="paper", max_chars=256)
    assert paper.observation == ObservationConfig()
