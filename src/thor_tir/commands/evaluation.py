"""Commands that measure a model, or programs."""

import asyncio
import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from thor_tir.app.config import CallConfig, EvalConfig, ResourceConfig, RunConfig
from thor_tir.commands.options import (
    NANO,
    NO_JUDGE,
    InParts,
    JudgeOptions,
    PresetOption,
    check_size,
    identity,
    tell_precision,
)
from thor_tir.commands.plans import tell_plans
from thor_tir.console import ConsoleReporter, text_table
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.distributed import is_started_together
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.errors import UsageError
from thor_tir.eval.code.extract_program import ExtractorName
from thor_tir.hooks import hook_files
from thor_tir.inference.best_of_n import NAMES, expanded
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.sources import is_generated, local_inputs

if TYPE_CHECKING:
    from thor_tir.app.stages.evaluate import EvalSpec
    from thor_tir.eval.folder import EvalFolder
    from thor_tir.problems.benchmarks import ProblemSet


CORRECTION_UNREAD = "--correction options say how failed calls are repaired: give --correct as well"


@dataclass(frozen=True, kw_only=True)
class Eval(InParts):
    """Accuracy, call success and cost of a model on sets of problems, with 95 % intervals over the problems.

    A run may be interrupted, continued and sharded; `thor eval compare A B` compares two of them.
    """

    model: str = NANO.actor
    """Hub name, local folder, nano/actor, or the address of an OpenAI-compatible server: http://HOST:PORT/v1."""
    model_name: str = ""
    """Model at an address that serves several."""
    model_tokenizer: Annotated[str, tyro.conf.arg(aliases=["--tokenizer"])] = ""
    """Tokenizer of a model at an address, a folder or hub name; without it only text is exchanged."""
    model_key: str = "OPENAI_API_KEY"
    """Environment variable that holds the key of an address."""
    problems: str = NANO.problems
    """Sets of problems: names such as math500,aime24 (`six`: the paper's six) or humanevalplus, and data sets of one's
    own (files or folders of JSONL, JSON, CSV, TSV or Parquet, or OWNER/NAME:CONFIG@SPLIT of the hub); or
    reasoning_gym:family,family, or reasoning_gym for the nano families (their test split)."""
    fields: Annotated[ProblemFields, tyro.conf.arg(name="")] = ANY_FIELDS
    """Columns of data sets of one's own."""
    data: Path | None = None
    """A benchmark's file, or the folder that holds the files of several; without it they are asked of the hub."""
    limit: Annotated[int | None, tyro.conf.arg(aliases=["--first"])] = None
    """Number of problems asked of each set, the first ones; reasoning_gym makes that many, else --num-problems."""
    window: str = ""
    """Days of the contests whose problems are asked, as in 2024-08-01..2025-05-31, for LiveCodeBench."""
    shard: str = ""
    """i/n: only this part of the problems, into the same folder as the other parts; `thor eval merge` unites them."""
    accept_modified: bool = False
    """Evaluate a benchmark's data although they are not the registered ones; the results say so."""
    output: Path | None = None
    """Folder of attempts and results; by default one of runs/eval named after these options."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    tools: bool = True
    """Run the programs in a response; --no-tools asks for an answer without any."""
    correct: bool = False
    """With self-correction: a failed call is backtracked and written again, as --correction.scope says."""
    select: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"[{{all,{','.join(NAMES)},FILE.py:FUNCTION}} ...]")] = ()
    """Selector that takes one of a problem's attempts (best-of-N, N is --samples); without it all are scored. Of
    several, or of `all` that need no place, a table compares what each takes of the same attempts."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""
    extractor: ExtractorName = "thor"
    """Way from a reply to its program, for benchmarks of programs: thor's own, or that of EvalPlus or LiveCodeBench
    where numbers stand beside theirs."""
    judge: Annotated[JudgeOptions, tyro.conf.arg(name="")] = NO_JUDGE
    """Language model asked about answers that the rules leave unscored."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    observation: ObservationConfig = NANO.observation
    """Text that the model reads of a program's end."""
    calls: Annotated[CallConfig, tyro.conf.arg(name="")] = NANO.calls
    """Tools beside Python, and the spelling of calls."""
    eval: Annotated[EvalConfig, tyro.conf.arg(name="")] = NANO.eval
    """Options of the evaluation."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that the run may use."""

    def check_named(self, typed: Set[str]) -> None:
        """Raise UsageError for options on the command line that would not be read, whatever their values."""
        from thor_tir.problems.sets import is_benchmark

        if not self.correct and any(name.startswith("--correction.") for name in typed):
            raise UsageError(CORRECTION_UNREAD)
        if not self.tools and "--tool" in typed:
            raise UsageError("--no-tools runs none, so --tool would not be read: leave one of them out")
        if "--data" in typed and (is_generated(self.problems) or not any(map(is_benchmark, self._names()))):
            raise UsageError(f"--data holds files of benchmarks, and {self.problems} is none: leave it out")

    def run(self) -> None:
        """Sample, grade and print."""
        from thor_tir.app.stages.evaluate import EvalRun, evaluate
        from thor_tir.eval.folder import EvalFolder
        from thor_tir.storage.journal import shard_of
        from thor_tir.storage.run_lock import Claimed, check_claim, claim, option_defaults

        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; at least one problem is needed")
        shard, spec, sets = shard_of(self.shard), self._spec(), self._sets()
        options = self._options()
        output = self._output(options)
        run = EvalRun(
            spec=spec,
            sets=sets,
            config=self._config(),
            folder=EvalFolder(path=output),
            shard=shard,
            extractor=self.extractor,
            rewards=self.rewards,
            judge=self.judge.config(output / f"judge{shard.index if self.shard else ''}.jsonl"),
        )
        reporter = self.reporter_of(shard)
        self.check_limits(reporter)
        claimed: Claimed = {
            "inputs": self._inputs(),
            "functions": hook_files(self.select),
            "defaults": option_defaults(self),
        }
        if self.dry_run:
            from thor_tir.app.plan import plan_eval

            check_claim(output, options, **claimed)
            tell_plans([plan_eval(run, reporter.say, is_here=self.is_here)], reporter)
            return
        with claim(output, options, shard, **claimed):
            asyncio.run(evaluate(run, reporter))
        if not is_started_together():  # else whoever started the parts unites them
            finish(run.folder, reporter)

    def check_limits(self, reporter: ConsoleReporter) -> None:
        """Refuse a large model under the length of the embedded one."""
        limits = (self.eval.rollout.max_completion_length, NANO.eval.rollout.max_completion_length)
        check_size(self.model, {"--rollout.max-completion-length": limits}, reporter.say)
        if self.is_here:
            tell_precision(reporter.say, engine=self.resources.engine, models=[self.model])

    def unite(self) -> None:
        """Write and print the results, once every part is there."""
        from thor_tir.eval.folder import EvalFolder

        finish(EvalFolder(path=self._output(self._options())), ConsoleReporter())

    def _sets(self) -> "tuple[ProblemSet, ...]":
        from thor_tir.app.stages.evaluate import limited
        from thor_tir.problems.sets import generated_set, load_set, within

        count, seed = self.limit or self.eval.num_problems, self.eval.seed
        if is_generated(self.problems):
            if self.window:
                raise UsageError(f"--window is of contests, and {self.problems} has no days: leave it out")
            families = self._config().families
            return (generated_set(self.problems, families, count=count, seed=seed, fields=self.fields),)
        load = partial(
            load_set,
            data=self.data,
            accept_modified=self.accept_modified,
            fields=self.fields,
            most=count,
            seed=seed,
        )
        sets = [load(name) for name in self._names()]
        if self.window:
            sets = [within(each, self.window) for each in sets]
        return tuple(limited(each, self.limit) for each in sets)

    def _names(self) -> list[str]:
        from thor_tir.problems.benchmarks import SIX_SETS

        names = [name.strip() for name in re.split(r",(?!\s*\w+=)", self.problems) if name.strip()]
        if not names:
            raise UsageError(f"--problems names no set, found {self.problems!r}; `thor eval --help` has examples")
        return [each for name in names for each in (SIX_SETS if name == "six" else (name,))]

    def _inputs(self) -> list[str]:
        """Files that the run is made from: model, tokenizer, problem files, data folder, tools."""
        from thor_tir.problems.sets import is_benchmark

        names = [] if is_generated(self.problems) else self._names()
        own = [path for name in names if not is_benchmark(name) for path in local_inputs(name)]
        data = [] if self.data is None else [str(self.data)]
        return [self.model, self.model_tokenizer, *own, *data, *self.calls.inputs]

    def _options(self) -> Mapping[str, Any]:
        """Everything that makes two commands the same run: not where it is kept, nor which part of it is done."""
        options = identity(self)
        del options["processes"]
        return {**options, **options.pop("judge")}

    def _output(self, options: Mapping[str, Any]) -> Path:
        from thor_tir.problem import digest

        return self.output or Path("runs/eval") / digest(json.dumps(options, default=str))

    def _config(self) -> RunConfig:
        return RunConfig(
            problems=self.problems,
            reasoning=self.reasoning,
            observation=self.observation,
            calls=self.calls,
            eval=self.eval,
            resources=self.resources,
        )

    def _spec(self) -> "EvalSpec":
        from thor_tir.app.stages.evaluate import EvalSpec
        from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
        from thor_tir.engines.openai_api.policy import ServedAs

        if self.correct and not self.tools:
            raise UsageError("--no-tools runs no program, so there is nothing to --correct; give one of them")
        config, names = self.eval, expanded(self.select)
        plain = SelfCorrectionConfig(suffix_tokens=config.correction.suffix_tokens)  # presets set L_suf
        if not self.correct and config.correction != plain:
            raise UsageError(CORRECTION_UNREAD)
        scope = config.correction.scope if self.correct else "none"
        name = {"suffix": "corrected", "none": "tools" if self.tools else "no tools"}.get(scope, f"corrected: {scope}")
        return EvalSpec(
            name=name,
            model=self.model,
            samples=config.samples,
            style=TOOLS if self.tools else NO_TOOLS,
            correction=None if scope == "none" else config.correction,
            select=names[0] if len(names) == 1 else None,
            compared=names if len(names) > 1 else (),
            served=ServedAs(model=self.model_name, tokenizer=self.model_tokenizer, key_variable=self.model_key),
        )


