"""docs/options.md names only options that its commands have."""

import re
from pathlib import Path

import pytest

from thor_tir import commands

PAGE = Path(__file__).parents[2] / "docs" / "options.md"
ROW = re.compile(r"^\| `(--[a-z0-9.-]+)` \| ([a-z, ]+) \|", re.MULTILINE)


def options(command: str) -> set[str]:
    import tyro

    parser = tyro.extras.get_parser(commands.options_of(command))
    return {name for action in parser._actions for name in action.option_strings}


@pytest.mark.filterwarnings("ignore:get_parser:DeprecationWarning")
def test_every_option_of_the_table_exists_on_its_commands() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) >= 30
    named = {command for _, found in rows for command in found.split(", ")}
    known = {command: options(command) for command in named}
    assert [(o, c) for o, found in rows for c in found.split(", ") if o not in known[c]] == []
