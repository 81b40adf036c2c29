"""The training loop: sample episodes, sample repairs of their failed calls, turn both into rows, update, repeat.

One round is one batch of problems. Everything sampled is journaled as it finishes and every optimiser step ends in a
checkpoint, so a kill at any instant costs at most the units in flight.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter

from thor_tir.distributed import Ranks
from thor_tir.engines.figures import united
from thor_tir.engines.protocol import TrainablePolicy
from thor_tir.errors import UsageError
from thor_tir.learner.checkpoint import CheckpointWriter, newest_checkpoint
from thor_tir.learner.config import Schedule
from thor_tir.learner.extension import resume
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.metrics import StepMetrics
from thor_tir.learner.sample import TrainingSample
from thor_tir.pretrained import CausalLM, ModelTokenizer
from thor_tir.progress import UNSEEN, Progress
from thor_tir.rl.ahead import Ahead, beside
from thor_tir.rl.algorithms import compose
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import RLConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.figures import UpdateFigures, Validation
from thor_tir.rl.logprob_correction import Scorer, frozen_reference
from thor_tir.rl.metrics import Course, RoundMonitor, Say, figures_of, record_of, round_brief, round_line, silent
from thor_tir.rl.samples import surrogate_of
from thor_tir.rl.shaping import load_shape
from thor_tir.rl.source import RoundSource
from thor_tir.rl.staleness import young
from thor_tir.rl.step import step_rows
from thor_tir.rl.step_methods.table import method_of
from thor_tir.storage.journal import Journal, JsonObject, whole
from thor_tir.storage.run_lock import option_defaults


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInputs:
    """The model that training moves, and everything that it needs for that."""

    model: CausalLM
    """Model that is trained."""
    tokenizer: ModelTokenizer
    """Tokenizer of the model, saved with it."""
    policy: TrainablePolicy
    """Samples from the very weights of `model`, or from those of `replica`."""
    source: RoundSource
    """Problems, and everything they are sampled with."""
    replica: CausalLM | None = None
    """A model like `model` that the policy samples from, where several processes hold parts of `model`, it multiplies
    in bfloat16, or sampling goes on while it is trained."""
    exhibit: Callable[[int, RoundSamples], None] | None = None
    """Keeps trajectories of a round, counted from 0, for people to read."""
    say: Say = silent
    """Function that prints one line for a person."""
    validate: Callable[[int], Awaitable[Validation]] | None = None
    """Evaluation on problems that training never sees, given the version of the weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The place of a run in its rounds, as checkpoints keep it."""

    round: int = 0
    """Round that comes next, or is under way, counted from 0."""
    update: int = 0
    """Updates of that round that are done."""
    measured: Sequence[UpdateFigures] = ()
    """Figures of these updates."""


def schedule_of(config: RLConfig, num_rounds: int) -> Schedule:
    """The course of the learning rate over so many rounds."""
    num_steps = num_rounds * config.updates_per_round
    return Schedule.fitted(num_steps=num_steps, warmup_steps=config.warmup_steps, kind=config.lr_scheduler_type)


def learner_config(config: RLConfig) -> LearnerConfig:
    """The learner of a run."""
    return LearnerConfig(
        learning_rate=config.learning_rate,
        schedule=schedule_of(config, config.num_rounds),
        max_grad_norm=config.max_grad_norm,
        objective=compose(config.loss, max_tokens=config.rollout.max_completion_length).objective,
        micro_batch_tokens=config.micro_batch_tokens,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
    )


def _compared(config: RLConfig) -> dict[str, object]:
    """Options that a continued run must share; the validation file may lie elsewhere, if it holds the same."""
    free = ("validation_problems", "max_staleness", "async_save", "checkpoint_mirror")
    return {name: value for name, value in asdict(config).items() if name not in free}


async def train(inputs: TrainerInputs, config: RLConfig, folder: Path, progress: Progress = UNSEEN) -> None:
    """Train in place, or continue where `folder` was left.

    Raises UsageError without problems, EngineFault and TrainingDiverged when sampling or learning breaks.
    """
    if not inputs.source.problems:
        raise UsageError("no problems to train on")
    if config.max_staleness and inputs.replica is None:
        raise UsageError("sampling that runs ahead needs a replica of the model, whose weights stand still meanwhile")
    async with AsyncExitStack() as stack:
        await _train(inputs, config, folder, progress, stack)


async def _train(
    inputs: TrainerInputs, config: RLConfig, folder: Path, progress: Progress, stack: AsyncExitStack
) -> None:
    ranks = inputs.source.setup.ranks
    reference = frozen_reference(inputs.model, config.loss, ranks)
    learner = Learner(inputs.model, learner_config(config), ranks, inspection=folder / "nonfinite")
    checkpoint = ranks.lead(lambda: newest_checkpoint(folder / "checkpoints", config.checkpoint_mirror))
    place = Position()
    scorer = Scorer.begin(
        _scoring_model(inputs, config),
        replace(config.loss, importance_sampling_cap=config.correction_cap),
        folder / "scores.jsonl",
        hold=inputs.source.rollouts.hold,
        micro_batch_tokens=config.micro_batch_tokens,
        reference=reference,
        ranks=ranks,
    )
    if checkpoint is not None:
        extra = resume(
            checkpoint,
            learner,
            _compared(config),
            defaults=option_defaults(config),
            length="num_rounds",
            schedule_of=partial(schedule_of, config),
            say=inputs.say,
        )
        place = Position(**extra)
    await _renew(inputs, learner)
    metrics = Journal(folder / "metrics.jsonl", is_ours=ranks.leads, brief=whole)
    monitor = RoundMonitor.begin(config.monitor, metrics, folder, inputs.say)
    updates = Journal(folder / "updates.jsonl", is_ours=ranks.leads)
    writer = stack.enter_context(
        CheckpointWriter(
            folder / "checkpoints",
            learner,
            tokenizer=inputs.tokenizer,
            options=_compared(config),
            keep=config.save_total_limit,
            is_beside=config.async_save,
            mirror=config.checkpoint_mirror,
        )
    )
    rounds = await stack.enter_async_context(Ahead(inputs.source, config, first=place.round))
    rounds.reach(learner.num_steps)
    progress.resume(place.round)
    for number in range(place.round, config.num_rounds):
        if spent := ranks.lead(partial(spent_budget, list(metrics)[:number], config)):
            inputs.say(f"{spent}: training ends after round {number}")
            break
        first_update = place.update if number == place.round else 0
        asked = perf_counter()
        gathered = await rounds.take(number)
        learner_waited_s, begun_at = perf_counter() - asked, config.first_step(number)
        if ranks.leads and inputs.exhibit is not None and config.monitor.is_shown(number, config.num_rounds):
            inputs.exhibit(number, gathered)
        dropped = Counter({"machine fault": gathered.num_lost} if gathered.num_lost else {})
        dropped += gathered.evidence.unrewarded
        every = _rows(gathered, inputs, config, dropped)
        sampled = young(every, version=begun_at, most=config.max_staleness, dropped=dropped)
        rows = await beside(partial(scorer.score, sampled), config)
        measured = list(place.measured) if number == place.round else []  # of updates that an earlier process did
        began = perf_counter()
        for update, part in list(enumerate(_parts(rows, number, config)))[first_update:]:
            check_rows(updates, learner.num_steps + 1, part)
            await inputs.policy.rest()
            step = await beside(partial(learner.step, part), config)
            enter_update(updates, number, part, step, is_shaped=config.reshapes_advantages)
            measured.append(figures_of(step))
            await _renew(inputs, learner)
            rounds.reach(learner.num_steps)
            is_last = update + 1 == config.updates_per_round
            if is_last:
                figures = record_of(
                    number,
                    gathered,
                    rows,
                    dropped,
                    measured,
                    sampled=sampled,
                    num_steps=learner.num_steps,
                    train_s=perf_counter() - began,
                    course=Course(
                        begun_at=begun_at,
                        cap=config.correction_cap,
                        learner_waited_s=learner_waited_s,
                        sampler_waited_s=rounds.waited(),
                    ),
                    engines=await _figures(inputs, config, ranks),
                )
                validated = None
                if inputs.validate is not None and (number + 1) % config.validate_every == 0:
                    validated = await inputs.validate(learner.num_steps)
                monitor.take(number, figures, validated)
            here = Position(round=number, update=update + 1, measured=tuple(measured))
            if is_last:
                here = Position(round=number + 1)
            await beside(partial(writer.save, asdict(here)), config)
        progress.advance()
        progress.log(round_line(figures, of=config.num_rounds), brief=round_brief(figures))
    monitor.close()


def _scoring_model(inputs: TrainerInputs, config: RLConfig) -> CausalLM:
    """The model that reads rows again: the replica, unless sampling moves it meanwhile or it waits beside the GPU."""
    replica = inputs.replica
    if replica is None or config.max_staleness or replica.device.type != inputs.model.device.type:
        return inputs.model
    return replica


def spent_budget(records: Sequence[JsonObject], config: RLConfig) -> str:
    """The budget that the finished rounds have used up, in words; empty while there is more."""
    tokens = sum(record["sampled_tokens"] for record in records)
    seconds = sum(sum(record["seconds"][part] for part in ("rollout", "repair", "train")) for record in records)
    if 0 < config.max_sampled_tokens <= tokens:
        return f"{tokens:,} tokens were sampled, of at most {config.max_sampled_tokens:,}"
    if 0 < config.max_seconds <= seconds:
        return f"{seconds:.0f} seconds were spent, of at most {config.max_seconds:.0f}"
    return ""


async def _figures(inputs: TrainerInputs, config: RLConfig, ranks: Ranks) -> Mapping[str, JsonObject]:
    """Figures of the servers that all processes asked in a round."""
    return united(await beside(partial(ranks.gather, inputs.policy.take_figures()), config))


async def _renew(inputs: TrainerInputs, learner: Learner) -> None:
    """Let the policy sample from the weights that the learner has now."""
    await inputs.policy.update_weights(learner.whole_weights(), learner.num_steps)


def _rows(
    gathered: RoundSamples, inputs: TrainerInputs, config: RLConfig, dropped: Counter[str]
) -> list[TrainingSample]:
    episodes = () if config.levels == "step" else gathered.groups
    advantages = compose(config.loss, max_tokens=config.rollout.max_completion_length).advantages
    credit = method_of(config).credit
    shape = load_shape(config.loss.advantages) if credit is None else credit(config, gathered.evidence)
    decode = inputs.source.setup.agent.dialect.decode
    return [
        *episode_rows(
            episodes,
            config.episode,
            dropped,
            advantages=advantages,
            shape=shape,
            credits_equals=credit is not None,
            roots=gathered.roots,
            decode=decode,
            call_success=config.rollout.call_success,
        ),
        *step_rows(gathered.repairs, config.step, dropped, advantages=advantages, shape=shape),
    ]


def _parts(rows: Sequence[TrainingSample], number: int, config: RLConfig) -> list[list[TrainingSample]]:
    """Both levels shuffled together and dealt out to the round's updates: every row in exactly one."""
    order = list(rows)
    Random(f"rows {config.seed} {number}").shuffle(order)
    return [order[part :: config.updates_per_round] for part in range(config.updates_per_round)]


def check_rows(ledger: Journal, update: int, rows: Sequence[TrainingSample]) -> None:
    """Raise UsageError where an update that is done again would be made of other rows than the first time."""
    if str(update) in ledger and ledger[str(update)]["rows"] != [row.id for row in rows]:
        raise UsageError(
            f"update {update} was made of other rows when it was first done ({ledger.path}): rollouts.jsonl beside it "
            "was changed since; put it back, or begin in another folder"
        )


def enter_update(
    ledger: Journal, number: int, rows: Sequence[TrainingSample], measured: StepMetrics, *, is_shaped: bool = False
) -> None:
    """Write down an update that was done, unless it stands there from before a kill.

    Advantages that a function of one's own shaped are written down, too: nobody can compute them again.
    """
    if str(measured.step) not in ledger:
        entry: JsonObject = {"round": number + 1, "rows": [row.id for row in rows], "is_updated": measured.is_updated}
        if is_shaped:
            entry["advantages"] = [surrogate_of(row).advantage for row in rows]
        ledger.add(str(measured.step), entry | {"loss": measured.loss, "grad_norm": measured.gradient_norm})