@dataclass(frozen=True, kw_only=True)
class EvalMerge:
    """Unite the shards of an evaluation: results.json, Markdown, LaTeX and a plot from what is on disk."""

    folder: tyro.conf.Positional[Path]
    """Folder of the evaluation."""

    def run(self) -> None:
        """Read, write, print. Raises UsageError while attempts are missing."""
        from thor_tir.eval.folder import EvalFolder

        if not finish(EvalFolder(path=self.folder), ConsoleReporter()):
            raise UsageError(f"{self.folder} is not complete; run its missing shards")


@dataclass(frozen=True, kw_only=True)
class EvalCompare:
    """The difference of two evaluations on the same problems: intervals, McNemar's test, problems that flipped."""

    first: tyro.conf.Positional[Path]
    """Folder of one evaluation."""
    second: tyro.conf.Positional[Path]
    """Folder of the other."""
    output: Path | None = None
    """JSON file for the whole comparison."""
    seed: int = 0
    """Seed of the bootstrap."""

    def run(self) -> None:
        """Read both, print, and write where asked."""
        from thor_tir.eval.compare import compare, comparison_rows
        from thor_tir.eval.folder import EvalFolder
        from thor_tir.storage.journal import check_place, write_atomically

        if self.output is not None:
            check_place(self.output)
        found = compare(EvalFolder(path=self.first), EvalFolder(path=self.second), seed=self.seed)
        reporter = ConsoleReporter()
        reporter.show(text_table("First minus second, in points", *comparison_rows(found)))
        first, second = found["first"], found["second"]
        for key in (key for key in first if key != "folder" and first[key] != second[key]):
            reporter.say(f"they differ in {key}: {first[key]} against {second[key]}")
        for entry in found["sets"]:
            for side, ids in entry["flipped"].items():
                if ids:
                    reporter.say(f"{entry['title']}, solved by the {side.removeprefix('only_')} alone: {' '.join(ids)}")
        if self.output is not None:
            write_atomically(self.output, json.dumps(found, indent=1) + "\n")


