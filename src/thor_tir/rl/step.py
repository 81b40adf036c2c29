"""The step level: go back into the thought before a failed call, sample that one step again, reward its execution.

Every sample is one think-act-observe loop (paper, section 2.3.2, Eq. 6-9). Reward 1 needs exactly one executed and
successful call; a sample that makes no call earns 0, never 1. A journal keeps what was sampled; the reward is computed
from it once, when the whole group is there, and everything that trains, counts or shows a repair reads that number.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from thor_tir.execution import CallSuccess
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.algorithms import Advantages, are_equal, group_advantages
from thor_tir.rl.config import StepConfig, Which
from thor_tir.rl.samples import STEP, step_row
from thor_tir.rl.shaping import Shape, as_they_are, credit_group
from thor_tir.rl.step_reward import REWARDS, IsSubstantial
from thor_tir.rollout.backtrack import CUTS, failed_prefix
from thor_tir.rollout.loop import Agent, RolloutConfig, take_step
from thor_tir.rollout.rewards import Judged
from thor_tir.rollout.sample_many import Attempt
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Finish, Prefix, Step, Trajectory, dated

T = TypeVar("T")

Choose = Callable[[Sequence[int], Random], Sequence[int]]
"""Function from the places of all failed calls, at least one, to those that are repaired."""


def the_first(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """The first one: nothing before it has failed (released code)."""
    return failed[:1]


def any_one(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """One at random: later calls are repaired too, each trajectory counts once."""
    return [rng.choice(failed)]


def every_one(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """All of them (paper, Eq. 7)."""
    return failed


CHOICES: Mapping[Which, Choose] = {"first": the_first, "any": any_one, "all": every_one}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrompt:
    """One failed call that is to be repaired."""

    id: str
    """Trajectory and place of the call, `<trajectory>/step<place>`."""
    prefix: Prefix
    """The trajectory up to where it is written again."""
    earlier: tuple[Step, ...] = ()
    """Its steps before the call."""

    def repair_id(self, number: int) -> str:
        """The id of the repair of this number, counted from 0."""
        return f"{self.id}/repair{number}"

    @property
    def rewards_id(self) -> str:
        """The id under which a journal keeps what functions of one's own gave the repairs."""
        return f"{self.id}/rewards"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One sampled repair: the regenerated suffix, its call, and what became of it."""

    id: str
    """The failed call's id and the repair's number."""
    step: Step
    """Regenerated suffix, call and observation."""
    reward: float
    """Reward under the run's step rewards, 0 or 1 by default; it may depend on the other repairs of the group."""
    later: tuple[Step, ...] = ()
    """Steps that followed, where it was sampled to the answer."""
    standing: float = 0.0
    """Part of its advantage beyond that among its group."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Each reward that the run names, before weights; empty where one packaged reward is all."""

    @property
    def steps(self) -> tuple[Step, ...]:
        """All its steps."""
        return (self.step, *self.later)


PromptOf = Callable[[Trajectory, int, StepConfig], StepPrompt]
"""Function from a trajectory and the place of its failed call to the prefix that its group shares."""


def before_the_call(trajectory: Trajectory, call: int, config: StepConfig) -> StepPrompt:
    """Inside the thought before the call: the call is deleted with its error (paper, section 2.3.2)."""
    suffix_tokens = CUTS[config.cut](trajectory.steps[call], config.suffix_tokens)
    prefix = failed_prefix(trajectory, call, suffix_tokens=suffix_tokens)
    return StepPrompt(id=f"{trajectory.id}/step{call}", prefix=prefix, earlier=trajectory.steps[:call])


def queries(
    attempts: Sequence[Attempt],
    config: StepConfig,
    *,
    max_queries: int,
    seed: int,
    call_success: CallSuccess = "printed",
    prompt_of: PromptOf = before_the_call,
) -> list[StepPrompt]:
    """Failed calls of the trajectories that have one, by default the first of each, down-sampled to `max_queries`."""
    found = []
    for trajectory in (attempt.trajectory for attempt in attempts):
        failed = [i for i, step in enumerate(trajectory.steps) if step.fails(call_success)]
        calls = CHOICES[config.which](failed, Random(f"{seed} {trajectory.id}")) if failed else ()
        found += [prompt_of(trajectory, call, config) for call in calls]
    return drawn(found, max_queries, seed)


