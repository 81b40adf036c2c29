"""Hierarchical RL from a model, as a stage of a run, and the trajectories of its rounds as `thor show` reads them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random

import torch

from thor_tir.app.config import RunConfig
from thor_tir.app.reference_report import report_problems, say_unread
from thor_tir.app.runtime import (
    LoadedModel,
    Runtime,
    announce,
    load_trainable,
    publish,
    publishing_dtype,
)
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate_loaded, record_results
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_model
from thor_tir.engines.options import EngineName
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.transcript import ShownRepair, exhibit, step_segments
from thor_tir.learner.trainable import with_adapters
from thor_tir.pretrained import CausalLM
from thor_tir.problems.benchmarks import ProblemSet, digest_of
from thor_tir.problems.columns import ANY_FIELDS
from thor_tir.problems.data_set import DataSet
from thor_tir.problems.sources import Split, held_out, is_generated, load_problems, not_asked_in
from thor_tir.progress import UNSEEN, Progress, Reporter
from thor_tir.rl import train as rl
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import TITLES, RLConfig
from thor_tir.rl.episode import rules_of
from thor_tir.rl.figures import Validation
from thor_tir.rl.repair_rewards import load_repair_rewards
from thor_tir.rl.shaping import load_shape
from thor_tir.rl.source import RoundSource
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.rollout.rewards import load_rewards
from thor_tir.seeds import seed_for
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.rules import fault_of
from thor_tir.trajectory import Decode
from thor_tir.verdict import Strictness

MIN_VALIDATION = 30
"""Problems of a validation below which a run says that they tell little."""


async def reinforce(config: RunConfig, model_name: str, folder: Path, runtime: Runtime, reporter: Reporter) -> Path:
    """Hierarchical RL from a model; returns the folder of the trained model."""
    check_rl(config)
    ranks = runtime.ranks
    resources = config.resources
    model, tokenizer = load_trainable(
        model_name, config.rl.adapters, ranks, resources.end_token, resources.chat_template
    )
    samples_apart = not ranks.is_alone or (config.rl.bf16 and resources.engine.name == "local")
    samples_apart = samples_apart or config.rl.max_staleness > 0
    replica = _replica(model_name, config.rl, resources.engine.name) if samples_apart else None
    actor = model if replica is None else replica
    dialect = runtime.dialect(tokenizer, TOOLS, reasoning=config.reasoning, observation=config.observation)
    problems = problems_of(config)
    if config.rl.validate_every or config.rl.validation_problems:
        reporter.say(problems.remark)
    if ranks.leads:
        announce(dialect, folder, reporter.say)
        report_problems(problems.train, config.problems, reporter.say, folder)
        say_unread(problems.train.problems, dialect, reporter.say)
    async with runtime.engine(actor, tokenizer, reporter.say, trained_in=_precision(config.rl)) as engine:
        validate = None
        if problems.validation is not None:
            loaded = LoadedModel(policy=engine, tokenizer=tokenizer, model=actor, about=lambda: {"model": model_name})
            run = partial(validation_run, config, model_name, problems.validation, folder / "validation")
            validate = partial(validate_version, run, loaded, runtime, _Within(reporter))
        inputs = rl.TrainerInputs(
            model=model,
            replica=replica,
            tokenizer=tokenizer,
            policy=engine,
            source=RoundSource(
                setup=replace(
                    runtime.setup(engine, dialect, config.rl.rollout), rewards=load_rewards(config.rl.reward)
                ),
                problems=problems.train.problems,
                rollouts=runtime.journal(folder / "rollouts.jsonl"),
                asked=Journal(folder / "problems.jsonl", is_ours=ranks.leads),
                is_substantial=lambda code: fault_of(code, needs_import_or_control_flow=False) is None,
            ),
            exhibit=partial(
                exhibit_round,
                journal=Journal(folder / "trajectories.jsonl", is_ours=ranks.leads),
                decode=dialect.decode,
                count=config.rl.monitor.show_count,
            ),
            say=reporter.say,
            validate=validate,
        )
        with reporter.stage(TITLES[config.rl.levels], config.rl.num_rounds) as progress:
            await rl.train(inputs, config.rl, folder, progress)
    dtype = publishing_dtype(model_name, config.rl.save_dtype)
    whole = model if ranks.is_alone else actor
    return ranks.lead(lambda: publish(whole, tokenizer, folder / "model", dtype=dtype, say=reporter.say))


def check_rl(config: RunConfig) -> None:
    """Load what a run names of one's own, before anything else. Raises UsageError for what cannot be had or done."""
    rl = config.rl
    load_rewards(rl.reward)
    load_repair_rewards(rl.step.reward)
    rules_of(rl.episode.filters, min_tokens=0, box_window=1, decode=None)
    load_shape(rl.loss.advantages)
    if rl.max_staleness and config.resources.deterministic:
        raise UsageError("a deterministic run samples and trains in turn: --deterministic needs --max-staleness 0")


