"""The episode level: who is grouped with whom, which trajectories count, what they earn (paper, section 2.3.1)."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.advantage import group_advantages
from thor_tir.rl.algorithms import Advantages
from thor_tir.rl.filters import Decode, DropRule, FilterName, rules_of
from thor_tir.rl.samples import episode_row
from thor_tir.rollout.attempts import Attempt


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """Groups and filters of whole trajectories."""

    group_size: int = 16
    """G: trajectories per problem; they share one baseline."""
    nll_weight: float = 0.01
    """Alpha, for trajectories of positive advantage."""
    filters: tuple[FilterName, ...] = ("failed-call",)
    """What leaves the episode level. `failed-call` is the paper's; `too-short` and `no-box` are the released code's;
    `void-turn` drops those that end without program or answer, `truncated` those that the limit of tokens ended."""
    min_tokens: int = 150
    """`too-short` drops responses of so many tokens or fewer."""
    box_window: int = 100
    """`no-box` looks for the answer in so many last tokens."""
    min_survivors: int = 2
    """Groups with fewer trajectories left after the filters are dropped."""
    min_share: float = 0.0
    """So are groups with less than this share of `group_size` left (released code: 0.5)."""

    def __post_init__(self) -> None:
        if self.group_size < 2:
            raise ValueError(f"group_size is {self.group_size}; a lone trajectory is its own baseline, so use >= 2")
        if self.min_survivors < 1:
            raise ValueError(f"min_survivors is {self.min_survivors}; a group without members has no advantage")
        if not (0 <= self.min_share <= 1 and self.min_tokens >= 0 and self.box_window >= 1):
            raise ValueError(f"min_share is a share, min_tokens and box_window count tokens, found {self}")

    @property
    def quota(self) -> int:
        """Survivors that a group needs."""
        return max(self.min_survivors, ceil(self.min_share * self.group_size))


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
