"""Group-relative advantages (paper, Eq. 5 and 9)."""

from collections.abc import Callable, Sequence
from math import fsum, isfinite, sqrt

EPSILON = 1e-6
"""Added to the standard deviation, as in the released code."""

POSITIVE = 1e-7
"""A sample counts as positive above this advantage (released code): the rest takes no part in the NLL term."""

Advantages = Callable[[Sequence[float]], list[float]]
"""From the rewards of one group to its members' advantages."""


def group_advantages(rewards: Sequence[float]) -> list[float]:
    """A_i = (r_i - mean r) / (std r + 1e-6), with the unbiased standard deviation, over one group.

    Equal rewards give exact zeros. A group of one has mean 0 and std 1 by definition, so its advantage is its reward;
    the group filter normally removes it. Samples without a score must be left out by the caller.
    """
    _refuse_unscored(rewards)
    if len(rewards) == 1:
        return [float(rewards[0])]
    if not rewards or min(rewards) == max(rewards):
        return [0.0] * len(rewards)
    mean = fsum(rewards) / len(rewards)
    std = sqrt(fsum((r - mean) ** 2 for r in rewards) / (len(rewards) - 1))
    return [(r - mean) / (std + EPSILON) for r in rewards]


def centred_advantages(rewards: Sequence[float]) -> list[float]:
    """A_i = r_i - mean r: the deviation, which favours groups that nearly always fail or succeed, is left out.

    Dr. GRPO, arXiv 2503.20783, section 3.2. A group of one has mean 0, as in `group_advantages`.
    """
    _refuse_unscored(rewards)
    if len(rewards) == 1:
        return [float(rewards[0])]
    mean = fsum(rewards) / max(1, len(rewards))
    return [r - mean for r in rewards]


def _refuse_unscored(rewards: Sequence[float]) -> None:
    if not all(map(isfinite, rewards)):
        raise ValueError(f"rewards must be finite numbers, found {list(rewards)}; leave unscored samples out")