def _precision(config: RLConfig) -> torch.dtype:
    """The precision in which the trained model multiplies."""
    return torch.bfloat16 if config.bf16 else torch.float32


def _replica(name: str, config: RLConfig, engine: EngineName) -> CausalLM:
    """A whole model for this process to sample from, in the precision in which the trained one multiplies.

    Where servers sample, it is what they are given their weights from, and stays in the host's memory.
    """
    device = None if engine == "local" else "cpu"
    return with_adapters(load_model(name, dtype=_precision(config), device=device)[0], config.adapters)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProblems:
    """Problems of a run of RL; no question of the one part stands in the other."""

    train: DataSet
    """Problems that are trained on."""
    validation: ProblemSet | None
    """Problems that are never trained on; None without validation."""
    remark: str
    """Sentence that says where the problems of validation come from, or why there are none."""


def problems_of(config: RunConfig) -> TrainingProblems:
    """Problems to train on and to validate on. Raises UsageError where nothing is left to train on."""
    rl, spec = config.rl, config.problems
    if config.num_rl < 1:
        raise UsageError(f"--count is the problems that training draws from, at least 1, found {config.num_rl}")
    load = partial(load_problems, configs=config.families, fields=config.fields)
    seed = seed_for("rl", config.seed)
    train = partial(load, spec, split=Split.TRAIN, seed=seed)
    if not rl.validate_every:
        whole = train(count=config.num_rl, choice=config.choice)
        return _without_validation(config, whole)
    found = train(count=config.num_rl if is_generated(spec) else None)
    if not rl.validation_problems and not is_generated(spec):
        problems, kept = held_out(found.problems, rl.num_validation)
        origin = f"held out of {spec} by a digest of the question"
    else:
        asked = _validation_set(config, rl.validation_problems or spec, count=rl.num_validation)
        kept = list(asked.problems)
        origin = f"from {rl.validation_problems}" if rl.validation_problems else f"of the validation split of {spec}"
        origin = "; ".join([origin, *filter(None, [asked.taken]), *asked.left_out])
        problems = not_asked_in(found.problems, kept)
        if gone := len(found.problems) - len(problems):
            origin += f"; {gone} that were also in {spec} are not trained on"
    if not problems:
        raise UsageError(f"every problem of {spec} is one of validation too; give more problems, or validate on others")
    validation = ProblemSet(
        name="validation", title="validation", problems=tuple(kept), sha256=digest_of(kept), notes=(origin,)
    )
    few = "" if len(kept) >= MIN_VALIDATION else "; so few tell little: name more by --validation-problems"
    unasked = f"; {rl.num_rounds} rounds ask none, see --validate-every" if rl.num_rounds < rl.validate_every else ""
    remark = f"validation: {len(kept)} problems {origin}; this run trains on none of them{few}{unasked}"
    if not kept:
        remark = f"no validation: none of the {len(problems)} problems of {spec} falls into the part that is held out"
    used, sentence = config.choice.of(problems, config.num_rl, seed)
    data = replace(found, problems=used, left_out=(*found.left_out, *filter(None, (sentence,))))
    return TrainingProblems(train=data, validation=validation if kept else None, remark=remark)


def _without_validation(config: RunConfig, whole: DataSet) -> TrainingProblems:
    """Problems of a run that never validates: questions that are named for validation are not trained on all the same.

    Raises UsageError where nothing is left.
    """
    named, remark = config.rl.validation_problems, "no validation"
    if named:
        apart = _validation_set(config, named, count=config.rl.num_validation if is_generated(named) else None)
        kept = tuple(not_asked_in(whole.problems, apart.problems))
        gone = len(whole.problems) - len(kept)
        remark = f"no validation; {gone} problems of {config.problems} that stand in {named} too are not trained on"
        whole = replace(whole, problems=kept)
    if not whole.problems:
        raise UsageError(f"every problem of {config.problems} stands in {named} too; give other problems")
    return TrainingProblems(train=whole, validation=None, remark=remark)


