"""The commands behind the command line: typed options, and what each one runs. Each loads only what it needs."""

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any, cast

import tyro

from thor_tir.errors import UsageError

PLACES: Mapping[str, str] = {
    "quickstart": "training.Quickstart",
    "tirgen": "tirgen.Tirgen",
    "tirgen generate": "tirgen.TirgenGenerate",
    "tirgen filter": "tirgen_data.TirgenFilter",
    "tirgen merge": "tirgen_data.TirgenMerge",
    "tirgen export": "tirgen_data.TirgenExport",
    "tirgen card": "tirgen_data.TirgenCard",
    "sft": "training.Sft",
    "rl": "training.Rl",
    "solve": "reading.Solve",
    "eval": "evaluation.Eval",
    "eval merge": "evaluation.EvalMerge",
    "eval compare": "evaluation.EvalCompare",
    "grade": "grade.GradeFile",
    "code check": "code.CodeCheck",
    "data overlap": "data.DataOverlap",
    "show": "reading.Show",
    "doctor": "reading.Doctor",
    "sandbox run": "sandbox_run.SandboxRun",
    "sandbox bench": "sandbox_bench.SandboxBench",
    "sandbox serve": "sandbox_serve.SandboxServe",
}
"""Where a command's options are: module of this folder, and class. A name of two words is a command of a group."""

SHARED = ("sft", "rl")
"""Commands that several processes can carry out together (docs/distributed.md)."""


def run(name: str, args: list[str]) -> None:
    """Parse the options of one command and carry it out. Raises UsageError for contradictions between options."""
    if (two := " ".join([name, *args[:1]])) in PLACES:
        name, args = two, args[1:]
    if name not in SHARED and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"`thor {name}` works in one process: start it without torchrun; {', '.join(SHARED)} can share"
        )
    if name not in PLACES:
        _explain_group(name, args)
        return
    kind = options_of(name)
    default = _preset(kind, args)
    try:
        options = tyro.cli(kind, args=args, prog=f"thor {name}", default=default)
    except ValueError as error:
        raise UsageError(str(error)) from error
    cast(Callable[[], None], options.run)()


def options_of(name: str) -> type[Any]:
    """The record of a command's options."""
    module, _, kind = PLACES[name].partition(".")
    found: type[Any] = getattr(importlib.import_module(f"thor_tir.commands.{module}"), kind)
    return found


def _explain_group(group: str, args: list[str]) -> None:
    names = [place.removeprefix(f"{group} ") for place in PLACES if place.startswith(f"{group} ")]
    known = f"`thor {group}` has the commands {', '.join(names)}"
    if args and args[0] not in ("-h", "--help"):
        raise UsageError(f"{known}; found {args[0]!r}")
    print(f"{known}; `thor {group} {names[0]} --help` explains the first")


def _preset(kind: type[Any], args: list[str]) -> Any:
    """Take `--preset NAME` out of the arguments: the command's defaults under it, None for its own."""
    if "--preset" not in args:
        return None
    from thor_tir.commands.presets import preset

    at = args.index("--preset")
    value = args[at + 1] if at + 1 < len(args) else ""
    del args[at : at + 2]
    return preset(kind, value)
