"""Commands that build tool-integrated data."""

import asyncio
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from thor_tir.app.config import CallConfig, ResourceConfig, RunConfig
from thor_tir.commands.options import NANO, InParts, PresetOption, check_size, identity, tell_precision
from thor_tir.commands.plans import tell_plans
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.distributed import is_started_together
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.errors import UsageError
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.sources import EVERY, ProblemChoice, local_inputs
from thor_tir.storage.journal import JsonObject, shard_of
from thor_tir.tirgen.generate import TirgenConfig
from thor_tir.tirgen.schedule import AttemptScheduleConfig
from thor_tir.tirgen.selection import FilterConfig


@dataclass(frozen=True, kw_only=True)
class TirgenGenerate(InParts):
    """Raw trajectories: an actor reasons, a critic turns steps into programs, the sandbox runs them.

    Killed at any instant, the same command continues.
    """

    actor: str = NANO.actor
    """Hub name, local folder, nano/actor, or the address that serves it, such as http://10.0.0.5:8000/v1. The model
    that will be trained."""
    actor_model: str = ""
    """Name of the actor on its server; not needed where it serves one model alone."""
    actor_tokenizer: str = ""
    """Tokenizer of an actor behind an address, a folder or hub name. Without it text is all there is, see
    docs/tirgen.md."""
    actor_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the actor's server."""
    critic: str = NANO.critic
    """Hub name, local folder, nano/critic, or an address. Sees isolated steps only."""
    critic_model: str = ""
    """Name of the critic on its server."""
    critic_tokenizer: str = ""
    """Tokenizer of a critic behind an address."""
    critic_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of the critic's server."""
    problems: str = NANO.problems
    """Data set of one's own (a file or folder of JSONL, JSON, CSV, TSV or Parquet, perhaps with @SPLIT, or one of the
    hub as OWNER/NAME:CONFIG@SPLIT), or reasoning_gym:family,family, or reasoning_gym (the nano families)."""
    fields: Annotated[ProblemFields, tyro.conf.arg(name="")] = ANY_FIELDS
    """Columns of a data set of one's own."""
    choice: Annotated[ProblemChoice, tyro.conf.arg(name="")] = EVERY
    """Part of it that is used."""
    count: int = NANO.num_tirgen
    """Questions that are asked, drawn by the seed where the data set has more."""
    no_tools_samples: int = NANO.no_tools_samples
    """Samples without tools per question, to leave out what is solved without them; 0 for none."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    output: Path = Path("runs/tirgen")
    """Folder of the run."""
    shard: str = ""
    """i/n: only this part of the questions, into the same folder as the other parts, by any number of processes."""
    seed: int = 0
    """Seed of the whole run."""
    schedule: Annotated[AttemptScheduleConfig, tyro.conf.arg(name="")] = NANO.schedule
    """Attempts at each question, and what they may cost."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the actor reads of a program's end."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    tirgen: Annotated[TirgenConfig, tyro.conf.arg(name="")] = NANO.tirgen
    """Options of generation."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that the run may use."""

    def run(self) -> None:
        """Generate, and say where the rows are."""
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.tirgen import generate_raw
        from thor_tir.storage.run_lock import check_claim, claim, option_defaults
        from thor_tir.view.export import leave_page

        shard = shard_of(self.shard)
        reporter = self.reporter_of(shard)

        async def work() -> None:
            async with open_runtime(self.resources, calls=self.calls) as runtime:
                await generate_raw(self.config(), self.output, runtime, reporter, shard)

        self.check_limits(reporter)
        if self.dry_run:
            check_claim(self.output, self.options(), inputs=self.inputs, defaults=option_defaults(self))
            self.plan(reporter)
            return
        with claim(self.output, self.options(), shard, inputs=self.inputs, defaults=option_defaults(self)):
            asyncio.run(work())
        reporter.say(f"raw trajectories: {shard.file(self.output, 'raw')}")
        if not self.shard:
            reporter.say(f"report: {leave_page(self.output)}")

    def unite(self) -> None:
        """Say where the parts are, once every one is there."""
        from thor_tir.app.stages.tirgen import MODELS
        from thor_tir.engines.model_record import unite_parts
        from thor_tir.view.export import leave_page

        reporter = ConsoleReporter()
        unite_parts(self.output, MODELS)
        reporter.say(f"raw trajectories: {self.output}, {self.processes} parts")
        reporter.say(f"report: {leave_page(self.output)}")

    def plan(self, reporter: ConsoleReporter) -> None:
        """Say what would be made, and what memory it takes."""
        from thor_tir.app.plan import plan_tirgen

        tell_plans([plan_tirgen(self.config(), reporter.say, is_here=self.is_here)], reporter)

    def check_limits(self, reporter: ConsoleReporter) -> None:
        """Refuse a large actor under the length of the embedded one."""
        limits = (self.tirgen.max_completion_length, NANO.tirgen.max_completion_length)
        check_size(self.actor, {"--max-completion-length": limits}, reporter.say)
        if self.is_here:
            tell_precision(reporter.say, engine=self.resources.engine, models=[self.actor, self.critic])

    @property
    def inputs(self) -> tuple[str, ...]:
        """Files and folders that the run is made from, where they are local."""
        models = (self.actor, self.critic, self.actor_tokenizer, self.critic_tokenizer)
        return *models, *local_inputs(self.problems), *self.calls.inputs

    def options(self) -> JsonObject:
        """Options that make two commands the same run: not which part is done by whom, and not how much is tried."""
        return {name: value for name, value in identity(self).items() if name not in ("schedule", "processes")}

    def config(self) -> RunConfig:
        """The options as a run's configuration."""
        return RunConfig(
            actor=self.actor,
            critic=self.critic,
            actor_served=ServedAs(model=self.actor_model, tokenizer=self.actor_tokenizer, key_variable=self.actor_key),
            critic_served=ServedAs(
                model=self.critic_model, tokenizer=self.critic_tokenizer, key_variable=self.critic_key
            ),
            problems=self.problems,
            fields=self.fields,
            choice=self.choice,
            num_tirgen=self.count,
            reasoning=self.reasoning,
            observation=self.observation,
            calls=self.calls,
            no_tools_samples=self.no_tools_samples,
            schedule=self.schedule,
            tirgen=self.tirgen,
            resources=self.resources,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Tirgen(TirgenGenerate):
    """Build tool-integrated data: an actor reasons, a critic turns steps into programs, the sandbox runs them, and a
    filter keeps what is right, clean and worth learning.
    """

    filter: FilterConfig = NANO.filter
    """Options of the filter."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Files and folders that the run is made from, where they are local."""
        return *super().inputs, *self.filter.benchmarks

    def config(self) -> RunConfig:
        """The options as a run's configuration."""
        return dataclasses.replace(super().config(), filter=self.filter)

    def run(self) -> None:
        """Generate, filter, and say what each stage of the filter left."""
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.tirgen import generate_data
        from thor_tir.storage.run_lock import check_claim, claim, option_defaults

        reporter = ConsoleReporter()

        async def work() -> None:
            async with open_runtime(self.resources, calls=self.calls) as runtime:
                await generate_data(self.config(), self.output, runtime, reporter)

        if self.shard and not is_started_together():
            raise UsageError("a shard is generated alone: `thor tirgen generate --shard`, then `merge` and `filter`")
        if self.shard:
            super().run()
            return
        self.check_limits(reporter)
        if self.dry_run:
            check_claim(self.output, self.options(), inputs=self.inputs, defaults=option_defaults(self))
            self.plan(reporter)
            return
        with claim(self.output, self.options(), inputs=self.inputs, defaults=option_defaults(self)):
            asyncio.run(work())
        self._tell(reporter)

    def unite(self) -> None:
        """Filter what the parts made, and say what each stage left."""
        from thor_tir.app.stages.tirgen import MODELS
        from thor_tir.app.stages.tirgen_data import filter_raw
        from thor_tir.engines.model_record import unite_parts
        from thor_tir.storage.run_lock import claim, option_defaults

        with claim(self.output, self.options(), inputs=self.inputs, defaults=option_defaults(self)):
            unite_parts(self.output, MODELS)
            filter_raw([self.output], self.filter, self.output, seed=self.seed)
        self._tell(ConsoleReporter())

    def _tell(self, reporter: ConsoleReporter) -> None:
        tell_funnel(self.output, reporter)
        reporter.say(f"data set: {self.output / 'dataset.jsonl'}")


@dataclass(frozen=True, kw_only=True)
class TirgenFilter:
    """Choose from raw trajectories what is right, clean and worth learning; say why each other one was left out.

    Reads what `thor tirgen generate` wrote, in one folder or many. Nothing is sampled: the same rows, options and seed
    give the same data set, whatever the order of the rows and folders. Writes dataset.jsonl for `thor sft`,
    rejected.jsonl with a stage and a reason for each row that is left out, and funnel.json with their counts.

    The stages: answer (right), calls (some, and all ran), format (ended, closed fences, paired think tags and dollars,
    a filled box), code (no trivial program), repetition, length, no-tools (a question that is solved without tools),
    overlap (with benchmarks), question (so many samples of each), balance (over numbers of calls and difficulty).
    """

    sources: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs/tirgen"),)
    """Folders that hold raw.jsonl, or such files."""
    output: Path | None = None
    """Folder of the data set; by default the folder of the first source."""
    seed: int = 0
    """Seed of the choice between samples that are equal to the filter."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    filter: FilterConfig = NANO.filter
    """Options of the filter."""

    def run(self) -> None:
        """Filter and say what each stage left."""
        from thor_tir.app.stages.tirgen_data import filter_raw

        if not self.sources:
            raise UsageError("no raw trajectories are named; give the folders that `thor tirgen generate` wrote")
        first = self.sources[0]
        output = self.output or (first if first.is_dir() else first.parent)
        reporter = ConsoleReporter()
        path = filter_raw(self.sources, self.filter, output, seed=self.seed)
        tell_funnel(output, reporter)
        reporter.say(f"data set: {path}")


@dataclass(frozen=True, kw_only=True)
class TirgenMerge:
    """Unite raw folders: the shards of one run, or further attempts at the same questions.

    The same attempt in two folders is one if both say the same; otherwise nothing is written and both are named.
    Rows are ordered by their keys, so that the order of the folders does not matter.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `thor tirgen generate` wrote."""
    output: Path
    """A folder for the united raw.jsonl, no_tools.jsonl and provenance.json."""

    def run(self) -> None:
        """Copy every row once."""
        from thor_tir.tirgen.raw_rows import unite_raw

        if not self.sources:
            raise UsageError("no raw folders are named; give those that `thor tirgen generate` wrote")
        merged = unite_raw(self.sources, self.output)
        reporter = ConsoleReporter()
        attempts = f"{merged.attempts} attempts ({merged.lost} lost to faults of the machine)"
        reporter.say(f"{attempts}, {merged.no_tools} samples without tools")
        reporter.say(f"raw trajectories: {self.output / 'raw.jsonl'}")


@dataclass(frozen=True, kw_only=True)
class TirgenExport:
    """Write a filtered data set in the forms that other trainers and `datasets.load_dataset` read.

    parquet: a table with messages, segments and provenance. messages: one chat a line, for TRL's SFTTrainer, ms-swift
    and most others; the loss of such trainers covers tool outputs too. turns: outputs are turns of the tool, which
    ms-swift leaves out of the loss. tokens: ids and labels, for TRL with the same tokenizer; exactly what `thor sft`
    trains. The data set itself, dataset.jsonl, holds everything.
    """

    folder: tyro.conf.Positional[Path] = Path("runs/tirgen")
    """Folder that holds dataset.jsonl."""
    output: Path | None = None
    """Folder of the forms; by default the folder `export` within it."""
    forms: tuple[Literal["parquet", "messages", "turns", "tokens"], ...] = ("parquet", "messages", "turns", "tokens")
    """Forms that are written."""
    model: str = NANO.actor
    """For tokens: hub name or local folder of the model that will be trained."""
    reasoning: bool = False
    """For tokens: a reasoning model; its chat template opens a thinking turn."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Prompts that the model is trained with; for tokens tools beside Python, and the spelling of calls."""

    push_to_hub: str = ""
    """Name on a hub, OWNER/NAME, to which the forms are pushed, privately, with the card (docs/push.md)."""

    def run(self) -> None:
        """Write, and say where."""
        from thor_tir.app.push import CARD, check_push, find_upload, push
        from thor_tir.app.stages.tirgen_data import export_dataset
        from thor_tir.tirgen.publish.card import write_card

        if self.push_to_hub:
            check_push(self.push_to_hub)

        output = self.output or self.folder / "export"
        reporter = ConsoleReporter()
        paths = export_dataset(
            self.folder / "dataset.jsonl",
            output,
            self.forms,
            model=self.model,
            reasoning=self.reasoning,
            calls=self.calls,
        )
        for path in paths:
            reporter.say(f"{path}")
        if self.push_to_hub:
            if not (output / CARD).is_file():
                write_card(self.folder, output, title=self.push_to_hub)
            push(find_upload(output, self.push_to_hub), self.push_to_hub, is_public=False, say=reporter.say)


@dataclass(frozen=True, kw_only=True)
class TirgenCard:
    """Describe a filtered data set: README.md in the hub's form, one HTML page, and figures as PNG.

    Samples by number of calls and difficulty, lengths, sources, what each stage of the filter left, code ratio, and
    what became of the critic's replies. With the files of `thor tirgen export` it makes a folder to be published.
    """

    folder: tyro.conf.Positional[Path] = Path("runs/tirgen")
    """Folder that holds dataset.jsonl and funnel.json."""
    output: Path | None = None
    """Folder of the card; by default the folder `export` within it."""
    title: str = "TIRGen: tool-integrated mathematical reasoning"
    """Name of the data set."""
    licence: str = ""
    """Its licence as the hub spells it, such as apache-2.0; none is claimed by default."""

    def run(self) -> None:
        """Count, draw, write."""
        from thor_tir.tirgen.publish.card import write_card

        output = self.output or self.folder / "export"
        page = write_card(self.folder, output, title=self.title, licence=self.licence)
        reporter = ConsoleReporter()
        reporter.say(f"card: {output / 'README.md'}")
        reporter.say(f"page: {page}")


def tell_funnel(folder: Path, reporter: ConsoleReporter) -> None:
    """One line for each stage of the filter, and one that says so where nothing is left."""
    stage: JsonObject = {}
    for stage in json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["stages"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage["rejected"].items())
        reporter.say(f"{stage['kept']:>7} after {stage['name']}" + (f" (dropped: {reasons})" if reasons else ""))
    if not stage.get("kept"):
        reporter.say("no sample is left: rejected.jsonl has the stage and the reason of each")
