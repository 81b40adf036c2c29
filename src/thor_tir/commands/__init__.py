"""The commands behind the command line: typed options, and what each one runs. Each loads what it needs."""

from collections.abc import Callable
from typing import Any, cast

from thor_tir.commands.table import COMMANDS, members, options_of
from thor_tir.distributed import end_with_starter, is_one_of_several, start_several
from thor_tir.errors import UsageError

__all__ = ["COMMANDS", "members", "options_of", "run"]


FILES = "--config FILE takes options from a TOML, YAML or JSON file, or from the run.json of a run; later words win."
"""Sentence in the help of every command."""

SHARED = ("quickstart", "sft", "rl")
"""Commands that several processes can carry out together (docs/distributed.md)."""


def run(name: str, args: list[str]) -> None:
    """Parse the options of one command and carry it out. Raises UsageError for contradictions between options."""
    if (two := " ".join([name, *args[:1]])) in COMMANDS:
        name, args = two, args[1:]
    if name not in SHARED and is_one_of_several():
        raise UsageError(
            f"`thor {name}` works in one process: start it without torchrun; {', '.join(SHARED)} can share"
        )
    if name not in COMMANDS:
        _explain_group(name, args)
        return
    options = _parsed(name, args)
    if name in SHARED and options.num_processes > 1 and not is_one_of_several():
        if status := start_several(options.num_processes, [*name.split(), *args]):
            raise SystemExit(status)
        return
    end_with_starter()
    cast(Callable[[], None], options.run)()


def _parsed(name: str, args: list[str]) -> Any:
    import tyro

    from thor_tir.commands.config_file import with_config
    from thor_tir.commands.options import defaults

    kind = options_of(name)
    args = with_config(name, args)
    beside = members(name)
    lines = "".join(f"\n`thor {name} {member}`: {COMMANDS[f'{name} {member}'].summary}." for member in beside)
    more = f"\n\nBeside it:{lines}" if beside else ""
    description = f"{kind.__doc__ or ''}\n\n{FILES}{more}"
    try:
        return tyro.cli(kind, args=args, prog=f"thor {name}", description=description, default=defaults(name, args))
    except ValueError as error:
        raise UsageError(str(error)) from error


def _explain_group(group: str, args: list[str]) -> None:
    names = members(group)
    if args and args[0] not in ("-h", "--help"):
        raise UsageError(f"`thor {group}` has the commands {', '.join(names)}; found {args[0]!r}")
    print(f"usage: thor {group} COMMAND [OPTIONS]\n")
    for name in names:
        print(f"  {name:<12}{COMMANDS[f'{group} {name}'].summary}")
    print(f"\n`thor {group} {names[0]} --help` explains a command's options.")
