"""One model on named benchmarks: sampled, graded and kept attempt by attempt; tables when every attempt is there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from time import perf_counter
from typing import Any

from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import LoadedModel, Reporter, Runtime, open_runtime
from thor_tir.app.stages.evaluate import EvalSpec
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import CODE, CODE_TOOLS, NO_TOOLS, PromptStyle
from thor_tir.dialect.thinking import thinking_of, unless_cut_short
from thor_tir.engines.loading import is_address
from thor_tir.engines.protocol import Policy
from thor_tir.errors import UsageError
from thor_tir.eval.code.grader import CodeGrader, written
from thor_tir.eval.folder import BenchmarkFolder
from thor_tir.eval.metrics import averages, set_result
from thor_tir.eval.tables import latex, markdown, plot
from thor_tir.grading.judge import JudgeConfig, opened
from thor_tir.grading.strictness import Strictness
from thor_tir.grading.version import grader_version
from thor_tir.inference.self_correction import self_correction
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.provenance import machine, versions
from thor_tir.rollout.attempts import DROPPED, AttemptRequest, SamplingSetup, attempt, attempt_to_json, record_all
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import write_atomically
from thor_tir.storage.shard import Shard


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkRun:
    """What is asked of whom, and where it is kept."""

    spec: EvalSpec
    sets: tuple[ProblemSet, ...]
    """With the problems that are asked; fewer than a set's own where the user limits them."""
    config: RunConfig
    folder: BenchmarkFolder
    shard: Shard
    judge: JudgeConfig | None = None
    """A language model that is asked about answers which the rules leave unscored."""

    @property
    def has_tools(self) -> bool:
        """Whether programs in a response are run."""
        return self.spec.style is not NO_TOOLS


async def run_benchmarks(run: BenchmarkRun, reporter: Reporter) -> None:
    """Make the attempts of this shard that are not on disk yet.

    Raises UsageError for a model that does not load or a folder that another process fills, and the machine's faults.
    """
    names = [each.name for each in run.sets]
    if len(set(names)) < len(names):
        raise UsageError(f"two sets have one name: {', '.join(names)}; name each once, or rename a file")
    spec, config = run.spec, run.config
    with run.folder.writing(run.shard), opened(run.judge) as judge:
        async with (
            open_runtime(config.resources, Strictness.LENIENT, judge=judge) as runtime,
            runtime.load(spec.model, spec.served, reporter, thinks=config.reasoning and run.has_tools) as loaded,
        ):
            run.folder.start(run.sets, manifest(run, weights=digest_of(loaded), sandbox=runtime.sandbox.level))
            for asked in run.sets:
                await fill(run, asked, setup_for(run, asked, runtime, loaded.policy, loaded.tokenizer), reporter)
            if loaded.model is None:
                write_atomically(run.folder.path / "endpoint.json", json.dumps(loaded.about(), indent=1) + "\n")


def setup_for(run: BenchmarkRun, asked: ProblemSet, runtime: Runtime, policy: Policy, tokenizer: Any) -> SamplingSetup:
    """How attempts at one set are made: its kind decides what the model is told and what is graded."""
    config = DialectConfig(
        style=style_of(run.spec, asked.kind),
        is_reasoning=run.config.reasoning,
        runs_programs=run.has_tools,
        observation=run.config.observation,
    )
    dialect = Dialect(tokenizer, config)
    setup = runtime.setup(policy, dialect, rollout_of(run))
    if asked.kind is ProblemKind.CODE:
        grade, graded = CodeGrader(asked.tasks, runtime.sandbox).grade, unless_cut_short(written, thinking_of(dialect))
        setup = replace(setup, grade=grade, graded=graded)
    if run.spec.correction is not None:
        setup = replace(setup, repair=self_correction(setup.agent, setup.config, run.spec.correction))
    return setup


def style_of(spec: EvalSpec, kind: ProblemKind) -> PromptStyle:
    """What the spec is told before a problem of that kind."""
    if kind is ProblemKind.MATHEMATICS:
        return spec.style
    return CODE if spec.style is NO_TOOLS else CODE_TOOLS


def limited(asked: ProblemSet, limit: int | None) -> ProblemSet:
    """Only the first `limit` problems of a set, which its notes then say."""
    if limit is None or limit >= len(asked.problems):
        return asked
    note = f"{asked.name}: the first {limit} of {len(asked.problems)} problems"
    return replace(asked, problems=asked.problems[:limit], notes=(*asked.notes, note))


def rollout_of(run: BenchmarkRun) -> RolloutConfig:
    """How each trajectory is sampled; without tools no call may be made."""
    rollout = run.config.eval.rollout
    return rollout if run.has_tools else replace(rollout, max_calls=0)


