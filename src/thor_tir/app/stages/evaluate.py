"""One model on sets of problems: sampled, graded and kept attempt by attempt; tables when every attempt is there."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from time import perf_counter

from thor_tir.address import is_address
from thor_tir.app.config import RunConfig
from thor_tir.app.reference_report import with_reference_notes, with_unread_note
from thor_tir.app.runtime import LoadedModel, Runtime, announce, open_runtime
from thor_tir.app.stages.opinions import OpinionPlace, ask_opinions, asked_with
from thor_tir.dialect.dialect import thinking_of, unless_cut_short
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import CODE, CODE_TOOLS, TOOLS, PromptStyle
from thor_tir.engines.figures import united_record
from thor_tir.engines.model_record import ModelRecord, unite_parts
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.engines.protocol import Policy
from thor_tir.errors import MachineFault, NothingMeasured, UsageError
from thor_tir.eval.code.check import CodeGrader, written
from thor_tir.eval.code.extract_program import ExtractorName
from thor_tir.eval.folder import EvalFolder, best_of, is_asked_about
from thor_tir.eval.metrics import averages, set_result
from thor_tir.eval.results import Manifest, Results
from thor_tir.eval.selector_tables import plot_growth, selector_markdown
from thor_tir.eval.selectors import selector_results
from thor_tir.eval.tables import latex, markdown, plot
from thor_tir.extras import installation
from thor_tir.grading.judge import JudgeConfig, opened
from thor_tir.grading.types import grader_version
from thor_tir.inference.asking import AskingSetup
from thor_tir.inference.best_of_n import selector
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.pretrained import Tokenizer, weights_digest
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.progress import Reporter
from thor_tir.provenance import machine, versions
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.rollout.rewards import load_rewards
from thor_tir.rollout.sample_many import AttemptRequest, SamplingSetup, attempt, attempt_to_json, record_all
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import WHOLE, JsonObject, Shard, write_atomically
from thor_tir.verdict import Strictness

ENDPOINT = "endpoint"
"""Name of the record of a model that servers sample from; each part of an evaluation has one of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSpec:
    """One model under one way of being asked: a row of the results."""

    name: str
    """Name of the row."""
    model: str
    """Model by name, or the address that serves it."""
    samples: int
    """Attempts per problem."""
    style: PromptStyle = TOOLS
    """Prompt for problems of mathematics, which also says whether programs are run."""
    correction: SelfCorrectionConfig | None = None
    """Self-correction of failed calls; None for none."""
    select: str | None = None
    """Name of the selector that takes one of a problem's attempts; None scores all of them."""
    compared: tuple[str, ...] = ()
    """Names of selectors that are compared on the attempts, all of which are scored."""
    judged: tuple[str, ...] = ("exact",)
    """Rewards that judge each attempt beside its verdict, as `thor rl` names them; `exact` alone is the verdict."""
    served: ServedAs = field(default_factory=ServedAs)
    """Model, tokenizer and key of an address."""

    def __post_init__(self) -> None:
        for name in self.selectors:
            selector(name)

    @property
    def selectors(self) -> tuple[str, ...]:
        """All selectors that are needed."""
        return (*(() if self.select is None else (self.select,)), *self.compared)

    @property
    def has_tools(self) -> bool:
        """True if programs in a response are run."""
        return self.style.runs_programs


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalRun:
    """One evaluation: a spec, the problems, and the folder that keeps it."""

    spec: EvalSpec
    """Model, and how it is asked."""
    sets: tuple[ProblemSet, ...]
    """Problems that are asked; fewer than a set's own where the user limits them."""
    config: RunConfig
    """Sampling, observations and resources; only what an evaluation reads of it."""
    folder: EvalFolder
    """Place of attempts and results."""
    shard: Shard = WHOLE
    """Part of the problems that this process asks."""
    strictness: Strictness = Strictness.LENIENT
    """Form in which answers are accepted: as people write them, or boxed as in training."""
    extractor: ExtractorName = "thor"
    """Way from a text to its program, for problems whose answer is one."""
    judge: JudgeConfig | None = None
    """Language model that is asked about answers which the rules leave unscored."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""


async def evaluate(run: EvalRun, reporter: Reporter) -> None:
    """Make the attempts of this shard that are not on disk yet.

    Raises UsageError for a model that does not load or a folder that another process fills, and the machine's faults.
    """
    check_eval(run)
    with opened(run.judge) as judge:
        async with open_runtime(run.config.resources, run.strictness, judge=judge, calls=run.config.calls) as runtime:
            await evaluate_within(run, runtime, reporter)


def check_eval(run: EvalRun) -> None:
    """Raise UsageError for sets and selectors that do not go together, and for a reward model that is not there."""
    names = [each.name for each in run.sets]
    if len(set(names)) < len(names):
        raise UsageError(f"two sets have one name: {', '.join(names)}; name each once, or rename a file")
    for each in run.sets:
        if run.spec.select is not None and not is_asked_about(selector(run.spec.select).asks, each.kind):
            raise UsageError(f"{each.name} asks for programs, which {run.spec.select} does not compare; take pass-rate")
    asked_with(run.spec.selectors, run.rewards)


async def evaluate_within(run: EvalRun, runtime: Runtime, reporter: Reporter) -> None:
    """The same with a sandbox and a grader that are there already; the grader's strictness is the run's."""
    spec, thinks = run.spec, run.config.reasoning and run.spec.has_tools
    run = replace(run, sets=tuple(with_reference_notes(asked, reporter.say) for asked in run.sets))
    with runtime.ranks.led(run.folder.writing(run.shard)):
        record = ModelRecord(run.shard.file(run.folder.path, ENDPOINT).with_suffix(".json"))
        is_served = is_address(spec.model) or run.config.resources.engine.name != "local"
        async with runtime.load(spec.model, spec.served, reporter, thinks=thinks) as loaded:
            if is_served and runtime.ranks.leads:
                record.begin()
            try:
                await evaluate_loaded(run, loaded, runtime, reporter, weights=_weights(loaded))
            except BaseException:
                if is_served and runtime.ranks.is_alone:
                    record.end(loaded.about())
                raise
            about = united_record(runtime.ranks.gather(dict(loaded.about())))
            if is_served and runtime.ranks.leads:
                record.end(about)


async def evaluate_loaded(
    run: EvalRun, loaded: LoadedModel, runtime: Runtime, reporter: Reporter, *, weights: str | None
) -> None:
    """The same with a model that is there already, of whose weights `weights` is the digest, if it is known.

    The caller holds the right to write into the folder. Processes that share the model must all call it.
    """
    setups = [setup_for(run, asked, runtime, loaded.policy, loaded.tokenizer) for asked in run.sets]
    pairs = zip(run.sets, setups, strict=True)
    sets = [with_unread_note(asked, setup.agent.dialect, reporter.say) for asked, setup in pairs]
    run = replace(run, sets=tuple(sets))
    about = manifest(run, weights=weights, sandbox=runtime.sandbox.level)
    runtime.ranks.lead(lambda: run.folder.start(run.sets, about))
    if setups and run.spec.has_tools and runtime.ranks.leads:
        announce(setups[0].agent.dialect, run.folder.path, reporter.say)
    for asked, setup in zip(run.sets, setups, strict=True):
        await fill(run, asked, setup, reporter)
    await ask_selectors(run, setups, reporter)


async def ask_selectors(run: EvalRun, setups: Sequence[SamplingSetup], reporter: Reporter) -> None:
    """Ask for the opinions that the run's selectors need and that are not on disk, with the set-up of each set."""
    if not run.spec.selectors:
        return
    names, asks = run.spec.compared, asked_with(run.spec.selectors, run.rewards)
    run.folder.compare_selectors(names, asks)
    resources = run.config.resources
    place = OpinionPlace(
        folder=run.folder, shard=run.shard, concurrency=resources.concurrency, hold=resources.deterministic
    )
    for asked, setup in zip(run.sets, setups, strict=True):
        tokenizer, config = setup.agent.dialect.tokenizer, setup.config
        asking = AskingSetup(
            agent=setup.agent, config=config, tokenizer=tokenizer, rewards=run.rewards, say=reporter.say
        )
        await ask_opinions(place, asked, list(asks), asking, reporter)