def drawn(found: Sequence[T], most: int, seed: int) -> list[T]:
    """At most so many of them, drawn by the seed and left in their order."""
    if len(found) <= most:
        return list(found)
    chosen = set(Random(seed).sample(range(len(found)), most))
    return [each for i, each in enumerate(found) if i in chosen]


async def sample_repair(query: StepPrompt, number: int, agent: Agent, config: RolloutConfig, *, seed: int) -> Step:
    """One think-act-observe loop from the prefix. Machine faults pass through: they are no reward."""
    prompt = len(query.prefix.spans[0])
    room = max(1, config.max_completion_length - (len(query.prefix.token_ids) - prompt))
    with agent.policy.attend():
        taken = await take_step(
            agent,
            query.prefix.token_ids,
            config,
            room,
            may_call=True,
            seed=seed_of(seed, query.id, number),
            kept=query.prefix.spans[-1].token_ids,
            earlier=query.earlier,
        )
    return dated(taken.step, taken.policy_version)


def with_reward(id: str, step: Step, judged: Judged) -> StepSample:
    """A repair and what functions of one's own gave it. Raises ValueError without a total."""
    if judged.total is None:
        raise ValueError(f"the repair {id} has no reward")
    return StepSample(id=id, step=step, reward=judged.total, parts=judged.parts)


def rewarded(
    steps: Mapping[str, Step], reward: str = "prints", is_substantial: IsSubstantial = bool
) -> list[StepSample]:
    """The repairs of one failed call, by id, with their rewards under one packaged step reward.

    `is_substantial` is read by the reward of that name alone; by default any program is.
    """
    rewards = REWARDS[reward](list(steps.values()), is_substantial)
    pairs = zip(steps.items(), rewards, strict=True)
    return [StepSample(id=id, step=step, reward=earned) for (id, step), earned in pairs]


def step_rows(
    groups: Sequence[tuple[StepPrompt, Sequence[StepSample]]],
    config: StepConfig,
    dropped: Counter[str],
    *,
    advantages: Advantages = group_advantages,
    shape: Shape = as_they_are,
) -> list[TrainingSample]:
    """Rows of all queries; groups whose repairs all succeed or all fail, and stand alike beyond their group, teach
    nothing and are counted."""
    rows: list[TrainingSample] = []
    for query, repairs in groups:
        rewards = [repair.reward for repair in repairs]
        if len(repairs) < config.min_survivors:
            dropped["step: too few survivors"] += len(repairs)
            continue
        standings = [repair.standing for repair in repairs]
        if are_equal(rewards) and not any(standings):
            dropped[f"step: all {_NAMED.get(rewards[0], 'equal')}"] += len(repairs)
            continue
        credits = [local + standing for local, standing in zip(advantages(rewards), standings, strict=True)]
        made = [
            step_row(
                query.prefix,
                repair.step,
                later=repair.later,
                id=repair.id,
                advantage=advantage,
                nll_weight=config.nll_weight,
                group=query.id,
            )
            for repair, advantage in zip(repairs, credits, strict=True)
        ]
        group = credit_group(STEP, rewards, credits, repairs, made)
        rows += shape(group, config.nll_weight)
    return rows


_NAMED = {1.0: "succeed", 0.0: "fail"}
"""Names of the rewards that the success of a call alone earns."""


def repair_to_json(query: StepPrompt, id: str, step: Step) -> JsonObject:
    """A repair as it stands in journals: a trajectory of one step, and no reward."""
    carrier = Trajectory(id=id, problem_id=query.id, prompt=query.prefix.spans[0], steps=(step,), finish=Finish.ENDED)
    return {"query": query.id, "trajectory": trajectory_to_json(carrier)}


def repair_from_json(row: JsonObject) -> Step:
    """The repair a journal's row stands for. Raises ValueError for a damaged row."""
    return trajectory_from_json(row["trajectory"]).steps[0]