def _validation_set(config: RunConfig, spec: str, *, count: int | None) -> DataSet:
    """Problems to validate on. Columns that the run names for its problems count here too, if they are there."""
    load = partial(load_problems, spec, split=Split.VALIDATION, count=count, configs=config.families)
    seed = seed_for("validation", config.seed)
    try:
        return load(seed=seed, fields=config.fields)
    except UsageError:
        if config.fields == ANY_FIELDS:
            raise
        return load(seed=seed)


def validation_run(config: RunConfig, model: str, asked: ProblemSet, folder: Path, version: int) -> EvalRun:
    """The evaluation of the weights of one version: sampled as tests are, graded as training is."""
    rollout = replace(config.eval.rollout, max_completion_length=config.rl.rollout.max_completion_length)
    return EvalRun(
        spec=EvalSpec(name=f"RL after update {version}", model=model, samples=1, judged=config.rl.reward),
        sets=(asked,),
        config=replace(config, eval=replace(config.eval, rollout=rollout)),
        folder=EvalFolder(path=folder / f"update-{version}"),
        strictness=Strictness.STRICT,
    )


async def validate_version(
    run_of: Callable[[int], EvalRun], loaded: LoadedModel, runtime: Runtime, reporter: Reporter, version: int
) -> Validation:
    """Evaluate a version of the weights, or read what an earlier process found; all ranks must call it."""
    run = run_of(version)
    with runtime.ranks.led(run.folder.writing(run.shard)):
        await evaluate_loaded(run, loaded, runtime, reporter, weights=None)
    (entry,) = runtime.ranks.lead(lambda: record_results(run.folder))["sets"]
    accuracy, reward = entry["avg"], runtime.ranks.lead(lambda: _mean_reward(run.folder))
    return Validation(
        accuracy=None if accuracy is None else accuracy["value"],
        ci95=None if accuracy is None else (accuracy["ci95"][0], accuracy["ci95"][1]),
        num_problems=entry["n_scored"],
        num_lost=sum(entry["lost"]["machine"].values()),
        reward=reward,
    )


def _mean_reward(folder: EvalFolder) -> float | None:
    """Mean reward of the attempts of an evaluation; None where no other reward than the answer was named."""
    attempts = [attempt for asked in folder.sets for attempt in folder.evaluation(asked).attempts]
    found = [a.judged.total for a in attempts if a.judged is not None and a.judged.total is not None]
    return sum(found) / len(found) if found else None


class _Within:
    """A reporter for work inside a stage that has its own progress: it shows none, and passes sentences on."""

    def __init__(self, reporter: Reporter) -> None:
        self.say = reporter.say

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Progress]:
        """Work that is not shown."""
        yield UNSEEN


def exhibit_round(number: int, gathered: RoundSamples, journal: Journal, decode: Decode, *, count: int) -> None:
    """Write a draw of a round's trajectories, half of it with repairs where there are so many; what is there stays."""
    repairs = repairs_by_parent(gathered.repairs, decode)
    rng = Random(f"exhibits {number}")
    attempts = rng.sample(gathered.attempts, len(gathered.attempts))
    mended = [a for a in attempts if a.trajectory.id in repairs][: (count + 1) // 2]
    others = [a for a in attempts if a.trajectory.id not in repairs]
    for attempt in [*mended, *others][:count]:
        id = attempt.trajectory.id
        if id not in journal:
            line = exhibit(
                attempt.problem,
                attempt.trajectory,
                stage=f"RL round {number + 1}",
                verdict=attempt.verdict,
                decode=decode,
                repairs=repairs.get(id, ()),
                rewards=None if attempt.judged is None else attempt.judged.parts,
            )
            journal.add(id, line)
    journal.commit()


def repairs_by_parent(
    groups: Sequence[tuple[StepPrompt, Sequence[StepSample]]], decode: Decode
) -> dict[str, list[ShownRepair]]:
    """Repairs as they are shown, under the trajectory that they were cut from."""
    found: dict[str, list[ShownRepair]] = {}
    for query, repairs in groups:
        for repair in repairs:
            seen = repair.step.observation
            shown = ShownRepair(
                call=query.prefix.call,
                segments=step_segments(repair.step, decode),
                reward=repair.reward,
                status=None if seen is None else seen.result.status,
            )
            found.setdefault(query.prefix.parent, []).append(shown)
    return found
