"""Options that several commands have: the values they begin from (`--preset`), and a language model that judges."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

import tyro

from thor_tir.address import is_address
from thor_tir.app.config import quickstart
from thor_tir.commands.table import options_of
from thor_tir.console import ConsoleReporter
from thor_tir.distributed import is_started_together, part_words
from thor_tir.engines.loading import EMBEDDED
from thor_tir.errors import UsageError
from thor_tir.on_ray import Group, RayOptions, check_ray, start_on_ray
from thor_tir.storage.journal import Shard

PresetName = Literal[
    "nano", "nano-thinker", "paper", "paper-reasoning", "released", "qwen2.5-math-1.5b", "qwen3-8b", "smollm2-135m"
]
PresetOption = Annotated[
    PresetName,
    tyro.conf.arg(
        help="Values that the options begin from, which a help page then shows as defaults: `nano` is for the embedded "
        "models; `thor presets` says what the others are for and prints them."
    ),
]
"""The option `--preset` of every command that has one."""
NANO = quickstart()
PRESETS = {name: Path(__file__).parents[1] / "presets" / f"{name}.toml" for name in get_args(PresetName)}
"""The files of the presets by their names."""
DryRun = Annotated[
    bool,
    tyro.conf.arg(
        help="Resolve everything, say what would be made and what memory it takes, and stop: no weights are read and "
        "nothing is sampled or written."
    ),
]
"""The option `--dry-run` of every command that makes something large."""


@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Options of commands whose work several processes can share."""

    dry_run: DryRun = False
    """True says what would be made, and stops."""
    processes: int = 1
    """Processes that share the work: of training as torchrun would start them, else each with a part of the problems
    (docs/distributed.md)."""
    launcher: Literal["local", "ray"] = "local"
    """Places of these processes: all on this host (`local`), or on the hosts of a Ray cluster."""
    ray: RayOptions = dataclasses.field(default_factory=RayOptions)
    """Places on a Ray cluster."""

    @property
    def num_processes(self) -> int:
        """Processes that are started. Raises UsageError for fewer than one."""
        if self.processes < 1:
            raise UsageError(f"--processes is {self.processes}: at least one process does the work")
        return 1 if self.dry_run else self.processes

    @property
    def is_here(self) -> bool:
        """True where this machine does the work."""
        return self.launcher == "local"

    @property
    def _sharing(self) -> int:
        """Processes that share the memory: those that are asked for, or those that torchrun started."""
        return max(self.processes, int(os.environ.get("WORLD_SIZE", "1")))

    def tell_precision(self, *, trains: bool) -> None:
        """Say that bfloat16 is the slow way, where training asks for it on this machine and it is."""
        if self.is_here:
            tell_precision(say, trains=trains)

    def check_places(self) -> None:
        """Raise UsageError where there is no Ray, or for places on a cluster that this run cannot have."""
        check_ray()

    def on_ray(self, words: Sequence[str]) -> int:
        """Carry out the command that has these words by processes that work together on a Ray cluster; their status."""
        return start_on_ray([Group(size=self.num_processes, words=lambda host, port: words)], self.ray, say)


def say(line: str) -> None:
    """Print what a process on another host says."""
    ConsoleReporter().say(line)


@dataclass(frozen=True, kw_only=True)
class InParts(Sharing):
    """Options of commands whose problems are divided among processes that know nothing of each other."""

    def on_ray(self, words: Sequence[str]) -> int:
        """The same by processes each of which has a place, restarts and a part of the problems for itself."""
        count = self.num_processes
        if count == 1:
            return super().on_ray(words)
        return start_on_ray([_part(number, count, words) for number in range(count)], self.ray, say)

    @staticmethod
    def reporter_of(shard: Shard) -> ConsoleReporter:
        """What a process with that part of the problems says: of the parts of one command only the first speaks."""
        return ConsoleReporter(is_silent=is_started_together() and shard.index > 1)


def _part(number: int, count: int, words: Sequence[str]) -> Group:
    own = [*words, *part_words(number, count)]
    return Group(size=1, words=lambda host, port: own, name=f"part {number + 1} of {count}")


APART = frozenset({"cluster", "dry_run", "extend", "launcher", "output", "push_to_hub", "ray", "shard"})
"""Options that two commands of one run may have differently: what is done now, and where."""


def identity(options: Any) -> dict[str, Any]:
    """The options that make two commands the same run."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in APART}


MOST_NANO_PARAMETERS = 50_000_000
"""Parameters of the largest model that may be given the embedded models' values; those have two million."""


def preset_in(args: Sequence[str]) -> str | None:
    """The last preset that the arguments name, as `--preset NAME` or `--preset=NAME`; None where they name none."""
    found = None
    for place, word in enumerate(args):
        if word == "--preset":
            found = args[place + 1] if place + 1 < len(args) else ""
        elif word.startswith("--preset="):
            found = word.removeprefix("--preset=")
    return found


