"""Commands that turn raw trajectories into a data set: filter, merge, export, card."""

import json
from dataclasses import dataclass
from pathlib import Path

import tyro

from thor_tir.commands.presets import NANO
from thor_tir.console import ConsoleReporter
from thor_tir.faults import UsageError
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
    filter: FilterConfig = NANO.filter

    def run(self) -> None:
        """Filter and say what each stage left."""
        from thor_tir.recipes.tirgen_filter import filter_raw

        if not self.sources:
            raise UsageError("no raw trajectories are named; give the folders that `thor tirgen generate` wrote")
        first = self.sources[0]
        output = self.output or (first if first.is_dir() else first.parent)
        reporter = ConsoleReporter()
        path = filter_raw(self.sources, self.filter, output)
        tell_funnel(output, reporter)
        reporter.say(f"data set: {path}")


def tell_funnel(folder: Path, reporter: ConsoleReporter) -> None:
    """One line for each stage of the filter."""
    for stage in json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["stages"]:
        reasons = ", ".join(f"{reason} {count}" for reason, count in stage["rejected"].items())
        reporter.say(f"{stage['kept']:>7} after {stage['name']}" + (f" (dropped: {reasons})" if reasons else ""))
