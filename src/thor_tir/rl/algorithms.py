"""Algorithms as records: how advantages are formed, which ratio the clip looks at, over what the mean is taken.

The learner calls the functions of an algorithm and knows none by name; a new one is a function here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from thor_tir.learner.objective import Clip, Objective, constant_mean, sequence_mean, sequence_ratio
from thor_tir.rl.advantage import Advantages, centred_advantages, group_advantages
from thor_tir.rl.config import AlgorithmName, LossConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """The way from rewards and ratios to a loss; the clip is the configuration's."""

    advantages: Advantages
    """From the rewards of one group to the advantages of its members."""
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
