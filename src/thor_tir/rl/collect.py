"""One round of sampling: trajectories of the round's problems, then repairs of their failed calls, with their rewards.

Everything is journaled as it finishes and read back from there, so a round that was killed is continued, not redone.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from random import Random
from time import perf_counter
from typing import Any

from thor_tir.problem import Problem
from thor_tir.rl.config import RLConfig
from thor_tir.rl.step import (
    StepPrompt,
    StepSample,
    queries,
    repair_from_json,
    repair_to_json,
    rewarded,
    sample_repair,
)
from thor_tir.rl.step_reward import IsSubstantial
from thor_tir.rollout.sample_many import DROPPED, Attempt, AttemptRequest, SamplingSetup, attempt_all, record_all
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import Journal, JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSource:
    """Everything that rounds are sampled from and with."""

    setup: SamplingSetup
    """Policy, sandbox, dialect and grader."""
    problems: Sequence[Problem]
    """Problems of all rounds, shuffled anew for each pass."""
    rollouts: Journal
    """Everything sampled, trajectories and repairs."""
    is_substantial: IsSubstantial = bool
    """True for a program that computes something; read by the step reward of that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSamples:
    """The samples of one round, before credit."""

    groups: Sequence[Sequence[Attempt]]
    """Trajectories of each problem, with their verdicts."""
    repairs: Sequence[tuple[StepPrompt, Sequence[StepSample]]]
    """Failed calls, each with its rewarded repairs."""
    num_lost: int
    """Samples that a fault of the machine ended."""
    rollout_s: float
    """Seconds spent on trajectories."""
    repair_s: float
    """Seconds spent on repairs."""
    grade_s: float
    """Seconds of grading, summed over attempts that are graded at the same time."""
    reward_s: float = 0.0
    """Seconds of the rewards that the run names, summed likewise."""

    @property
    def attempts(self) -> list[Attempt]:
        """The trajectories of all groups."""
        return [attempt for group in self.groups for attempt in group]

    @property
    def repaired(self) -> list[StepSample]:
        """The repairs of all failed calls."""
        return [repair for _, group in self.repairs for repair in group]

    @property
    def num_sampled(self) -> int:
        """Trajectories and repairs, those that were lost included."""
        return len(self.attempts) + len(self.repaired) + self.num_lost


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
    most = config.rollout.max_tool_calling_iterations
    if number >= config.calls_grow_over or most <= 1:
        return most
    return 1 + (most - 1) * number // config.calls_grow_over


async def collect(number: int, source: RoundSource, config: RLConfig) -> RoundSamples:
    """The samples of round `number`, counted from 0; those that the journal holds are not sampled again."""
    requests = _requests(number, source.problems, config)
    rollout = replace(config.rollout, max_tool_calling_iterations=calls_of_round(number, config))
    graded, judged = _Clock(), _Clock()
    setup = replace(
        source.setup,
        config=rollout,
        grade=graded.timing(source.setup.grade),
        rewards=[replace(each, judge=judged.timing(each.judge)) for each in source.setup.rewards],
    )
    began = perf_counter()
    attempts = await attempt_all([r for group in requests for r in group], setup, source.rollouts)
    by_id = {attempt.trajectory.id: attempt for attempt in attempts}
    groups = [[by_id[r.id] for r in group if r.id in by_id] for group in requests]
    sampled = perf_counter()
    repairs = [] if config.levels == "episode" else await _repairs(attempts, number, source, config)
    num_asked = sum(map(len, requests)) + len(repairs) * config.step.num_generations
    return RoundSamples(
        groups=groups,
        repairs=repairs,
        num_lost=num_asked - len(attempts) - sum(len(group) for _, group in repairs),
        rollout_s=sampled - began,
        repair_s=perf_counter() - sampled,
        grade_s=graded.seconds,
        reward_s=judged.seconds,
    )


def _requests(number: int, problems: Sequence[Problem], config: RLConfig) -> list[list[AttemptRequest]]:
    """One group of attempts for each problem of the round."""
    return [
        [
            AttemptRequest(
                id=f"round{number}/{place}/{sample}", problem=problem, seed=seed_of(config.seed, number, place, sample)
            )
            for sample in range(config.episode.num_generations)
        ]
        for place, problem in enumerate(problems_of_round(problems, number, config))
    ]


async def _repairs(
    attempts: Sequence[Attempt], number: int, source: RoundSource, config: RLConfig
) -> list[tuple[StepPrompt, list[StepSample]]]:
    most = round(config.step.max_queries_share * config.problems_per_round)
    asked = queries(
        attempts,
        config.step,
        max_queries=most,
        seed=seed_of(config.seed, "queries", number),
        call_success=config.rollout.call_success,
    )

    async def one(query: StepPrompt, sample: int) -> JsonObject:
        step = await sample_repair(query, sample, source.setup.agent, config.rollout, seed=config.seed)
        return repair_to_json(query, query.repair_id(sample), step)

    samples = range(config.step.num_generations)
    journal = source.rollouts
    await record_all({q.repair_id(n): partial(one, q, n) for q in asked for n in samples}, source.setup, journal)

    def of(query: StepPrompt) -> list[StepSample]:
        rows = {id: journal[id] for id in map(query.repair_id, samples)}
        steps = {id: repair_from_json(row) for id, row in rows.items() if DROPPED not in row}
        return rewarded(steps, config.step.reward, source.is_substantial)

    return [(query, of(query)) for query in asked]


class _Clock:
    """Counts the seconds of functions, what they wait for included."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """The function, timed."""

        async def timed(*arguments: object) -> Any:
            began = perf_counter()
            try:
                value = function(*arguments)
                return await value if isawaitable(value) else value
            finally:
                self.seconds += perf_counter() - began

        return timed
