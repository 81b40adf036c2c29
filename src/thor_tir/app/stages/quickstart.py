"""The whole method, end to end: questions -> TIRGen -> cold start -> hierarchical RL -> inference -> report.

Every stage leaves a `done.json` in its folder. The same command continues after a kill: finished stages are not run
again, and within a stage no finished unit is.
"""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import Runtime, open_runtime
from thor_tir.app.stages.evaluate import (
    EvalRun,
    EvalSpec,
    check_measured,
    evaluate_within,
    limited,
    record_results,
    results_of,
)
from thor_tir.app.stages.own_problems import with_own_problems
from thor_tir.app.stages.rl import reinforce
from thor_tir.app.stages.sft import fine_tune
from thor_tir.app.stages.sft_data import SftSource
from thor_tir.app.stages.tirgen import generate_data
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompts import NO_TOOLS
from thor_tir.distributed import ALONE, Ranks
from thor_tir.engines.loading import load_tokenizer
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder, Evaluation, best_of
from thor_tir.eval.metrics import failure_classes, paired, tool_success
from thor_tir.eval.results import Results
from thor_tir.eval.statistics import Interval
from thor_tir.eval.transcript import Exhibit, exhibit
from thor_tir.inference.best_of_n import COMPARED, SELECTORS
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.problems.sets import generated_set, load_set
from thor_tir.problems.sources import is_generated, local_inputs
from thor_tir.progress import Reporter
from thor_tir.provenance import extensions, file_digest, machine, versions
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import Journal, write_atomically
from thor_tir.storage.run_lock import claim, option_defaults
from thor_tir.tirgen.dataset import read_dataset
from thor_tir.verdict import Strictness

BASE, BASE_TOOLS, SFT, RL = "base actor, without tools", "base actor, with tools", "after SFT", "after hierarchical RL"
CORRECTED = "RL + self-correction"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """The results of a finished run."""

    results: Sequence[Results]
    """Content of results.json, one entry a row."""
    summary: Mapping[str, Any]
    """Content of summary.json: paired differences, association, failures, times."""


async def run_quickstart(
    config: RunConfig,
    folder: Path,
    reporter: Reporter,
    given: Mapping[str, Any] | None = None,
    ranks: Ranks = ALONE,
) -> RunSummary:
    """Run or continue a whole run in `folder`; returns what stands in its results and summary.

    `given` are the options of the command that asks, which its record holds in place of the whole configuration.
    Processes that share the work must all call it, and all get the same.
    """
    options = run_options(config, ranks.size)
    with ranks.led(claim(folder, options, inputs=run_inputs(config), given=given, defaults=option_defaults(config))):
        config = ranks.lead(lambda: with_own_problems(config, folder, reporter.say))
        return await _run(config, folder, reporter, ranks)


def run_options(config: RunConfig, num_processes: int) -> Mapping[str, Any]:
    """The options that a whole run is held to."""
    return asdict(config) | ({} if num_processes == 1 else {"num_processes": num_processes})


def run_inputs(config: RunConfig) -> tuple[str, ...]:
    """Files and folders that a whole run is made of."""
    problems = [*local_inputs(config.problems), *local_inputs(config.test_problems)]
    return config.actor, config.critic, *problems


