"""The episode level: who is grouped with whom, which trajectories count, what they earn (paper, section 2.3.1)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thor_tir.attempt import Attempt
from thor_tir.learner.row import Row
from thor_tir.rl.advantage import group_advantages
from thor_tir.rl.rows import episode_row
from thor_tir.verdict import Outcome


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """Groups and filters of whole trajectories."""

    group_size: int = 16
    """G: trajectories per problem; they share one baseline."""
    nll_weight: float = 0.01
    """Alpha, for trajectories of positive advantage."""
    min_survivors: int = 2
    """Groups with fewer trajectories left after the filters are dropped."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; a lone trajectory is its own baseline, so use >= 2")
        if self.min_survivors < 1:
            raise ValueError(f"min_survivors is {self.min_survivors}; a group without members has no advantage")


def episode_rows(groups: Sequence[Sequence[Attempt]], config: EpisodeConfig, dropped: Counter[str]) -> list[Row]:
    """Rows of all groups (one group = the attempts at one problem).

    Trajectories with a failed call leave the episode level, since the fault may lie in a single call: they feed the
    step level. Unscored ones leave means and gradients alone. Groups whose rewards are all equal teach nothing.
    What is left out is counted in `dropped` by cause.
    """
    rows: list[Row] = []
    for group in groups:
        members = [attempt for attempt in group if _counts(attempt, dropped)]
        rewards = [float(attempt.is_correct) for attempt in members]
        if len(members) < config.min_survivors:
            dropped["episode: too few survivors"] += len(members)
            continue
        if min(rewards) == max(rewards):
            dropped[f"episode: all {'right' if rewards[0] else 'wrong'}"] += len(members)
            continue
        for attempt, advantage in zip(members, group_advantages(rewards), strict=True):
            rows.append(
                episode_row(
                    attempt.trajectory,
                    advantage=advantage,
                    nll_weight=config.nll_weight,
                    group=f"episode {attempt.problem.id}",
                )
            )
    return rows


def _counts(attempt: Attempt, dropped: Counter[str]) -> bool:
    if any(step.failed for step in attempt.trajectory.steps):
        dropped["episode: failed call"] += 1
        return False
    if attempt.verdict.outcome is Outcome.UNSCORED:
        dropped["episode: unscored"] += 1
        return False
    return True
