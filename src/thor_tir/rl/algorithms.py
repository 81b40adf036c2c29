"""Algorithms as records: how advantages are formed, which ratio the clip looks at, over what the mean is taken.

The learner calls the functions of an algorithm and knows none by name; a new one is a function here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thor_tir.learner.objective import Clip, Objective, constant_mean, sequence_mean, sequence_ratio
from thor_tir.rl.advantage import centred_advantages, group_advantages

Advantages = Callable[[Sequence[float]], list[float]]
"""From the rewards of one group to its members' advantages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What turns rewards and ratios into a loss."""

    advantages: Advantages
    objective: Objective


def token_mean(max_tokens: int) -> Algorithm:
    """The method of the paper with the mean of its released code: every token weighs the same."""
    return Algorithm(advantages=group_advantages, objective=Objective())


def per_sequence(max_tokens: int) -> Algorithm:
    """Eq. 4 to the letter: every trajectory weighs the same, so tokens of a long one weigh less."""
    return Algorithm(advantages=group_advantages, objective=Objective(mean=sequence_mean()))


def dr_grpo(max_tokens: int) -> Algorithm:
    """Dr. GRPO (arXiv 2503.20783): no deviation and one constant length, so neither lengths nor hard groups bias it."""
    return Algorithm(advantages=centred_advantages, objective=Objective(mean=constant_mean(max_tokens)))


def gspo(max_tokens: int) -> Algorithm:
    """GSPO (arXiv 2507.18071): one ratio a sequence, clipped as a whole, in the paper's narrow range."""
    clip = Clip(low=3e-4, high=4e-4)
    return Algorithm(
        advantages=group_advantages, objective=Objective(ratio=sequence_ratio, clip=clip, mean=sequence_mean())
    )


AlgorithmName = Literal["token-mean", "sequence-mean", "dr-grpo", "gspo"]
ALGORITHMS: Mapping[AlgorithmName, Callable[[int], Algorithm]] = {
    "token-mean": token_mean,
    "sequence-mean": per_sequence,
    "dr-grpo": dr_grpo,
    "gspo": gspo,
}
"""Each is given the longest response that may be sampled."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """From rewards to a loss. `docs/rl.md` says when to use what."""

    algorithm: AlgorithmName = "token-mean"
    """`token-mean`: the paper, with the mean of its released code. `sequence-mean`: the paper's Eq. 4. `dr-grpo`: no
    deviation, a constant length. `gspo`: one ratio for a whole sequence."""
    clip_low: float | None = None
    """Ratios below 1 minus this earn nothing more; None for the algorithm's own (0.2; gspo 3e-4)."""
    clip_high: float | None = None
    """Ratios above 1 plus this earn nothing more; None for the algorithm's own (0.28; gspo 4e-4)."""
    clip_dual: float | None = None
    """Bounds the loss at negative advantage A by this times -A; None for the algorithm's own (3)."""
    kl_weight: float = 0.0
    """Weight of the KL to the model that training starts from; 0, as in the paper, keeps no copy of it."""
    correction_cap: float = 0.0
    """Weigh each token by pi_trainer / pi_engine, at most this (2 is usual), where the two compute log-probabilities
    differently; costs one more forward pass a round. 0 for none."""

    def __post_init__(self) -> None:
        if self.kl_weight < 0 or self.correction_cap < 0:
            raise ValueError(f"kl_weight and correction_cap cannot be negative, found {self}")
        self.compose(max_tokens=1)  # a clip that cannot be is refused before anything is loaded

    def compose(self, *, max_tokens: int) -> Algorithm:
        """The algorithm with the clip that was asked for."""
        algorithm = ALGORITHMS[self.algorithm](max_tokens)
        asked = {"low": self.clip_low, "high": self.clip_high, "dual": self.clip_dual}
        clip = replace(algorithm.objective.clip, **{k: v for k, v in asked.items() if v is not None})
        return replace(algorithm, objective=replace(algorithm.objective, clip=clip))
