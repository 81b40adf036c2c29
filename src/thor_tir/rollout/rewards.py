"""Rewards of whole trajectories: the paper's, the packaged ones, and functions of one's own, as a weighted sum."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from thor_tir.errors import UsageError
from thor_tir.grading.extract import complete_boxes, has_open_box
from thor_tir.hooks import HookKind, Spelling, answer_of, load_hook, number_of, spelling_of, with_parameters
from thor_tir.problem import Problem
from thor_tir.problems.verifiers_tasks import PREFIX
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict

Reward = Callable[..., object]
"""Judges a trajectory, given problem, trajectory and verdict: returns a number, a mapping of names to numbers (their
sum counts), None where it cannot say, or an awaitable of one of these."""
_KIND: HookKind = "reward"
MOST = 1e18
"""Largest sum of rewards: squares of differences still are numbers of 32 bits."""


def exact(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float | None:
    """1 for a right answer, 0 for a wrong one; none where the grader could not tell (paper, section 2.3.1)."""
    return None if verdict.outcome is Outcome.UNSCORED else float(verdict.outcome is Outcome.CORRECT)


def boxed(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """1 where an answer was found at all."""
    return float(bool((verdict.extracted or "").strip()))


def well_formed(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """1 where the model wrote one box, with something in it, and every fence that it opened was closed."""
    text = trajectory.response_text
    boxes = complete_boxes(text)
    is_boxed_once = len(boxes) == 1 and bool(boxes[0].content) and not has_open_box(text)
    num_fences = sum(bool(_FENCE.match(line)) for line in text.split("\n"))
    return float(is_boxed_once and num_fences % 2 == 0)


def calls(problem: Problem, trajectory: Trajectory, verdict: Verdict, *, free: float = 0) -> float:
    """Number of tool calls beyond the first `free`; a negative weight makes them cost something."""
    return max(0.0, len(trajectory.calls) - free)


def kilotokens(problem: Problem, trajectory: Trajectory, verdict: Verdict) -> float:
    """Thousands of tokens that the model sampled; a negative weight is a length penalty."""
    return trajectory.num_model_tokens / 1000


def overlong(problem: Problem, trajectory: Trajectory, verdict: Verdict, *, limit: float, cache: float) -> float:
    """0 up to `limit - cache` tokens, then a straight line down to -1 at `limit`, and -1 beyond.

    The soft overlong punishment of DAPO (arXiv 2503.14476, Eq. 13). Tokens are counted as the rollout's limit counts
    them: all behind the prompt, what tools printed included.
    """
    if not 0 < cache <= limit:
        raise UsageError(f"the reward overlong needs 0 < cache <= limit, found limit {limit} and cache {cache}")
    length = sum(len(span) for step in trajectory.steps for span in step.spans)
    return -min(1.0, max(0.0, (length - (limit - cache)) / cache))


_FENCE = re.compile(r"[ \t>]*(?:`{3}|~{3})")

PACKAGED: Mapping[str, Reward] = MappingProxyType(
    {
        "exact": exact,
        "boxed": boxed,
        "format": well_formed,
        "calls": calls,
        "kilotokens": kilotokens,
        "overlong": overlong,
    }
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
        if name.startswith(PREFIX):
            judge = taskset_reward(spec, spelled)
        elif name in PACKAGED:
            judge = with_parameters(_KIND, name, PACKAGED[name], spelled.parameters)
        else:
            judge = load_hook(_KIND, name, known=PACKAGED, parameters=spelled.parameters)
        loaded.append(WeightedReward(name=name, weight=weight, judge=judge))
    if len({each.name for each in loaded}) < len(loaded):
        raise UsageError(f"a reward is named twice: {', '.join(specs)}")
    return tuple(loaded)


def taskset_reward(spec: str, spelled: Spelling) -> Reward:
    """The rewards of a task set of `verifiers`, with the parameters of the set."""
    from thor_tir.rollout.verifiers_reward import TasksetReward

    parameters = spec.partition(",")[2]
    return TasksetReward(spelled.name.removeprefix(PREFIX) + f",{parameters}" * bool(parameters))


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
    values = [await answer_of(f"the reward {each.name}", each.judge, problem, trajectory, verdict) for each in rewards]
    return added_up(rewards, values)


def added_up(rewards: Sequence[WeightedReward], values: Sequence[object]) -> Judged:
    """The weighted sum of what rewards returned. Raises UsageError for what is neither number, record nor None."""
    total: float | None = 0.0
    parts: dict[str, float] = {}
    for each, value in zip(rewards, values, strict=True):
        if value is None:
            total = None
            continue
        found = numbers_of(value, each.name)
        parts |= found
        total = None if total is None else total + each.weight * sum(found.values())
        if total is not None and abs(total) > MOST:
            raise UsageError(
                f"the rewards of a trajectory add up to {total:g} at {each.name}, and beyond {MOST:g} they cannot be "
                "trained on; scale them by the weight behind ="
            )
    return Judged(total=total, parts=parts)


def numbers_of(value: object, name: str) -> dict[str, float]:
    """A number under the reward's name, or the entries of a record under `name/entry`."""
    named: Mapping[str, object] = {name: value}
    if isinstance(value, Mapping):
        if not value:
            raise UsageError(f"the reward {name} returned an empty dict; return a number, or None where it cannot say")
        named = {f"{name}/{part}": number for part, number in value.items()}
    return {part: number_of(number, f"the reward {part}") for part, number in named.items()}