async def _run(config: RunConfig, folder: Path, reporter: Reporter, ranks: Ranks) -> RunSummary:
    async with open_runtime(config.resources, ranks=ranks) as runtime:
        dataset, say = folder / "tirgen" / "dataset.jsonl", reporter.say
        await _once(folder / "tirgen", lambda: generate_data(config, folder / "tirgen", runtime, reporter), say, ranks)
        reporter.say(_funnel_line(folder / "tirgen"))

        async def cold_start() -> Path:
            exact = replace(config.sft, save_dtype="float32")  # RL goes on from it: nothing is rounded in between
            source, place, reasoning = SftSource(data=str(dataset)), folder / "sft", config.reasoning
            return fine_tune(config.actor, source, exact, place, reporter, reasoning=reasoning, ranks=ranks)

        await _once(folder / "sft", cold_start, say, ranks)
        tuned = str(folder / "sft" / "model")
        await _once(folder / "rl", lambda: reinforce(config, tuned, folder / "rl", runtime, reporter), say, ranks)
        began = perf_counter()
        evaluations = await _evaluate(config, folder, runtime, reporter)
    return ranks.lead(lambda: _conclude(config, folder, evaluations, eval_seconds=perf_counter() - began))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One row of the results: a spec, and the folder that holds its attempts."""

    spec: EvalSpec
    """Model, and how it is asked."""
    folder: EvalFolder
    """Place of the attempts."""

    @property
    def evaluation(self) -> Evaluation:
        """All attempts that were made."""
        (asked,) = self.folder.sets
        return self.folder.evaluation(asked)

    @property
    def chosen(self) -> Evaluation:
        """The attempts that count."""
        if self.spec.select is None:
            return self.evaluation
        return best_of(self.evaluation, self.spec.select, seed=self.folder.manifest["seed"])

    @property
    def results(self) -> Results:
        """The content of results.json."""
        return results_of(self.folder, name=self.spec.name, select=self.spec.select)


def specs_of(config: RunConfig, folder: Path) -> list[EvalSpec]:
    """The rows of the results. Those that select among attempts of another row have its model and follow it."""
    tuned, trained = str(folder / "sft" / "model"), str(folder / "rl" / "model")
    samples, num = config.eval.samples, config.eval.best_of
    return [
        EvalSpec(name=BASE, model=config.actor, samples=1, style=NO_TOOLS),
        EvalSpec(name=BASE_TOOLS, model=config.actor, samples=1),
        EvalSpec(name=SFT, model=tuned, samples=samples),
        EvalSpec(name=RL, model=trained, samples=num),
        EvalSpec(name=CORRECTED, model=trained, samples=samples, correction=config.eval.correction),
        *(EvalSpec(name=best_row(name, num), model=trained, samples=num, select=name) for name in COMPARED),
    ]


async def _evaluate(config: RunConfig, folder: Path, runtime: Runtime, reporter: Reporter) -> list[_Row]:
    """Make the attempts of every row; a row that selects has those of the trained model."""
    asked = _test_set(config)
    rows = []
    for spec in specs_of(config, folder):
        place = RL if spec.select is not None else spec.name
        row = _Row(spec=spec, folder=EvalFolder(path=folder / "eval" / place.replace(" ", "-").replace(",", "")))
        if spec.select is None:
            run = EvalRun(spec=spec, sets=(asked,), config=config, folder=row.folder, strictness=Strictness.STRICT)
            await evaluate_within(run, runtime, reporter)
            runtime.ranks.lead(partial(record_results, row.folder))
        rows.append(row)
    return rows


def _test_set(config: RunConfig) -> ProblemSet:
    if not is_generated(config.problems):
        return limited(load_set(config.test_problems, fields=config.fields), config.eval.num_problems)
    return generated_set(config.problems, config.families, count=config.eval.num_problems, seed=config.seed)


def best_row(selector: str, num: int) -> str:
    """Name of the row of a selector over `num` attempts of the trained model."""
    return f"RL, {SELECTORS[selector].title.format(num)}"


def _conclude(config: RunConfig, folder: Path, rows: Sequence[_Row], *, eval_seconds: float) -> RunSummary:
    if not (folder / "eval" / "done.json").exists():
        write_atomically(folder / "eval" / "done.json", json.dumps({"seconds": eval_seconds}))
    seconds = {stage: _seconds(folder / stage) for stage in ("tirgen", "sft", "rl", "eval")}
    results = [row.results for row in rows]
    write_atomically(folder / "results.json", json.dumps({"schema": 1, "runs": results}, indent=1) + "\n")
    found = {row.spec.name: row.chosen for row in rows}
    best = best_row("pass-rate", config.eval.best_of)
    pairs = [(SFT, BASE), (RL, SFT), (CORRECTED, RL), (best, RL)]
    seed = config.eval.seed
    summary = {
        "paired": [
            _difference(f"{ours} - {theirs}", gap)
            for ours, theirs in pairs
            if (gap := paired(found[ours], found[theirs], seed=seed)) is not None
        ],
        "chi_squared": tool_success([*found[SFT].groups, *found[RL].groups]),
        "failure_classes": {
            "before RL": failure_classes(_first(found[SFT], config.eval.samples)),
            "after RL": failure_classes(_first(found[RL], config.eval.samples)),
        },
        "seconds": seconds,
        "machine": machine(),
        "config": asdict(config),
        "versions": versions(),
        "seed": config.seed,
    }
    write_atomically(folder / "summary.json", json.dumps(summary, indent=1) + "\n")
    _write_exhibits(config, folder, {row.spec.name: row.evaluation for row in rows if row.spec.select is None})
    check_measured(results)
    return RunSummary(results=results, summary=summary)


def _first(evaluation: Evaluation, samples: int) -> list[Attempt]:
    """The first attempts of each problem, so that counts of two configurations can be compared."""
    return [attempt for group in evaluation.groups for attempt in group[:samples]]


def _difference(name: str, interval: Interval) -> dict[str, object]:
    return {"name": name, "difference": interval.mean, "ci95": [interval.low, interval.high]}


EXHIBITS_PER_STAGE = 60


def _write_exhibits(config: RunConfig, folder: Path, found: Mapping[str, Evaluation]) -> None:
    """A sample of trajectories of every stage for the report's browser, chosen by the seed."""
    decode = Dialect(load_tokenizer(config.actor)).decode
    rng = Random(config.seed)

    def shown(stage: str, attempts: Sequence[Attempt]) -> Iterable[Exhibit]:
        for a in rng.sample(list(attempts), min(EXHIBITS_PER_STAGE, len(attempts))):
            yield exhibit(a.problem, a.trajectory, stage=stage, verdict=a.verdict, decode=decode)

    lines: list[Mapping[str, Any]] = [*shown("TIRGen", read_dataset(folder / "tirgen" / "dataset.jsonl"))]
    for name, evaluation in found.items():
        lines += shown(f"eval: {name}", evaluation.attempts)
    lines += Journal(folder / "rl" / "trajectories.jsonl")
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_atomically(folder / "trajectories.jsonl", text)


