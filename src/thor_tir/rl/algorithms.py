"""Group-relative advantages (paper, Eq. 5 and 9), and algorithms as records: advantages, ratio and mean together.

The learner calls the functions of an algorithm and knows none by name; a new one is a function here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, isfinite, sqrt

from thor_tir.learner.objective import Clip, Objective, constant_mean, sequence_mean, sequence_ratio
from thor_tir.rl.config import AlgorithmName, LossConfig

EPSILON = 1e-6
"""Added to the standard deviation, as in the released code."""

POSITIVE = 1e-7
"""A sample counts as positive above this advantage (released code): the rest takes no part in the NLL term."""

ROUNDING = 1e-9
"""Relative difference of two rewards that counts as none: sums of weighted parts are rounded."""

Advantages = Callable[[Sequence[float]], list[float]]
"""Function from the rewards of one group to its members' advantages."""


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


def are_equal(rewards: Sequence[float]) -> bool:
    """True where the rewards of a group differ by no more than their sums are rounded: they teach nothing."""
    return max(rewards) - min(rewards) <= ROUNDING * max(1.0, *map(abs, rewards))


def _refuse_unscored(rewards: Sequence[float]) -> None:
    if not all(map(isfinite, rewards)):
        raise ValueError(f"rewards must be finite numbers, found {list(rewards)}; leave unscored samples out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The way from rewards and ratios to a loss; the clip is the configuration's."""

    advantages: Advantages
    """Function from the rewards of one group to the advantages of its members."""
    objective: Objective
    """Ratio and mean of the surrogate."""


def token_mean_grpo(max_tokens: int) -> Algorithm:
    """The method of the paper with the mean of its released code: every token weighs the same."""
    return Algorithm(advantages=group_advantages, objective=Objective())


def sequence_mean_grpo(max_tokens: int) -> Algorithm:
    """Eq. 4 to the letter: every trajectory weighs the same, so tokens of a long one weigh less."""
    return Algorithm(advantages=group_advantages, objective=Objective(mean=sequence_mean()))


def dr_grpo(max_tokens: int) -> Algorithm:
    """Dr. GRPO (arXiv 2503.20783): no deviation and one constant length, so neither lengths nor hard groups bias it."""
    return Algorithm(advantages=centred_advantages, objective=Objective(mean=constant_mean(max_tokens)))


def gspo(max_tokens: int) -> Algorithm:
    """GSPO (arXiv 2507.18071): one ratio a sequence, clipped as a whole; its clip range is narrow."""
    return Algorithm(advantages=group_advantages, objective=Objective(ratio=sequence_ratio, mean=sequence_mean()))


ALGORITHMS: Mapping[AlgorithmName, Callable[[int], Algorithm]] = {
    "token-mean": token_mean_grpo,
    "sequence-mean": sequence_mean_grpo,
    "dr-grpo": dr_grpo,
    "gspo": gspo,
}
"""Algorithms by name; each is given the longest response that may be sampled, in tokens."""


def compose(config: LossConfig, *, max_tokens: int) -> Algorithm:
    """The algorithm with the clip of the configuration."""
    algorithm = ALGORITHMS[config.algorithm](max_tokens)
    low, high, dual = config.clip_range
    return replace(algorithm, objective=replace(algorithm.objective, clip=Clip(low=low, high=high, dual=dual)))
