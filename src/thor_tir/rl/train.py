"""The training loop: sample episodes, sample repairs of their failed calls, turn both into rows, update, repeat.

One round is one batch of problems. Everything sampled is journaled as it finishes and every optimiser step ends in a
checkpoint, so a kill at any instant costs at most the units in flight.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, Literal, Protocol

from thor_tir.engines.protocol import Policy
from thor_tir.errors import UsageError
from thor_tir.learner.adapters import AdapterConfig
from thor_tir.learner.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import TrainingSample
from thor_tir.learner.schedule import Schedule
from thor_tir.learner.sharding import copy_weights
from thor_tir.problem import Problem
from thor_tir.rl import ledger
from thor_tir.rl.algorithms import Algorithm, LossConfig
from thor_tir.rl.episode import EpisodeConfig, episode_rows
from thor_tir.rl.logprob_correction import Scorer
from thor_tir.rl.metrics import RoundSamples, measures_of, record_of
from thor_tir.rl.monitor import MonitorConfig, RoundMonitor, Say, silent
from thor_tir.rl.step import (
    StepConfig,
    StepPrompt,
    StepSample,
    queries,
    repaired_from_json,
    repaired_to_json,
    sample_repair,
    step_rows,
)
from thor_tir.rl.step_reward import IsSubstantial
from thor_tir.rollout.attempts import (
    DROPPED,
    Attempt,
    AttemptRequest,
    Grade,
    Progress,
    SamplingSetup,
    attempt_all,
    record_all,
)
from thor_tir.rollout.loop import RolloutConfig, seed_of
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Verdict


class TrainablePolicy(Policy, Protocol):
    """An engine whose weights the learner moves."""

    def weights_changed(self, version: int) -> None:
        """Forget what the old weights computed; stamp completions with the new version."""
        ...


Levels = Literal["joint", "episode", "step"]
"""Which levels give rows: both (paper, Eq. 10), whole trajectories alone, or repairs of failed calls alone. Episodes
are sampled in all three: their failed calls are what the step level repairs."""

TITLES: Mapping[Levels, str] = {
    "joint": "hierarchical RL",
    "episode": "RL on whole trajectories",
    "step": "RL on failed calls",
}


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """Hierarchical RL. Defaults follow the paper where it states a value (specification, 5.7)."""

    recipe: Levels = "joint"
    """What gives rows: both levels (paper), whole trajectories alone, or repairs of failed calls alone."""
    num_rounds: int = 40
    problems_per_round: int = 128
    updates_per_round: int = 1
    """Optimiser steps over one round's rows; more than one makes the later ones off-policy."""
    rollout: RolloutConfig = field(default_factory=lambda: RolloutConfig(stop_at_failure=True))
    episode: EpisodeConfig = field(default_factory=EpisodeConfig)
    step: StepConfig = field(default_factory=StepConfig)
    learning_rate: float = 1e-6
    warmup_steps: int = 0
    is_cosine: bool = False
    """Decay to a tenth of the rate over the run; the paper keeps it constant."""
    micro_batch_tokens: int = 4096
    loss: LossConfig = field(default_factory=LossConfig)
    watch: MonitorConfig = field(default_factory=MonitorConfig)
    calls_grow_over: int = 0
    """Rounds over which the call limit grows from 1 to that of the rollout, as in the released schedule; 0 for none."""
    autocast: Literal["bfloat16"] | None = None
    """Precision of training's matrix products; weights, optimiser and loss stay in float32."""
    recompute: bool = False
    """Compute each layer again on the way back instead of keeping what it computed: less memory, more time."""
    adapters: AdapterConfig = field(default_factory=AdapterConfig)
    keep_checkpoints: int = 2
    """Newest ones that stay; one that is damaged can be given up for the one before."""
    seed: int = 0
    validate_every: int = 0
    """Rounds between validations; 0 for none."""
    num_validation: int = 96

    def __post_init__(self) -> None:
        if min(self.num_rounds, self.problems_per_round, self.updates_per_round) < 1:
            raise ValueError(f"rounds, problems and updates are at least 1, found {self}")
        if self.rollout.temperature != 1 or self.rollout.top_p != 1 or self.rollout.top_k != 0:
            raise ValueError(
                "RL samples at temperature 1 without top-p and top-k: anything else trains on a ratio of two different "
                f"distributions, found {self.rollout}"
            )
        if self.step.which != "first" and self.rollout.stop_at_failure:
            raise ValueError(
                f"trajectories end at their first failed call, so there is none but the first to repair; "
                f"`which` {self.step.which!r} needs rollouts that go on (--rl.rollout.no-stop-at-failure)"
            )

    @property
    def learner(self) -> LearnerConfig:
        """The learner of this run."""
        num_steps = self.num_rounds * self.updates_per_round
        schedule = Schedule.fitted(num_steps=num_steps, warmup_steps=self.warmup_steps, is_cosine=self.is_cosine)
        return LearnerConfig(
            learning_rate=self.learning_rate,
            schedule=schedule,
            objective=self.algorithm.objective,
            micro_batch_tokens=self.micro_batch_tokens,
            autocast=self.autocast,
            recompute=self.recompute,
        )

    @property
    def algorithm(self) -> Algorithm:
        """How rewards become a loss in this run."""
        return self.loss.compose(max_tokens=self.rollout.max_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainerInputs:
    """What training moves and what it needs for that."""

    model: Any
    tokenizer: Any
    policy: TrainablePolicy
    """Samples from the very weights of `model`, or from those of `replica`."""
    setup: SamplingSetup
    problems: Sequence[Problem]
    rollouts: Journal
    """Everything sampled, episodes and repairs."""
    replica: Any | None = None
    """A model like `model` that the policy samples from, where several processes hold parts of `model`."""
    is_substantial: IsSubstantial = bool
    """Whether a program computes something; read by the step reward of that name."""
    exhibit: Callable[[int, RoundSamples], None] | None = None
    """Keeps trajectories of a round, counted from 0, for people to read."""
    say: Say = silent
    """Tells a person one sentence."""
    validate: Callable[[int], Awaitable[float]] | None = None
    """Accuracy on problems that training never sees, given the version of the weights."""


def problems_of_round(problems: Sequence[Problem], number: int, config: RLConfig) -> list[Problem]:
    """The next `problems_per_round` of an endless stream of shuffled passes; a function of the seed alone."""
    chosen: list[Problem] = []
    position = number * config.problems_per_round
    while len(chosen) < config.problems_per_round:
        epoch, offset = divmod(position, len(problems))
        order = list(problems)
        Random(f"rl {config.seed} {epoch}").shuffle(order)
        taken = order[offset : offset + config.problems_per_round - len(chosen)]
        chosen += taken
        position += len(taken)
    return chosen


def calls_of_round(number: int, config: RLConfig) -> int:
    """The call limit of a round: from 1 to the rollout's in equal stages over `calls_grow_over` rounds."""
    most = config.rollout.max_calls
    if number >= config.calls_grow_over or most <= 1:
        return most
    return 1 + (most - 1) * number // config.calls_grow_over


async def train(inputs: TrainerInputs, config: RLConfig, folder: Path, progress: Progress | None = None) -> None:
    """Train in place, or continue where `folder` was left.

    Raises UsageError without problems, EngineFault and TrainingDiverged when sampling or learning breaks.
    """
    if not inputs.problems:
        raise UsageError("no problems to train on")
    ranks = inputs.setup.ranks
    if config.loss.kl_weight and not ranks.is_alone:
        raise UsageError("a KL needs a whole copy of the first weights in one process; set --rl.loss.kl-weight 0")
    learner = Learner(inputs.model, config.learner, ranks, inspection=folder / "nonfinite")
    checkpoint = newest_checkpoint(folder / "checkpoints")
    place: dict[str, Any] = {"round": 0, "update": 0, "measured": []}
    scorer = Scorer.begin(
        inputs.model if inputs.replica is None else inputs.replica,
        config.loss,
        folder / "scores.jsonl",
        hold=inputs.rollouts.hold,
        is_ours=ranks.leads,
        micro_batch_tokens=config.micro_batch_tokens,
    )
    if checkpoint is not None:
        place |= load_checkpoint(checkpoint, learner, options=asdict(config))
    _renew(inputs, learner)
    metrics = Journal(folder / "metrics.jsonl", is_ours=ranks.leads)
    watch = RoundMonitor.begin(config.watch, metrics, folder, inputs.say)
    updates = Journal(folder / "updates.jsonl", is_ours=ranks.leads)
    if progress is not None:
        progress.advance(place["round"])
    for number in range(place["round"], config.num_rounds):
        first_update = place["update"] if number == place["round"] else 0
        gathered = await _gather(number, inputs, config)
        if ranks.leads and inputs.exhibit is not None and config.watch.is_shown(number, config.num_rounds):
            inputs.exhibit(number, gathered)
        dropped: Counter[str] = Counter({"machine fault": gathered.num_lost} if gathered.num_lost else {})
        sampled = _rows(gathered, inputs, config, dropped)
        rows = scorer.score(sampled)
        measured = place["measured"] if number == place["round"] else []  # of updates that an earlier process did
        train_s = perf_counter()
        for update, part in list(enumerate(_parts(rows, number, config)))[first_update:]:
            ledger.check(updates, learner.num_steps + 1, part)
            step = learner.step(part)
            ledger.enter(updates, number, part, step)
            measured.append(measures_of(step))
            _renew(inputs, learner)
            is_last = update + 1 == config.updates_per_round
            if is_last:
                record = record_of(
                    number, gathered, rows, dropped, measured, sampled=sampled, num_steps=learner.num_steps
                )
                record["seconds"]["train"] = perf_counter() - train_s
                if inputs.validate is not None and (number + 1) % config.validate_every == 0:
                    record["validation"] = await inputs.validate(learner.num_steps)
                watch.take(number, record)
            here: dict[str, Any] = {"round": number, "update": update + 1, "measured": measured}
            if is_last:
                here = {"round": number + 1, "update": 0, "measured": []}
            save_checkpoint(
                folder / "checkpoints",
                learner,
                tokenizer=inputs.tokenizer,
                extra=here,
                options=asdict(config),
                keep=config.keep_checkpoints,
            )
        if progress is not None:
            progress.advance()
    watch.close()


def _renew(inputs: TrainerInputs, learner: Learner) -> None:
    """Let the policy sample from the weights that the learner has now."""
    if inputs.replica is not None:
        copy_weights(learner.weights.items(), inputs.replica)
    inputs.policy.weights_changed(learner.num_steps)


async def _gather(number: int, inputs: TrainerInputs, config: RLConfig) -> RoundSamples:
    """Episodes of one round, then repairs of their failed calls; what the journal holds is not sampled again."""
    batch = problems_of_round(inputs.problems, number, config)
    requests = [
        [
            AttemptRequest(
                id=f"round{number}/{place}/{sample}", problem=problem, seed=seed_of(config.seed, number, place, sample)
            )
            for sample in range(config.episode.group_size)
        ]
        for place, problem in enumerate(batch)
    ]
    rollout = replace(config.rollout, max_calls=calls_of_round(number, config))
    graded = _Clock(inputs.setup.grade)
    setup = replace(inputs.setup, config=rollout, grade=graded)
    began = perf_counter()
    attempts = await attempt_all([r for group in requests for r in group], setup, inputs.rollouts)
    by_id = {attempt.trajectory.id: attempt for attempt in attempts}
    groups = [[by_id[r.id] for r in group if r.id in by_id] for group in requests]
    sampled = perf_counter()
    repairs = await _repairs(attempts, number, inputs, config)
    num_asked = sum(map(len, requests)) + len(repairs) * config.step.group_size
    return RoundSamples(
        groups=groups,
        repairs=repairs,
        num_lost=num_asked - len(attempts) - sum(len(group) for _, group in repairs),
        rollout_s=sampled - began,
        repair_s=perf_counter() - sampled,
        grade_s=graded.seconds,
    )


class _Clock:
    """A grader that knows how long it took."""

    def __init__(self, grade: Grade) -> None:
        self._grade = grade
        self.seconds = 0.0

    async def __call__(self, problem: Problem, text: str) -> Verdict:
        began = perf_counter()
        try:
            return await self._grade(problem, text)
        finally:
            self.seconds += perf_counter() - began


async def _repairs(
    attempts: Sequence[Attempt], number: int, inputs: TrainerInputs, config: RLConfig
) -> list[tuple[StepPrompt, list[StepSample]]]:
    if config.recipe == "episode":
        return []
    step = config.step
    most = round(step.max_queries_share * config.problems_per_round)
    asked = queries(attempts, step, max_queries=most, seed=seed_of(config.seed, "queries", number))

    async def one(query: StepPrompt, sample: int) -> dict[str, Any]:
        repaired = await sample_repair(query, sample, inputs.setup.agent, config.rollout, seed=config.seed)
        return repaired_to_json(query, repaired)

    keys = {query.id: [f"{query.id}/repair{sample}" for sample in range(step.group_size)] for query in asked}
    work = {key: partial(one, query, n) for query in asked for n, key in enumerate(keys[query.id])}
    journal = inputs.rollouts
    await record_all(work, inputs.setup, journal)
    return [
        (query, [repaired_from_json(journal[key]) for key in keys[query.id] if DROPPED not in journal[key]])
        for query in asked
    ]


def _rows(
    gathered: RoundSamples, inputs: TrainerInputs, config: RLConfig, dropped: Counter[str]
) -> list[TrainingSample]:
    episodes = () if config.recipe == "step" else gathered.groups
    advantages, decode = config.algorithm.advantages, inputs.setup.agent.dialect.decode
    return [
        *episode_rows(episodes, config.episode, dropped, advantages=advantages, decode=decode),
        *step_rows(
            gathered.repairs,
            config.step,
            dropped,
            advantages=advantages,
            is_substantial=inputs.is_substantial,
        ),
    ]


def _parts(rows: Sequence[TrainingSample], number: int, config: RLConfig) -> list[list[TrainingSample]]:
    """Both levels shuffled together and dealt out to the round's updates: every row in exactly one."""
    order = list(rows)
    Random(f"rows {config.seed} {number}").shuffle(order)
    return [order[part :: config.updates_per_round] for part in range(config.updates_per_round)]
