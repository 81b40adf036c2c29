"""What the repairs of one failed call earn, judged together: 1 or 0 each, and never 1 without an executed call."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from thor_tir.trajectory import Step

IsSubstantial = Callable[[str], bool]
"""Whether a program does more than print what it was given."""

Reward = Callable[[Sequence[Step], IsSubstantial], list[float]]


def runs(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """The call was executed and succeeded (paper, section 2.3.2)."""
    return [float(step.succeeded) for step in repairs]


def substantial(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """It succeeded and its program computes something: `print(3)` earns nothing."""
    return [float(s.succeeded and s.action is not None and is_substantial(s.action.code)) for s in repairs]


def agrees(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """It succeeded and printed what most of the group's successes print, at least one other among them.

    Repairs of one thought ask for the same number, so a lone output is more likely a wrong program that runs. Outputs
    that are equally frequent are all right; an empty one agrees with nothing.
    """
    printed = [_printed(step) for step in repairs]
    votes = Counter(text for text in printed if text)
    most = max(votes.values(), default=0)
    return [float(bool(text) and votes[text] == most > 1) for text in printed]


def _printed(step: Step) -> str:
    return step.observation.result.stdout.strip() if step.succeeded and step.observation is not None else ""


RewardName = Literal["runs", "substantial", "agrees"]
REWARDS: Mapping[RewardName, Reward] = {"runs": runs, "substantial": substantial, "agrees": agrees}
