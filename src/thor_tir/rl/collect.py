"""One round of sampling: trajectories of the round's problems, then what the step method asks for, with rewards.

Everything is journaled as it finishes and read back from there, so a round that was killed is continued, not redone.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from inspect import isawaitable
from itertools import islice
from random import Random
from time import perf_counter
from typing import Any

from thor_tir.problem import Problem
from thor_tir.rl.config import RLConfig
from thor_tir.rl.episode import teaching
from thor_tir.rl.growth import Grown, grow
from thor_tir.rl.source import RoundSource
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.rl.step_methods.method import Evidence, StepRound
from thor_tir.rl.step_methods.table import method_of
from thor_tir.rollout.sample_many import Attempt, AttemptRequest, SamplingSetup
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSamples:
    """The samples of one round, before credit."""

    groups: Sequence[Sequence[Attempt]]
    """Trajectories of each problem, with their verdicts."""
    repairs: Sequence[tuple[StepPrompt, Sequence[StepSample]]]
    """Prefixes, by default those of failed calls, each with its rewarded samples."""
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
    num_refills: int = 0
    """Groups that were asked for in place of others that gave no row."""
    roots: Mapping[str, str] = field(default_factory=dict)
    """First trajectory of a trajectory's tree, where trees are compared."""
    num_shared: int = 0
    """Sampled tokens that stand in a trajectory and were sampled for another one."""
    evidence: Evidence = field(default_factory=Evidence)
    """Everything that the step method sampled, `repairs` among it."""

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
        return len(self.attempts) + len(self.repaired) + self.num_lost + self.evidence.unrewarded.total()

    @property
    def num_tokens(self) -> int:
        """Tokens that the model sampled for all that is not lost."""
        repairs = sum(step.num_sampled for repair in self.repaired for step in repair.steps)
        probes = self.evidence.probe_tokens
        own = sum(attempt.trajectory.num_model_tokens for attempt in self.attempts) - self.num_shared
        return own + repairs + probes


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


def further_problems(problems: Sequence[Problem], number: int, config: RLConfig) -> list[Problem]:
    """Problems that may replace those of a round, in this order; none is one of the round's, nor stands there twice.

    They are drawn for each round anew, so that what later rounds ask does not depend on what was replaced.
    """
    asked = {problem.id for problem in problems_of_round(problems, number, config)}
    others = [problem for problem in problems if problem.id not in asked]
    return Random(f"refill {config.seed} {number}").sample(others, min(len(others), config.most_refills))


def calls_of_round(number: int, config: RLConfig) -> int:
    """The call limit of a round: from 1 to the rollout's in equal stages over `calls_grow_over` rounds."""
    most = config.rollout.max_tool_calling_iterations
    if number >= config.calls_grow_over or most <= 1:
        return most
    return 1 + (most - 1) * number // config.calls_grow_over


async def collect(number: int, source: RoundSource, config: RLConfig) -> RoundSamples:
    """The samples of round `number`, counted from 0; those that the journal holds are not sampled again."""
    rollout = replace(config.rollout, max_tool_calling_iterations=calls_of_round(number, config))
    graded, judged = _Clock(), _Clock()
    setup = replace(
        source.setup,
        config=rollout,
        grade=graded.timing(source.setup.grade),
        rewards=[replace(each, judge=judged.timing(each.judge)) for each in source.setup.rewards],
    )
    began = perf_counter()
    asked = problems_of_round(source.problems, number, config)
    first = await _grown(asked, setup, source, config, number=number)
    groups, grown = [*first.groups], [first]
    further = iter(further_problems(source.problems, number, config))
    teaches = teaching(config.episode, decode=setup.agent.dialect.decode, call_success=rollout.call_success)
    while config.refill and (more := list(islice(further, len(asked) - sum(map(teaches, groups))))):
        grown.append(await _grown(more, setup, source, config, number=number, first=len(groups)))
        groups += grown[-1].groups
    attempts = [attempt for group in groups for attempt in group]
    sampled = perf_counter()
    found = StepRound(number=number, groups=groups, source=source, setup=setup, config=config)
    evidence = await method_of(config).gather(found)
    num_asked = len(groups) * config.episode.num_sampled + evidence.num_asked - evidence.unrewarded.total()
    return RoundSamples(
        groups=groups,
        repairs=evidence.groups,
        evidence=evidence,
        num_lost=num_asked - len(attempts) - sum(len(group) for _, group in evidence.groups),
        rollout_s=sampled - began,
        repair_s=perf_counter() - sampled,
        grade_s=graded.seconds,
        reward_s=judged.seconds,
        num_refills=len(groups) - len(asked),
        roots={id: root for each in grown for id, root in each.roots.items()},
        num_shared=sum(each.num_shared for each in grown),
    )


async def _grown(
    problems: Sequence[Problem],
    setup: SamplingSetup,
    source: RoundSource,
    config: RLConfig,
    *,
    number: int,
    first: int = 0,
) -> Grown:
    """A group of attempts at each problem; `first` is the place of the first one in its round."""
    requests = _requests(problems, config, number=number, first=first)
    if source.asked is not None:
        write_down(requests, source.asked)
    return await grow(requests, setup, source.rollouts, config.episode)


def write_down(requests: Sequence[Sequence[AttemptRequest]], asked: Journal) -> None:
    """Add the problem of each group to the journal, unless it stands there."""
    for problem in (group[0].problem for group in requests):
        if problem.id not in asked:
            row = {"id": problem.id, "question": problem.question, "answer": problem.answer, "source": problem.source}
            asked.add(problem.id, row)
    asked.commit()


def _requests(problems: Sequence[Problem], config: RLConfig, *, number: int, first: int) -> list[list[AttemptRequest]]:
    """One group of attempts for each problem."""
    return [
        [
            AttemptRequest(
                id=f"round{number + 1}/{place}/{sample}",
                problem=problem,
                seed=seed_of(config.seed, number, place, sample),
            )
            for sample in range(config.episode.num_sampled)
        ]
        for place, problem in enumerate(problems, first)
    ]


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
