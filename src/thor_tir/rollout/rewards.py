"""Rewards of whole trajectories: the paper's, the packaged ones, and functions of one's own, as a weighted sum."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from thor_tir.errors import MachineFault, UsageError
from thor_tir.hooks import HookKind, hook_fault, load_hook, number_of, spelling_of, with_parameters
from thor_tir.problem import Problem
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict

Reward = Callable[[Problem, Trajectory, Verdict], object]
"""Judges a trajectory: returns a number, a mapping of names to numbers (their sum counts), None where it cannot say, or
an awaitable of one of these."""
_KIND: HookKind = "reward"


def exact(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float | None:
    """1 for a right answer, 0 for a wrong one; none where the grader could not tell (paper, section 2.3.1)."""
    return None if verdict.outcome is Outcome.UNSCORED else float(verdict.outcome is Outcome.CORRECT)


def boxed(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """1 where an answer was found at all."""
    return float(bool((verdict.extracted or "").strip()))


def calls(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """Number of tool calls; a negative weight makes them cost something."""
    return float(len(trajectory.calls))


def kilotokens(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """Thousands of tokens that the model sampled; a negative weight is a length penalty."""
    return trajectory.num_model_tokens / 1000


PACKAGED: Mapping[str, Reward] = MappingProxyType(
    {"exact": exact, "boxed": boxed, "calls": calls, "kilotokens": kilotokens}
)
"""Rewards that come with the package. A new one is a function and an entry here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedReward:
    """A reward and its weight in the sum."""

    name: str
    """Name as the user spelled it."""
    weight: float
    """Factor of the reward."""
    judge: Reward
    """Function that judges a trajectory."""


def load_rewards(specs: Sequence[str]) -> tuple[WeightedReward, ...]:
    """Rewards as options spell them: `exact`, `kilotokens=-0.1`, `mine.py:f=0.5`. `exact` alone needs no record.

    Raises UsageError for what cannot be loaded.
    """
    if list(specs) == ["exact"]:
        return ()
    loaded = []
    for spec in specs:
        spelled = spelling_of(spec)
        name, weight = spelled.name, 1.0 if spelled.weight is None else spelled.weight
        if name in PACKAGED:
            judge = with_parameters(_KIND, name, PACKAGED[name], spelled.parameters)
        else:
            judge = load_hook(_KIND, name, known=PACKAGED, parameters=spelled.parameters)
        loaded.append(WeightedReward(name=name, weight=weight, judge=judge))
    if len({each.name for each in loaded}) < len(loaded):
        raise UsageError(f"a reward is named twice: {', '.join(specs)}")
    return tuple(loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The rewards of one trajectory."""

    total: float | None
    """Weighted sum, the reward that is trained on; None where one of the rewards cannot say."""
    parts: Mapping[str, float]
    """Each reward by its name, before weights; entries of a mapping as `name/entry`."""


async def judged(
    rewards: Sequence[WeightedReward], problem: Problem, trajectory: Trajectory, verdict: Verdict
) -> Judged:
    """Ask every reward about a trajectory.

    Faults of the machine pass through. Raises UsageError for whatever else a function raises or returns.
    """
    total: float | None = 0.0
    parts: dict[str, float] = {}
    for each in rewards:
        value = await _asked(each, problem, trajectory, verdict)
        if value is None:
            total = None
            continue
        named = {each.name: value}
        if isinstance(value, Mapping):
            named = {f"{each.name}/{part}": number for part, number in value.items()}
        found = {name: number_of(number, f"the reward {name}") for name, number in named.items()}
        parts |= found
        total = None if total is None else total + each.weight * sum(found.values())
    return Judged(total=total, parts=parts)


async def _asked(each: WeightedReward, problem: Problem, trajectory: Trajectory, verdict: Verdict) -> object:
    try:
        value = each.judge(problem, trajectory, verdict)
        return await value if inspect.isawaitable(value) else value
    except (MachineFault, UsageError):
        raise
    except Exception as error:
        raise hook_fault(f"the reward {each.name}", error) from error