@dataclass(frozen=True, kw_only=True)
class EvalTable:
    """Several evaluations of the same problems side by side, each against the first: accuracy, calls and cost.

    With runs of several scopes of self-correction these are Tables 5, 6 and 7 of the paper.
    """

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of finished evaluations, the one that others are compared with first."""
    output: Path | None = None
    """Folder for table.md, table.json and, where matplotlib is installed, table.png."""
    seed: int = 0
    """Seed of the bootstrap."""

    def run(self) -> None:
        """Read, print, and write where asked."""
        from thor_tir.app.stages.evaluate import results_of
        from thor_tir.eval.folder import EvalFolder
        from thor_tir.eval.side_by_side import TABLES, as_markdown, draw, rows, side_by_side
        from thor_tir.storage.journal import write_atomically

        if len(self.folders) < 2:
            raise UsageError("a table compares at least two folders")
        folders = [EvalFolder(path=path) for path in self.folders]
        lines = side_by_side([(folder, results_of(folder)) for folder in folders], seed=self.seed)
        reporter = ConsoleReporter()
        for title in TABLES:
            reporter.show(text_table(title, *rows(lines, title)))
        if self.output is not None:
            self.output.mkdir(parents=True, exist_ok=True)
            write_atomically(self.output / "table.md", as_markdown(lines))
            write_atomically(self.output / "table.json", json.dumps(lines, indent=1) + "\n")
            draw(lines, self.output / "table.png")
            reporter.say(f"tables: {self.output}")


def finish(folder: "EvalFolder", reporter: ConsoleReporter) -> bool:
    """Write and print the results of an evaluation; False where it is not complete."""
    from thor_tir.app.stages.evaluate import check_measured, write_results
    from thor_tir.eval.metrics import remarks
    from thor_tir.eval.selector_tables import growth_table, selector_remarks, selector_table
    from thor_tir.eval.tables import score_table
    from thor_tir.view.export import leave_page

    results = write_results(folder, reporter)
    if results is not None:
        reporter.show(text_table("Percent, with 95 % intervals over problems", *score_table(results)))
        for entry in results["sets"]:
            for sentence in remarks(entry):
                reporter.say(sentence)
            if entry.get("selectors"):
                reporter.show(text_table(f"Selectors on {entry['title']}", *selector_table(entry)))
                reporter.show(text_table("Growth with the number of candidates", *growth_table(entry)))
        for sentence in selector_remarks(results):
            reporter.say(sentence)
        is_measured = any(entry["avg"] is not None for entry in results["sets"])
        if is_measured and folder.manifest.get("calls") and not any(entry["calls"] for entry in results["sets"]):
            reporter.say("not one call was made; if the model writes calls in another form, --dialect names it")
    reporter.say(f"attempts and results: {folder.path}")
    if results is not None:
        reporter.say(f"report: {leave_page(folder.path)}")
        check_measured([results])
    return results is not None