async def fill(run: BenchmarkRun, asked: ProblemSet, setup: SamplingSetup, reporter: Reporter) -> None:
    """Add the missing attempts of this shard at a set to its file, in the order of the problems."""
    requests = requests_of(run, asked)
    journal = run.folder.journal(asked.name, run.shard, hold=run.config.resources.deterministic)
    elsewhere = run.folder.rows(asked.name, besides=journal.path)
    todo = {r.id: partial(_timed, r, setup) for r in requests if r.id not in elsewhere}
    with reporter.stage(f"{asked.title}: {run.spec.name}", len(requests)) as progress:
        progress.advance(len(requests) - len(todo))
        await record_all(todo, setup, journal, progress)
    if setup.dropped:
        lost = ", ".join(f"{count} {name}" for name, count in sorted(setup.dropped.items()))
        reporter.say(f"{asked.title}, attempts lost to faults of the machine: {lost}; they count for nothing")


def requests_of(run: BenchmarkRun, asked: ProblemSet) -> list[AttemptRequest]:
    """This shard's attempts at a set. A seed depends on the problem and the sample alone, never on shard or batch."""
    return [
        AttemptRequest(id=f"{p.id}/{sample}", problem=p, seed=seed_of(run.config.eval.seed, p.id, sample))
        for position, p in enumerate(asked.problems)
        if run.shard.owns(position)
        for sample in range(run.spec.samples)
    ]


async def _timed(request: AttemptRequest, setup: SamplingSetup) -> dict[str, Any]:
    began = perf_counter()
    row = attempt_to_json(await attempt(request, setup))
    return {**row, "seconds": perf_counter() - began}


def write_results(folder: BenchmarkFolder, reporter: Reporter) -> dict[str, Any] | None:
    """Unite all shards into results.json, .md, .tex and a plot; None, and a sentence, while attempts are missing."""
    sets = folder.sets
    missing = {asked.name: num for asked in sets if (num := folder.num_missing(asked)) > 0}
    if missing:
        told = ", ".join(f"{name} {num}" for name, num in missing.items())
        reporter.say(f"attempts still missing: {told}; the same command (or its other shards) continues")
        return None
    known = folder.manifest
    entries = [_entry(folder, asked, known) for asked in sets]
    about = {key: known[key] for key in ("name", "model", "samples", "seed")}
    results = {"schema": 1, **about, "sets": entries, **averages(entries)}
    write_atomically(folder.path / "results.json", json.dumps(results, indent=1) + "\n")
    write_atomically(folder.path / "results.md", markdown(results))
    write_atomically(folder.path / "results.tex", latex(results))
    if not plot(results, folder.path / "results.png"):
        reporter.say("no plot: `pip install thor-tir[report]` brings matplotlib")
    return results


def _entry(folder: BenchmarkFolder, asked: ProblemSet, known: Mapping[str, Any]) -> dict[str, Any]:
    seconds = [row["seconds"] for row in folder.rows(asked.name).values() if DROPPED not in row]
    return set_result(asked, folder.evaluation(asked), seconds, samples=known["samples"], seed=known["seed"])


def manifest(run: BenchmarkRun, *, weights: str | None, sandbox: str) -> dict[str, Any]:
    """Everything that is needed to repeat the run, apart from the data, whose digests are added per set."""
    spec = run.spec
    return {
        "schema": 1,
        "name": spec.name,
        "model": spec.model,
        "served": asdict(spec.served) if is_address(spec.model) else None,
        "weights_sha256": weights,
        "samples": spec.samples,
        "seed": run.config.eval.seed,
        "reasoning": run.config.reasoning,
        "prompts": {kind.value: asdict(style_of(spec, kind)) for kind in sorted({s.kind for s in run.sets})},
        "observation": asdict(run.config.observation) if run.has_tools else None,
        "rollout": asdict(rollout_of(run)),
        "correction": None if spec.correction is None else asdict(spec.correction),
        "resources": asdict(run.config.resources),
        "sandbox": sandbox,
        "grader": {"version": grader_version(), "strictness": Strictness.LENIENT.value},
        "judge": None if run.judge is None else {"model": run.judge.model, "address": run.judge.base_url},
        "versions": versions(),
        "machine": machine(),
    }


def digest_of(loaded: LoadedModel) -> str | None:
    """Which weights they are; None where they are elsewhere, and a server's word is all there is."""
    return None if loaded.model is None else weights_digest(loaded.model)


def weights_digest(model: Any) -> str:
    """SHA-256 over every parameter's name and bytes, as loaded: the same weights under another name are the same."""
    import torch

    found = sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
