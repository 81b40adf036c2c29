"""The episode level: who is grouped with whom, which trajectories count, what they earn (paper, section 2.3.1)."""

from collections import Counter
from collections.abc import Sequence

from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.advantage import Advantages, group_advantages
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.filters import DropRule, rules_of
from thor_tir.rl.samples import episode_row
from thor_tir.rollout.records import Attempt
from thor_tir.trajectory import Decode


def episode_rows(
    groups: Sequence[Sequence[Attempt]],
    config: EpisodeConfig,
    dropped: Counter[str],
    *,
    advantages: Advantages = group_advantages,
    decode: Decode | None = None,
) -> list[TrainingSample]:
    """Rows of all groups (one group = the attempts at one problem).

    Trajectories with a failed call leave the episode level, since the fault may lie in a single call: they feed the
    step level. Unscored ones leave means and gradients alone. Groups whose rewards are all equal teach nothing.
    What is left out is counted in `dropped` by cause. `decode` is read by the filter `no-box` alone.
    """
    rules = rules_of(config.filters, min_tokens=config.min_tokens, box_window=config.box_window, decode=decode)
    rows: list[TrainingSample] = []
    for group in groups:
        members = [attempt for attempt in group if _counts(attempt, rules, dropped)]
        rewards = [float(attempt.is_correct) for attempt in members]
        if len(members) < config.quota:
            dropped["episode: too few survivors"] += len(members)
            continue
        if min(rewards) == max(rewards):
            dropped[f"episode: all {'right' if rewards[0] else 'wrong'}"] += len(members)
            continue
        for attempt, advantage in zip(members, advantages(rewards), strict=True):
            rows.append(
                episode_row(
                    attempt.trajectory,
                    advantage=advantage,
                    nll_weight=config.nll_weight,
                    group=f"episode {attempt.problem.id}",
                )
            )
    return rows


def _counts(attempt: Attempt, rules: Sequence[DropRule], dropped: Counter[str]) -> bool:
    cause = next((cause for rule in rules if (cause := rule(attempt)) is not None), None)
    if cause is not None:
        dropped[f"episode: {cause}"] += 1
    return cause is None
