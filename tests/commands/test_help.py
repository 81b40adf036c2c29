"""Help pages: every option below a heading, what everyone needs first, and no line that a terminal would break."""

import pytest

from thor_tir.commands import help as pages
from thor_tir.commands.headings import ESSENTIALS, FIRST, HEADINGS, OTHERS
from thor_tir.commands.help import MOST_TOGETHER, grouped, help_page, options
from thor_tir.commands.table import COMMANDS

OPTIONS = {command: list(options(command)) for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_stands_below_one_heading_and_has_a_text(command: str) -> None:
    groups = grouped(command, OPTIONS[command])
    assert sorted(o.flag for group in groups.values() for o in group) == sorted(o.flag for o in OPTIONS[command])
    assert [o.flag for o in OPTIONS[command] if len(o.text.partition(" (default")[0]) < 10] == []
    if len(OPTIONS[command]) > MOST_TOGETHER:
        assert next(iter(groups)) == FIRST
        assert 1 <= len(groups[FIRST]) <= 14, "say in commands/headings.py which of these everyone needs"
        assert OTHERS not in groups, "name these options in commands/headings.py, below the heading of their kind"
    assert [flag for flag in ESSENTIALS.get(command, ()) if flag not in {o.flag for o in OPTIONS[command]}] == []


def test_every_name_of_the_table_is_an_option() -> None:
    known = {option.flag for found in OPTIONS.values() for option in found}
    groups = {flag.rpartition(".")[0] + "." for flag in known} | {flag.partition(".")[0] + "." for flag in known}
    assert [name for heading in HEADINGS for name in heading.names if name not in known | groups] == []
    names = [name for heading in HEADINGS for name in heading.names]
    assert len(names) == len(set(names))
    records = {option.record for found in OPTIONS.values() for option in found}
    assert [name for heading in HEADINGS for name in heading.records if name not in records] == []


@pytest.mark.parametrize(("columns", "widest"), [("80", 79), ("200", 110)])
def test_no_line_is_wider_than_the_terminal_or_than_a_reader_likes(columns, widest, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command in COMMANDS:
        wide = [
            line for line in help_page(command).splitlines() if len(line) > widest and not line.startswith("  thor ")
        ]
        assert not [line for line in wide if " " in line.strip()], command  # a word alone is not broken


def test_the_short_page_is_the_beginning_of_the_long_one_and_says_what_else_there_is() -> None:
    short, long = help_page("rl", is_short=True), help_page("rl")
    beginning = short.partition("\n\n`thor rl --help` explains")[0]
    assert long.startswith(beginning)
    assert "--num-rounds" in beginning
    assert "--step.suffix-tokens" not in short
    assert f"explains {len(OPTIONS['rl']) - len(ESSENTIALS['rl'])} further options" in " ".join(short.split())


def test_a_page_shows_the_defaults_of_its_command_and_of_the_preset_that_is_named() -> None:
    from thor_tir.commands.options import defaults

    def told(page: str, flag: str) -> str:
        return " ".join(page.partition(f"  --{flag} ")[2].partition("\n  --")[0].split())

    assert told(help_page("rl"), "num-generations").endswith("(default: 8)")
    assert told(help_page("rl", defaults("rl", ["--preset", "paper"])), "num-generations").endswith("(default: 16)")
    assert "--tools, --no-tools" in help_page("eval")  # on by default
    assert "[FOLDER] [ID]" in help_page("show") or "FOLDER [ID]" in help_page("show")


def test_nothing_is_bold_where_nobody_looks(capsys) -> None:
    print(pages.help_page("doctor"))
    assert "\x1b" not in capsys.readouterr().out