def setup_for(run: EvalRun, asked: ProblemSet, runtime: Runtime, policy: Policy, tokenizer: Tokenizer) -> SamplingSetup:
    """The set-up for attempts at one set: its kind decides the prompt and the grader."""
    dialect = runtime.dialect(
        tokenizer,
        style_of(run.spec, asked.kind),
        reasoning=run.config.reasoning,
        observation=run.config.observation,
    )
    setup = runtime.setup(policy, dialect, rollout_of(run))
    if asked.kind is ProblemKind.CODE:
        grade, graded = (
            CodeGrader(asked.tasks, runtime.sandbox, run.extractor).grade,
            unless_cut_short(written, thinking_of(dialect)),
        )
        setup = replace(setup, grade=grade, graded=graded)
    setup = replace(setup, rewards=load_rewards(run.spec.judged))
    if run.spec.correction is not None:
        setup = replace(setup, repair=self_correction(setup.agent, setup.config, run.spec.correction))
    return setup


def style_of(spec: EvalSpec, kind: ProblemKind) -> PromptStyle:
    """The prompt of a spec for problems of that kind."""
    if kind is ProblemKind.MATHEMATICS:
        return spec.style
    return CODE_TOOLS if spec.has_tools else CODE


def limited(asked: ProblemSet, limit: int | None) -> ProblemSet:
    """The first `limit` problems of a set; its notes then say so."""
    if limit is None or limit >= len(asked.problems):
        return asked
    note = f"{asked.name}: the first {limit} of {len(asked.problems)} problems"
    return replace(asked, problems=asked.problems[:limit], notes=(*asked.notes, note))