async def _once(
    folder: Path, stage: Callable[[], Awaitable[Path]], say: Callable[[str], None], ranks: Ranks = ALONE
) -> None:
    """Run a stage unless it has finished before, and note how long it took and what the files that it made hold.

    A stage whose files are not what they were is finished again: from its journals and checkpoints, as after a kill.
    """
    before = ranks.lead(lambda: _seconds_before(folder, say))
    if before is None:
        return
    began = perf_counter()
    made = await stage()
    ranks.wait()
    ranks.lead(lambda: _note_done(folder, made, before + perf_counter() - began))


def _seconds_before(folder: Path, say: Callable[[str], None]) -> float | None:
    """Seconds that were spent on a stage which is to be finished; None for one that is finished.

    Raises UsageError for one that was extended by itself: what this run made of it would be of another model.
    """
    if extended := extensions(folder):
        raise UsageError(
            f"{folder} was extended by itself ({extended[-1]['option']} was {extended[0]['was']}, is "
            f"{extended[-1]['now']}), and this run's results are those of before: measure its model by `thor eval "
            f"--model {folder / 'model'}`, or give another --output"
        )
    done = folder / "done.json"
    if not done.exists():
        return 0.0
    known = json.loads(done.read_text(encoding="utf-8"))
    changed = [name for name, digest in known["files"].items() if _digest(folder / name) != digest]
    if not changed:
        return None
    say(f"{', '.join(changed)} in {folder} is damaged or missing: the stage that made it is finished again")
    return float(known["seconds"])


def _note_done(folder: Path, made: Path, seconds: float) -> None:
    files = [file for file in ([made] if made.is_file() else sorted(made.rglob("*"))) if file.is_file()]
    digests = {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
    write_atomically(folder / "done.json", json.dumps({"seconds": seconds, "files": digests}, indent=1) + "\n")


def _digest(path: Path) -> str | None:
    """The digest of a file; None where there is none."""
    return file_digest(path) if path.is_file() else None


def _seconds(folder: Path) -> float:
    return float(json.loads((folder / "done.json").read_text(encoding="utf-8"))["seconds"])


def _funnel_line(folder: Path) -> str:
    stages = json.loads((folder / "funnel.json").read_text(encoding="utf-8"))["stages"]
    return "filter: " + " -> ".join(f"{stage['name']} {stage['kept']}" for stage in stages)
