"""Advantages shaped by a function, packaged or of one's own: a number for each row of a group, or for each token."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.hooks import answer_now, load_spelled, number_of, spelling_of, with_parameters
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.samples import EPISODE, terms_of
from thor_tir.rl.shapers import early_calls, few_calls
from thor_tir.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditGroup:
    """The rows of one group: the trajectories of a problem, or the repairs of a failed call."""

    level: str
    """Level of the group: `episode` or `step`."""
    rewards: tuple[float, ...]
    """Reward of each member."""
    advantages: tuple[float, ...]
    """Advantage of each member by the run's algorithm."""
    samples: tuple[Any, ...]
    """Members: attempts at the episode level, repairs (`StepSample`) at the step level."""
    rows: tuple[TrainingSample, ...]
    """Row of each member: its tokens, which of them are trained, and their log-probabilities."""


def credit_group(
    level: str,
    rewards: Sequence[float],
    advantages: Sequence[float],
    samples: Sequence[Any],
    rows: Sequence[TrainingSample],
) -> CreditGroup:
    """The group of these members."""
    return CreditGroup(
        level=level,
        rewards=tuple(rewards),
        advantages=tuple(advantages),
        samples=tuple(samples),
        rows=tuple(rows),
    )


Shape = Callable[[CreditGroup, float], list[TrainingSample]]
"""Function from a group and the weight of the NLL on positives to its rows with other advantages."""


def as_they_are(group: CreditGroup, nll_weight: float) -> list[TrainingSample]:
    """The rows as the algorithm credits them."""
    return list(group.rows)


def aspo(group: CreditGroup, *, delta: float = -2.0, k: float = 0.7) -> list[float]:
    """Advantages of right trajectories shaped by where their first call stands; repairs are left alone."""
    if group.level != EPISODE:
        return list(group.advantages)
    places = [_first_call(attempt.trajectory) if attempt.is_correct else None for attempt in group.samples]
    lengths = [sum(len(span) for step in attempt.trajectory.steps for span in step.spans) for attempt in group.samples]
    return early_calls(group.advantages, places, lengths, delta=delta, k=k)


def cas(group: CreditGroup, *, penalty: float = 0.5, hard: float = 0.5, most: int = 5, k: float = 0.7) -> list[float]:
    """Advantages of right trajectories at easy problems shaped by their number of calls; repairs are left alone."""
    if group.level != EPISODE:
        return list(group.advantages)
    is_right = [attempt.is_correct for attempt in group.samples]
    calls = [len(attempt.trajectory.calls) for attempt in group.samples]
    return few_calls(group.advantages, is_right, calls, penalty=penalty, hard=hard, most=most, k=k)


def _first_call(trajectory: Trajectory) -> int | None:
    """Tokens of the response before its first call; None without one."""
    place = 0
    for step in trajectory.steps:
        if step.action is not None:
            return place + len(step.thought.span)
        place += sum(map(len, step.spans))
    return None


PACKAGED: Mapping[str, Callable[..., list[float]]] = {"aspo": aspo, "cas": cas}
"""Functions that come with the package (`rl/shapers.py` has their formulas)."""


def load_shape(spec: str) -> Shape:
    """The function of that spelling; none leaves the rows as they are. Raises UsageError for what cannot be loaded."""
    if not spec:
        return as_they_are
    spelled = spelling_of(spec)
    if spelled.name in PACKAGED and spelled.weight is None:
        function = with_parameters("advantage", spelled.name, PACKAGED[spelled.name], spelled.parameters)
    else:
        function = load_spelled("advantage", spec, known=PACKAGED)
    said = f"the advantage {spec}"

    def shape(group: CreditGroup, nll_weight: float) -> list[TrainingSample]:
        value = answer_now(said, function, group)
        credits = _listed(value, len(group.rows), f"{said} returned {str(value)[:80]!r} for a group", "row")
        pairs = zip(group.rows, credits, strict=True)
        return [with_credit(row, credit, group.level, nll_weight, said) for row, credit in pairs]

    return shape


def with_credit(row: TrainingSample, credit: object, level: str, nll_weight: float, said: str) -> TrainingSample:
    """The row with an advantage, or with one for each of its tokens, of which the trained ones count.

    A row whose tokens differ counts as positive, for the NLL, where their mean is. Raises UsageError for anything else.
    """
    if not _is_listed(credit):
        return replace(row, terms=terms_of(level, advantage=number_of(credit, said), nll_weight=nll_weight))
    found = _listed(credit, len(row.token_ids), f"{said} returned a list for the row {row.id}", "token")
    numbers = [number_of(a, said) if is_trained else 0.0 for a, is_trained in zip(found, row.trained, strict=True)]
    mean = fsum(numbers) / max(1, row.num_trained)
    surrogate, *rest = terms_of(level, advantage=mean, nll_weight=nll_weight)
    return replace(row, terms=(replace(surrogate, token_advantages=tuple(numbers)), *rest))


def _is_listed(value: object) -> bool:
    """True for a list, a tuple or a row of an array; an array of no dimension is a number."""
    return not isinstance(value, str | bytes | Mapping) and hasattr(value, "__len__") and getattr(value, "ndim", 1) > 0


def _listed(value: object, length: int, said: str, member: str) -> list[object]:
    found = list(value) if _is_listed(value) else []  # type: ignore[call-overload]
    if len(found) != length:
        raise UsageError(f"{said}: expected a list with {length} entries, one for each {member}, found {len(found)}")
    return found