def rollout_of(run: EvalRun) -> RolloutConfig:
    """Sampling and limits of a trajectory; without tools no call may be made."""
    rollout = run.config.eval.rollout
    return rollout if run.spec.has_tools else replace(rollout, max_tool_calling_iterations=0)


async def fill(run: EvalRun, asked: ProblemSet, setup: SamplingSetup, reporter: Reporter) -> None:
    """Add the missing attempts of this shard at a set to its file, in the order of the problems."""
    requests = requests_of(run, asked)
    elsewhere = run.folder.rows(asked.name, besides=run.folder.file(asked.name, run.shard))
    journal = run.folder.journal(asked.name, run.shard, hold=run.config.resources.deterministic, ranks=setup.ranks)
    why: list[str] = []
    todo = {r.id: partial(_timed, r, setup, why) for r in requests if r.id not in elsewhere}
    with reporter.stage(f"{asked.title}: {run.spec.name}", len(requests)) as progress:
        progress.resume(len(requests) - len(todo))
        dropped = await record_all(todo, setup, journal, progress)
    if dropped:
        lost = ", ".join(f"{count} {name}" for name, count in sorted(dropped.items()))
        example = f", for example: {why[0]}" if why else ""
        reporter.say(f"{asked.title}, attempts lost to faults of the machine: {lost}{example}")


def requests_of(run: EvalRun, asked: ProblemSet) -> list[AttemptRequest]:
    """This shard's attempts at a set. A seed depends on the problem and the sample alone, never on shard or batch."""
    return [
        AttemptRequest(id=f"{p.id}/{sample}", problem=p, seed=seed_of(run.config.eval.seed, p.id, sample))
        for position, p in enumerate(asked.problems)
        if run.shard.owns(position)
        for sample in range(run.spec.samples)
    ]


async def _timed(request: AttemptRequest, setup: SamplingSetup, why: list[str]) -> JsonObject:
    """The row of one attempt. What a fault of the machine says is added to `why`, and the fault passes through."""
    began = perf_counter()
    try:
        row = attempt_to_json(await attempt(request, setup))
    except MachineFault as fault:
        why.append(str(fault))
        raise
    return {**row, "seconds": perf_counter() - began}


def write_results(folder: EvalFolder, reporter: Reporter) -> Results | None:
    """Unite all shards into results.json, .md, .tex and a plot; None, and a sentence, while attempts are missing."""
    missing = {asked.name: num for asked in folder.sets if (num := folder.num_missing(asked)) > 0}
    if missing:
        counts = ", ".join(f"{name} {num}" for name, num in missing.items())
        reporter.say(f"attempts still missing: {counts}; the same command (or its other shards) continues")
        return None
    asks = [asks for name in folder.asking for asks in (selector(name).asks,) if asks]
    unasked = {asks_: num for asks_ in asks if (num := sum(folder.num_unasked(asks_, asked) for asked in folder.sets))}
    if unasked:
        counts = ", ".join(f"{name} {num}" for name, num in unasked.items())
        reporter.say(f"opinions still missing: {counts}; the same command, or `thor eval select`, continues")
        return None
    results = record_results(folder)
    unite_parts(folder.path, ENDPOINT)
    write_atomically(folder.path / "results.md", markdown(results) + selector_markdown(results))
    write_atomically(folder.path / "results.tex", latex(results))
    if not plot(results, folder.path / "results.png"):
        reporter.say(f"no plot without matplotlib: {installation('matplotlib')}")
    elif folder.selectors:
        plot_growth(results, folder.path / "growth.png")
    return results


