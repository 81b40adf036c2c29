"""Commands that measure a model."""

import asyncio
import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from thor_tir.app.config import EvalConfig, ResourceConfig, RunConfig
from thor_tir.commands.judging import NO_JUDGE, JudgeOptions
from thor_tir.commands.presets import NANO
from thor_tir.console import ConsoleReporter, results_table, text_table
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Accuracy, call success and cost of a model on problems or benchmarks, with 95 % intervals over the problems.

    With --benchmark the run may be interrupted, continued and sharded; `thor eval compare A B` compares two of them.
    """

    model: str = NANO.actor
    """Hub name, local folder, nano/actor, or the address of an OpenAI-compatible server: http://HOST:PORT/v1."""
    model_name: str = ""
    """Of an address: which of its models, where it serves several."""
    model_tokenizer: Annotated[str, tyro.conf.arg(aliases=["--tokenizer"])] = ""
    """Of an address: the model's tokenizer, a folder or hub name; without it text is all there is."""
    model_key: str = "OPENAI_API_KEY"
    """Of an address: the environment variable that holds its key."""
    problems: str = NANO.problems
    """JSONL file, reasoning_gym:family,family, or reasoning_gym for the nano families (their test split)."""
    benchmark: str = ""
    """Instead of --problems: names such as math500,aime24 (`six`: the paper's six), humanevalplus, and JSONL files."""
    data: Path | None = None
    """A benchmark's file, or the folder that holds the files of several; without it they are asked of the hub."""
    samples: int | None = None
    """Attempts per problem, instead of --eval.samples."""
    seed: int | None = None
    """Of all attempts, instead of --eval.seed."""
    limit: int | None = None
    """Only the first so many problems of each benchmark."""
    window: str = ""
    """Only problems of contests in these days, as in 2024-08-01..2025-05-31, for LiveCodeBench."""
    shard: str = ""
    """i/n: only this part of the problems, into the same folder as the other parts; `thor eval merge` unites them."""
    accept_modified: bool = False
    """Evaluate a benchmark's data although they are not the registered ones; the results say so."""
    output: Path | None = None
    """Where attempts and results go; by default a folder of runs/eval named after these options."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    words: bool = False
    """Answer without tools: no program is run."""
    correct: bool = False
    """With self-correction: a failed call is backtracked and written again."""
    judge: Annotated[JudgeOptions, tyro.conf.arg(name="")] = NO_JUDGE
    observation: ObservationConfig = NANO.observation
    eval: EvalConfig = NANO.eval
    resources: ResourceConfig = NANO.resources

    def run(self) -> None:
        """Sample, grade and print."""
        if self.samples is not None and self.samples < 1:
            raise UsageError(f"--samples is {self.samples}; at least one attempt per problem is needed")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit is {self.limit}; at least one problem is needed")
        if self.benchmark:
            self._run_benchmarks()
            return
        apart = (self.data, self.shard, self.limit, self.accept_modified, self.window, self.judge.judge_model)
        if any(apart):
            raise UsageError(
                "--data, --shard, --limit, --window, --judge-model and --accept-modified belong to --benchmark, "
                "which is not given"
            )
        self._run_problems()

    def _run_problems(self) -> None:
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.evaluate import evaluate_model
        from thor_tir.eval.run import result_row
        from thor_tir.problems.sources import Split, load_problems
        from thor_tir.seeds import seed_for
        from thor_tir.storage.journal import write_atomically
        from thor_tir.storage.run_lock import claim

        config = self._config()
        problems = load_problems(
            self.problems,
            split=Split.TEST,
            count=self.eval.num_problems,
            seed=seed_for("test", config.eval.seed),
            configs=config.families,
        )
        reporter = ConsoleReporter()
        options = self._options()
        output = self._output(options)

        async def work() -> Any:
            async with open_runtime(self.resources) as runtime:
                return await evaluate_model(self._spec(), problems, config, output, runtime, reporter)

        with claim(output, options, inputs=(self.model, self.problems)):
            row = result_row(asyncio.run(work()))
        write_atomically(output / "results.json", json.dumps([row], indent=1) + "\n")
        reporter.console.print(results_table([row]))
        reporter.say(f"attempts and results: {output}")

    def _run_benchmarks(self) -> None:
        from thor_tir.app.stages.benchmark import BenchmarkRun, limited, run_benchmarks
        from thor_tir.eval.folder import BenchmarkFolder
        from thor_tir.problems.benchmarks import SIX_SETS
        from thor_tir.problems.sets import load_set, within
        from thor_tir.storage.run_lock import claim
        from thor_tir.storage.shard import shard_of

        words = [word.strip() for word in self.benchmark.split(",") if word.strip()]
        names = [name for word in words for name in (SIX_SETS if word == "six" else (word,))]
        if not names:
            raise UsageError(f"--benchmark names no set, found {self.benchmark!r}; `thor eval --help` has examples")
        shard = shard_of(self.shard)
        sets = [load_set(name, self.data, accept_modified=self.accept_modified) for name in names]
        if self.window:
            sets = [within(each, self.window) for each in sets]
        options = self._options()
        output = self._output(options)
        run = BenchmarkRun(
            spec=self._spec(),
            sets=tuple(limited(each, self.limit) for each in sets),
            config=self._config(),
            folder=BenchmarkFolder(path=output),
            shard=shard,
            judge=self.judge.config(output / f"judge{shard.index if self.shard else ''}.jsonl"),
        )
        reporter = ConsoleReporter()
        with claim(output, options, shard, inputs=self._inputs(names)):
            asyncio.run(run_benchmarks(run, reporter))
        _tell(run.folder, reporter)

    def _inputs(self, names: Sequence[str]) -> list[str]:
        """Files that the run is made from: the model, problem files, and the data folder."""
        data = [] if self.data is None else [str(self.data)]
        return [self.model, *names, *data]

    def _options(self) -> Mapping[str, Any]:
        """What makes two commands the same run: everything but where it is kept and which part of it is done."""
        asked = self if self.benchmark else dataclasses.replace(self, eval=self._config().eval)
        options = dataclasses.asdict(asked)
        options |= options.pop("judge")
        apart = {"shard", "output"} if self.benchmark else _OF_BENCHMARKS
        return {name: value for name, value in options.items() if name not in apart}

    def _output(self, options: Mapping[str, Any]) -> Path:
        from thor_tir.problem import digest

        return self.output or Path("runs/eval") / digest(json.dumps(options, default=str))

    def _config(self) -> RunConfig:
        evaluation = dataclasses.replace(
            self.eval,
            samples=self.eval.samples if self.samples is None else self.samples,
            seed=self.eval.seed if self.seed is None else self.seed,
        )
        return RunConfig(
            problems=self.problems,
            reasoning=self.reasoning,
            observation=self.observation,
            eval=evaluation,
            resources=self.resources,
        )

    def _spec(self) -> Any:
        from thor_tir.app.stages.evaluate import EvalSpec
        from thor_tir.dialect.prompts import NO_TOOLS, TOOLS
        from thor_tir.engines.openai_api.policy import ServedAs

        if self.words and self.correct:
            raise UsageError("--words runs no program, so there is nothing to --correct; give one of them")
        config = self._config().eval
        return EvalSpec(
            name="words" if self.words else "corrected" if self.correct else "tools",
            model=self.model,
            samples=config.samples,
            style=NO_TOOLS if self.words else TOOLS,
            correction=config.correction if self.correct else None,
            served=ServedAs(model=self.model_name, tokenizer=self.model_tokenizer, key_variable=self.model_key),
        )


_OF_BENCHMARKS = {"benchmark", "data", "samples", "seed", "limit", "window", "shard", "accept_modified", "judge_model"}
"""Options without a meaning for --problems, or that are told by what they replace."""


@dataclass(frozen=True, kw_only=True)
class EvalMerge:
    """Unite the shards of a benchmark run: results.json, Markdown, LaTeX and a plot from what is on disk."""

    folder: tyro.conf.Positional[Path]

    def run(self) -> None:
        """Read, write, print. Raises UsageError while attempts are missing."""
        from thor_tir.eval.folder import BenchmarkFolder

        if not _tell(BenchmarkFolder(path=self.folder), ConsoleReporter()):
            raise UsageError(f"{self.folder} is not complete; run its missing shards")


@dataclass(frozen=True, kw_only=True)
class EvalCompare:
    """The difference of two benchmark runs on the same problems: intervals, McNemar's test, problems that flipped."""

    first: tyro.conf.Positional[Path]
    second: tyro.conf.Positional[Path]
    out: Path | None = None
    """A JSON file for the whole comparison."""
    seed: int = 0
    """Of the bootstrap."""

    def run(self) -> None:
        """Read both, print, and write where asked."""
        from thor_tir.eval.compare import compare, comparison_rows
        from thor_tir.eval.folder import BenchmarkFolder
        from thor_tir.storage.journal import check_place, write_atomically

        if self.out is not None:
            check_place(self.out)
        found = compare(BenchmarkFolder(path=self.first), BenchmarkFolder(path=self.second), seed=self.seed)
        reporter = ConsoleReporter()
        reporter.console.print(text_table("First minus second, in points", *comparison_rows(found)))
        first, second = found["first"], found["second"]
        for key in (key for key in first if key != "folder" and first[key] != second[key]):
            reporter.say(f"they differ in {key}: {first[key]} against {second[key]}")
        for entry in found["sets"]:
            for side, ids in entry["flipped"].items():
                if ids:
                    reporter.say(f"{entry['title']}, solved by the {side.removeprefix('only_')} alone: {' '.join(ids)}")
        if self.out is not None:
            write_atomically(self.out, json.dumps(found, indent=1) + "\n")


def _tell(folder: Any, reporter: ConsoleReporter) -> bool:
    """Write and print the results of a benchmark run; False where it is not complete."""
    from thor_tir.app.stages.benchmark import write_results
    from thor_tir.eval.tables import score_table

    results = write_results(folder, reporter)
    if results is not None:
        reporter.console.print(text_table("Percent, with 95 % intervals over problems", *score_table(results)))
    reporter.say(f"attempts and results: {folder.path}")
    return results is not None
