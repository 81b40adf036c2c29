"""Rewards of repairs as a run names them: packaged ones and functions of one's own, as a weighted sum."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from thor_tir.errors import UsageError
from thor_tir.hooks import HookKind, answer_of, load_hook, spelling_of, with_parameters
from thor_tir.problem import Problem
from thor_tir.rl.step_reward import REWARDS, IsSubstantial
from thor_tir.rollout.rewards import Judged, WeightedReward, added_up
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Step

_KIND: HookKind = "step-reward"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairRewards:
    """The rewards of a run's repairs."""

    named: tuple[WeightedReward, ...]
    """Functions and their weights."""
    is_packaged: bool
    """True for one packaged reward alone: it is computed from the repairs at any time, and kept nowhere."""


def load_repair_rewards(specs: Sequence[str], is_substantial: IsSubstantial = bool) -> RepairRewards:
    """Rewards as the option spells them. Raises UsageError for what cannot be loaded."""
    spelled = [spelling_of(spec) for spec in specs]
    if not spelled or len({each.name for each in spelled}) < len(spelled):
        raise UsageError(f"--step.reward names each reward once and at least one, found {', '.join(specs) or 'none'}")
    named = []
    for each in spelled:
        if each.name in REWARDS:
            judge = with_parameters(_KIND, each.name, partial(_packaged, each.name, is_substantial), each.parameters)
        else:
            judge = load_hook(_KIND, each.name, known=REWARDS, parameters=each.parameters)
        weight = 1.0 if each.weight is None else each.weight
        named.append(WeightedReward(name=each.name, weight=weight, judge=judge))
    is_packaged = len(named) == 1 and named[0].name in REWARDS and named[0].weight == 1
    return RepairRewards(named=tuple(named), is_packaged=is_packaged)


def _packaged(
    name: str, is_substantial: IsSubstantial, problem: Problem, failed: Step, repairs: Sequence[Step]
) -> list[float]:
    return REWARDS[name](repairs, is_substantial)


async def judged_repairs(
    rewards: RepairRewards, problem: Problem, failed: Step, repairs: Sequence[Step]
) -> list[Judged]:
    """Ask every reward about the repairs of one failed call.

    Faults of the machine pass through. Raises UsageError for whatever else a function raises or returns.
    """
    columns = [await _column(each, problem, failed, repairs) for each in rewards.named]
    found = [added_up(rewards.named, row) for row in zip(*columns, strict=True)]
    if any(each.total is None for each in found):
        raise UsageError("a step reward returned None for a repair; each repair of a group needs a number")
    return found


async def _column(each: WeightedReward, problem: Problem, failed: Step, repairs: Sequence[Step]) -> list[object]:
    value = await answer_of(f"the step reward {each.name}", each.judge, problem, failed, repairs)
    try:
        column = list(value) if not isinstance(value, str | bytes | Mapping) else []
    except TypeError:
        column = []
    if len(column) != len(repairs):
        raise UsageError(
            f"the step reward {each.name} returned {str(value)[:80]!r} for {len(repairs)} repairs; it returns a list "
            "with one entry for each"
        )
    return column


def earned_to_json(ids: Sequence[str], judged: Sequence[Judged]) -> JsonObject:
    """Rewards of the repairs of one failed call, as they stand in a journal."""
    return {"earned": {id: asdict(each) for id, each in zip(ids, judged, strict=True)}}


def earned_from_json(row: JsonObject) -> dict[str, Judged]:
    """The rewards that such a row stands for, by repair."""
    return {id: Judged(**each) for id, each in row["earned"].items()}