def record_results(folder: EvalFolder) -> Results:
    """Write results.json, once all attempts are there."""
    results = results_of(folder)
    write_atomically(folder.path / "results.json", json.dumps(results, indent=1) + "\n")
    return results


def check_measured(results: Sequence[Results]) -> None:
    """Raises NothingMeasured where not one attempt of these evaluations could be scored."""
    entries = [entry for each in results for entry in each["sets"]]
    if any(entry["avg"] is not None for entry in entries):
        return
    asked = sum(entry["lost"]["asked"] for entry in entries)
    unscored = sum(entry["lost"]["unscored"] for entry in entries)
    faults: Counter[str] = sum((Counter(entry["lost"]["machine"]) for entry in entries), Counter())
    reasons = [f"{count} were lost to {name}" for name, count in sorted(faults.items())]
    reasons += [f"{unscored} could not be graded, so look at the references"] if unscored else []
    raise NothingMeasured(
        f"nothing was measured: of {asked} attempts {' and '.join(reasons)}; lost attempts stay lost, so mend the "
        "cause and give another --output"
    )


def results_of(folder: EvalFolder, *, name: str | None = None, select: str | None = None) -> Results:
    """The content of results.json once all attempts are there; or that of another row, which selects among them."""
    known = folder.manifest
    select, seed = select or known.get("select"), known["seed"]
    counts_only = folder.counts_suffice(select or "")
    entries = []
    for asked in folder.sets:
        paid = chosen = folder.evaluation(asked, counts_only=counts_only)
        if select is not None:
            chosen = best_of(paid, select, seed=seed, opinions=folder.opinions(select, asked))
        entry = set_result(asked, paid, chosen, paid.seconds, samples=known["samples"], seed=seed)
        if folder.selectors and name is None:
            entry["selectors"] = selector_results(folder, asked, paid)
        entries.append(entry)
    return {
        "schema": 1,
        "name": name or known["name"],
        "model": known["model"],
        "samples": known["samples"],
        "seed": seed,
        "select": select,
        "sets": entries,
        **averages(entries),
    }


def manifest(run: EvalRun, *, weights: str | None, sandbox: str) -> Manifest:
    """Everything that is needed to repeat the run, apart from the problems, whose digests it holds."""
    spec, own = run.spec, read_prompts(run.config.calls.prompts)
    kinds = sorted({each.kind for each in run.sets})
    return {
        "schema": 1,
        "name": spec.name,
        "model": spec.model,
        "served": asdict(spec.served) if is_address(spec.model) else None,
        "weights_sha256": weights,
        "samples": spec.samples,
        "select": spec.select,
        "seed": run.config.eval.seed,
        "reasoning": run.config.reasoning,
        "prompts": {kind.value: asdict(own.get(style := style_of(spec, kind), style)) for kind in kinds},
        "observation": asdict(run.config.observation) if run.spec.has_tools else None,
        "calls": asdict(run.config.calls) if run.spec.has_tools else None,
        "rollout": asdict(rollout_of(run)),
        "correction": None if spec.correction is None else asdict(spec.correction),
        "resources": asdict(run.config.resources),
        "sandbox": sandbox,
        "grader": {"version": grader_version(), "strictness": run.strictness.value},
        "extractor": run.extractor,
        "judge": None if run.judge is None else {"model": run.judge.model, "address": run.judge.base_url},
        "versions": versions(),
        "machine": machine(),
        "sets": [
            {
                "name": s.name,
                "title": s.title,
                "kind": s.kind.value,
                "n": len(s.problems),
                "sha256": s.sha256,
                "notes": list(s.notes),
            }
            for s in run.sets
        ],
    }


def _weights(loaded: LoadedModel) -> str | None:
    """Digest of the weights; None where they are elsewhere, and a server's word is all there is."""
    return None if loaded.model is None else weights_digest(loaded.model)
