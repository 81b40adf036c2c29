"""Commands that turn raw trajectories into a data set: filter, merge, export, card."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from thor_tir.commands.options import NANO, PresetOption
from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.tirgen.filters import FilterConfig


@dataclass(frozen=True, kw_only=True)
class TirgenFilter:
    """Choose from raw trajectories what is right, clean and worth learning; say why each other one was left out.

    Reads what `thor tirgen generate` wrote, in one folder or many. Nothing is sampled: the same rows, options and seed
    give the same data set, whatever the order of the rows and folders. Writes dataset.jsonl for `thor sft`,
    rejected.jsonl with a stage and a reason for each row that is left out, and funnel.json with their counts.

    The stages: answer (right), calls (some, and all ran), format (ended, closed fences, paired think tags and dollars,
    a filled box), code (no trivial program), repetition, length, words (a question that tool-free samples solve),
    overlap (with benchmarks), question (so many samples of each), balance (over numbers of calls and difficulty).
    """

    sources: tyro.conf.Positional[tuple[Path, ...]] = (Path("runs/tirgen"),)
    """Folders that hold raw.jsonl, or such files."""
    output: Path | None = None
    """Where the data set goes; by default the folder of the first source."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    filter: FilterConfig = NANO.filter
    """Options of the filter."""

    def run(self) -> None:
        """Filter and say what each stage left."""
        from thor_tir.app.stages.tirgen_filter import filter_raw

        if not self.sources:
            raise UsageError("no raw trajectories are named; give the folders that `thor tirgen generate` wrote")
        first = self.sources[0]
        output = self.output or (first if first.is_dir() else first.parent)
        reporter = ConsoleReporter()
        path = filter_raw(self.sources, self.filter, output)
        tell_funnel(output, reporter)
        reporter.say(f"data set: {path}")


@dataclass(frozen=True, kw_only=True)
class TirgenMerge:
    """Unite raw folders: the shards of one run, or further attempts at the same questions.

    The same attempt in two folders is one if both tell the same; otherwise nothing is written and both are named.
    Rows are ordered by their keys, so that the order of the folders does not matter.
    """

    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Folders that `thor tirgen generate` wrote."""
    output: Path
    """A folder for the united raw.jsonl, words.jsonl and provenance.json."""

    def run(self) -> None:
        """Copy every row once."""
        from thor_tir.tirgen.publish.merge import merge

        if not self.sources:
            raise UsageError("no raw folders are named; give those that `thor tirgen generate` wrote")
        merged = merge(self.sources, self.output)
        reporter = ConsoleReporter()
        reporter.say(f"{merged.attempts} attempts ({merged.lost} lost to faults), {merged.words} tool-free samples")
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
    """Where dataset.jsonl is."""
    output: Path | None = None
    """Where the forms go; by default the folder `export` within it."""
    forms: tuple[Literal["parquet", "messages", "turns", "tokens"], ...] = ("parquet", "messages", "turns", "tokens")
    """Which ones."""
    model: str = NANO.actor
    """For tokens: hub name or local folder of the model that will be trained."""
    reasoning: bool = False
    """For tokens: a reasoning model; its chat template opens a thinking turn."""

    def run(self) -> None:
        """Write, and say where."""
        from thor_tir.app.stages.tirgen_export import export

        output = self.output or self.folder / "export"
        reporter = ConsoleReporter()
        paths = export(self.folder / "dataset.jsonl", output, self.forms, model=self.model, reasoning=self.reasoning)
        for path in paths:
            reporter.say(f"{path}")


@dataclass(frozen=True, kw_only=True)
class TirgenCard:
    """Describe a filtered data set: README.md in the hub's form, one HTML page, and figures as PNG.

    Samples by number of calls and difficulty, lengths, sources, what each stage of the filter left, code ratio, and
    what became of the critic's replies. With the files of `thor tirgen export` it makes a folder to be published.
    """

    folder: tyro.conf.Positional[Path] = Path("runs/tirgen")
    """Where dataset.jsonl and funnel.json are."""
    output: Path | None = None
    """Where the card goes; by default the folder `export` within it."""
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
    """One line for each stage of the filter."""
    for stage in json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["stages"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage["rejected"].items())
        reporter.say(f"{stage['kept']:>7} after {stage['name']}" + (f" (dropped: {reasons})" if reasons else ""))