def preset_words(name: str, command: str) -> list[str]:
    """The words of a preset on the command line of a command, those of the preset that it builds on first.

    Raises UsageError for an unknown preset.
    """
    from thor_tir.commands.config_file import words_of

    if (file := PRESETS.get(name)) is None:
        raise UsageError(f"--preset is one of {', '.join(PRESETS)}, found {name!r}")
    words = words_of(file, command)
    base = preset_in(words)
    return [*([] if base is None else preset_words(base, command)), *words, "--preset", name]


def defaults(command: str, args: Sequence[str]) -> Any:
    """The options of a command under the preset that its arguments name; None where they name none.

    Raises UsageError for an unknown preset, or for a command that has none.
    """
    name = preset_in(args)
    if name is None:
        return None
    kind = options_of(command)
    fields = {f.name for f in dataclasses.fields(kind)}
    if "preset" not in fields:
        raise UsageError("this command has no --preset; tirgen, sft, rl, eval, solve, chat and serve have")
    if get_type_hints(kind, include_extras=True)["preset"] != PresetOption:
        return None  # an option of its own by that name, with values of its own
    is_reasoning = [word for word in args if word in ("--reasoning", "--no-reasoning")][-1:] == ["--reasoning"]
    if is_reasoning and name == "released":
        raise UsageError(
            "the released code's values are for models that do not reason; give --preset paper-reasoning, and single "
            "options beside it"
        )
    if is_reasoning and name == "paper":
        name = "paper-reasoning"
    return tyro.cli(kind, args=preset_words(name, command))


def tell_precision(
    say: Callable[[str], None],
    *,
    trains: bool = False,
    engine: "EngineOptions | None" = None,
    models: Sequence[str] = (),
) -> None:
    """Say that bfloat16 is the slow way on a machine without a GPU or such products, where training asks for it, or an
    engine that samples from these models. Servers have precisions of their own; of processes together the first speaks.
    """
    samples = engine is not None and engine.bf16 and engine.name == "local" and not all(map(is_address, models))
    better = [option for option, is_asked in (("--no-bf16", trains), ("--engine.no-bf16", samples)) if is_asked]
    if not better or os.environ.get("RANK", "0") != "0":
        return
    from thor_tir.products import multiplies_halves

    if not multiplies_halves():
        say(
            "this processor has no products in bfloat16, and takes several times as long for them as in float32: "
            f"{' and '.join(better)} is faster here"
        )


if TYPE_CHECKING:
    from thor_tir.engines.options import EngineOptions
    from thor_tir.grading.judge import JudgeConfig


def check_size(
    model: str, options: Mapping[str, tuple[object, object]], say: Callable[[str], None] = lambda sentence: None
) -> None:
    """Refuse to use values of the embedded models for a large one: `options` are pairs of a value and theirs, by name.

    Of a model behind an address the size is not known: `say` is given a sentence. Raises UsageError, also for a model
    that does not load.
    """
    kept = ", ".join(f"{option} {value}" for option, (value, nano) in options.items() if value == nano)
    if not kept or model in EMBEDDED:
        return
    advice = "give --preset paper (--preset paper-reasoning for a reasoning model), or other values of these options"
    if is_address(model):
        say(f"{model} is asked with values of the embedded models, {kept}: if it is a larger one, {advice}")
        return
    from thor_tir.engines.loading import num_parameters

    if (size := num_parameters(model)) > MOST_NANO_PARAMETERS:
        raise UsageError(
            f"{model} has {size / 1e6:,.0f} million parameters, and {kept} is meant for the embedded models with two: "
            f"{advice}"
        )


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """A judge for answers that the rules leave unscored."""

    judge_model: str = ""
    """A language model, asked about answers that the rules leave unscored; its verdicts are counted apart."""
    judge_url: str = ""
    """Its OpenAI-compatible address, such as http://10.0.0.5:8000/v1; empty for OpenAI's own."""
    judge_key: Annotated[str, tyro.conf.arg(aliases=["--judge-key-env"])] = "OPENAI_API_KEY"
    """Environment variable that holds the judge's key; endpoints without keys need none."""

    def config(self, journal: Path) -> "JudgeConfig | None":
        """The judge, whose opinions `journal` keeps; None where none is wanted. Raises UsageError for no address."""
        if not self.judge_model:
            return None
        from thor_tir.address import check_address
        from thor_tir.grading.judge import JudgeConfig

        address = check_address(self.judge_url) if self.judge_url else ""
        return JudgeConfig(model=self.judge_model, base_url=address, key_variable=self.judge_key, journal=journal)


NO_JUDGE = JudgeOptions()
