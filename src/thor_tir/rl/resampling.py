"""Resampling on correct: more trajectories are sampled than trained, and of the right ones the cleanest are kept.

GRPO-RoC (rStar2-Agent, arXiv 2508.20722), as its released code does it: wrong and right trajectories keep their shares;
right ones are taken by the share of their calls that failed, smallest first, and one without calls counts as half
failed. Its second penalty, repeated answer tags, is left out: an answer here has no tags.
"""

from collections.abc import Sequence

from thor_tir.execution import CallSuccess
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Trajectory

WITHOUT_CALLS = 0.5
"""Failed share that a trajectory without calls counts as (released code)."""


def failed_share(trajectory: Trajectory, rule: CallSuccess = "printed") -> float:
    """Share of its calls that failed."""
    calls = trajectory.calls
    return sum(step.fails(rule) for step in calls) / len(calls) if calls else WITHOUT_CALLS


def resampled(group: Sequence[Attempt], keep: int, rule: CallSuccess = "printed") -> list[Attempt]:
    """At most `keep` scored members in their order, with at least one right and one wrong where there are such.

    Wrong ones are taken in the order of their numbers, which says nothing of them: a uniform draw. Members without a
    reward stay, for the caller to count.
    """
    scored = [attempt for attempt in group if attempt.reward is not None]
    if len(scored) <= keep:
        return list(group)
    right = [attempt for attempt in scored if (attempt.reward or 0.0) > 0]
    wrong = [attempt for attempt in scored if (attempt.reward or 0.0) <= 0]
    num_right = round(keep * len(right) / len(scored))
    num_right = min(max(num_right, min(1, len(right)), keep - len(wrong)), keep - min(1, len(wrong)))
    clean = sorted(right, key=lambda attempt: failed_share(attempt.trajectory, rule))
    kept = {attempt.trajectory.id for attempt in (*clean[:num_right], *wrong[: keep - num_right])}
    return [attempt for attempt in group if attempt.reward is None or attempt.trajectory.id in kept]
