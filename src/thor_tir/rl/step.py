"""The step level: go back into the thought before a failed call, sample that one step again, reward its execution.

Every sample is one think-act-observe loop (paper, section 2.3.2, Eq. 6-9). Reward 1 needs exactly one executed and
successful call; a sample that makes no call earns 0, never 1.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.advantage import group_advantages
from thor_tir.rl.algorithms import Advantages
from thor_tir.rl.samples import step_row
from thor_tir.rl.scope import CHOICES, CUTS, Cut, Which
from thor_tir.rl.step_reward import REWARDS, IsSubstantial, RewardName
from thor_tir.rollout.attempts import Attempt
from thor_tir.rollout.backtrack import failed_prefix
from thor_tir.rollout.loop import Agent, RolloutConfig, seed_of, take_step
from thor_tir.storage.trajectory_json import from_json, to_json
from thor_tir.trajectory import Finish, Prefix, Step, Trajectory


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Queries and groups of single calls."""

    group_size: int = 16
    """Repairs sampled per failed call; they share one baseline."""
    suffix_tokens: int = 100
    """L_suf: how far to go back into the failing thought (100 non-reasoning, 500 reasoning)."""
    cut: Cut = "suffix"
    """`suffix` always goes back so far (paper); `by-error` writes a program that did not compile again from a thought
    that stands."""
    which: Which = "first"
    """Failed calls that are repaired: the `first` of a trajectory, `any` one at random, or `all` (the latter two need
    trajectories that go on after a failure)."""
    reward: RewardName = "runs"
    """What a repair must do: its call `runs` (paper), runs and is `substantial` (computes something), or runs and
    `agrees` with what most of its group prints."""
    nll_weight: float = 0.01
    """Alpha, for repairs of positive advantage."""
    max_queries_share: float = 1.0
    """At most this many failed calls per problem of the round, drawn at random (paper: no more than one)."""
    min_survivors: int = 2
    """Groups with fewer repairs left after faults of the machine are dropped."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; a lone repair is its own baseline, so use >= 2")
        if self.min_survivors < 1:
            raise ValueError(f"min_survivors is {self.min_survivors}; a group without members has no advantage")


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPrompt:
    """One failed call that is to be repaired."""

    id: str
    prefix: Prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSample:
    """One sampled repair: the regenerated suffix, its call, and what became of it."""

    id: str
    step: Step

    @property
    def reward(self) -> float:
        """1 for an executed, successful call; 0 for a failed one and for none at all (paper)."""
        return float(self.step.succeeded)


def queries(attempts: Sequence[Attempt], config: StepConfig, *, max_queries: int, seed: int) -> list[StepPrompt]:
    """Failed calls of the trajectories that have one, by default the first of each, down-sampled to `max_queries`."""
    found = []
    for trajectory in (attempt.trajectory for attempt in attempts):
        failed = [i for i, step in enumerate(trajectory.steps) if step.failed]
        for call in CHOICES[config.which](failed, Random(f"{seed} {trajectory.id}")) if failed else ():
            suffix_tokens = CUTS[config.cut](trajectory.steps[call], config.suffix_tokens)
            prefix = failed_prefix(trajectory, call, suffix_tokens=suffix_tokens)
            found.append(StepPrompt(id=f"{trajectory.id}/step{call}", prefix=prefix))
    if len(found) <= max_queries:
        return found
    chosen = set(Random(seed).sample(range(len(found)), max_queries))
    return [query for i, query in enumerate(found) if i in chosen]


async def sample_repair(
    query: StepPrompt, number: int, agent: Agent, config: RolloutConfig, *, seed: int
) -> StepSample:
    """One think-act-observe loop from the prefix. Machine faults pass through: they are no reward."""
    prompt = len(query.prefix.spans[0])
    room = max(1, config.max_tokens - (len(query.prefix.token_ids) - prompt))
    with agent.policy.attend():
        taken = await take_step(
            agent,
            query.prefix.token_ids,
            config,
            room,
            may_call=True,
            seed=seed_of(seed, query.id, number),
            kept=query.prefix.spans[-1].token_ids,
        )
    return StepSample(id=f"{query.id}/repair{number}", step=taken.step)


def step_rows(
    groups: Sequence[tuple[StepPrompt, Sequence[StepSample]]],
    config: StepConfig,
    dropped: Counter[str],
    *,
    advantages: Advantages = group_advantages,
    is_substantial: IsSubstantial = bool,
) -> list[TrainingSample]:
    """Rows of all queries; groups whose repairs all succeed or all fail teach nothing and are counted.

    `is_substantial` is read by the reward of that name alone; by default any program is.
    """
    rows: list[TrainingSample] = []
    for query, repairs in groups:
        rewards = REWARDS[config.reward]([repair.step for repair in repairs], is_substantial)
        if len(repairs) < config.min_survivors:
            dropped["step: too few survivors"] += len(repairs)
            continue
        if min(rewards) == max(rewards):
            dropped[f"step: all {'succeed' if rewards[0] else 'fail'}"] += len(repairs)
            continue
        for repair, advantage in zip(repairs, advantages(rewards), strict=True):
            rows.append(
                step_row(
                    query.prefix,
                    repair.step,
                    id=repair.id,
                    advantage=advantage,
                    nll_weight=config.nll_weight,
                    group=query.id,
                )
            )
    return rows


def repaired_to_json(query: StepPrompt, repaired: StepSample) -> dict[str, Any]:
    """A repair as it stands in journals: a trajectory of one step."""
    carrier = Trajectory(
        id=repaired.id,
        problem_id=query.id,
        prompt=query.prefix.spans[0],
        steps=(repaired.step,),
        finish=Finish.ENDED,
    )
    return {"query": query.id, "reward": repaired.reward, "trajectory": to_json(carrier)}


def repaired_from_json(row: dict[str, Any]) -> StepSample:
    """The repair a journal's row stands for. Raises ValueError for a damaged row."""
    carrier = from_json(row["trajectory"])
    return StepSample(id=carrier.id, step=carrier.steps[0])
