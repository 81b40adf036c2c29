"""Packaged rewards of the repairs of one failed call: 1 or 0 each, and never 1 without an executed call.

A new reward is a function here, its name, and its line in `REWARDS`; the option and its help follow from them.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from thor_tir.trajectory import PYTHON, Step

IsSubstantial = Callable[[str], bool]
"""True for a program that does more than print what it was given."""

StepReward = Callable[[Sequence[Step], IsSubstantial], list[float]]


def prints(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """The call was executed, succeeded and printed something (paper, section 2.3.2, and its released code)."""
    return [float(step.succeeds("printed")) for step in repairs]


def runs(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """The call was executed and ran to its end, an empty program as well."""
    return [float(step.succeeds("ran")) for step in repairs]


def substantial(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """The call printed something that its program computes: `print(3)` earns nothing."""
    calls = [(step.succeeded, step.action) for step in repairs]
    return [float(ok and a is not None and (a.tool != PYTHON or is_substantial(a.code))) for ok, a in calls]


def agrees(repairs: Sequence[Step], is_substantial: IsSubstantial) -> list[float]:
    """The call succeeded and printed the same as most of its group, at least one other repair among them.

    Repairs of one thought ask for the same number, so a lone output is more likely a wrong program that runs. Outputs
    that are equally frequent are all right; an empty one agrees with nothing.
    """
    printed = [_printed(step) for step in repairs]
    votes = Counter(text for text in printed if text)
    most = max(votes.values(), default=0)
    return [float(bool(text) and votes[text] == most > 1) for text in printed]


def _printed(step: Step) -> str:
    return step.observation.result.stdout.strip() if step.succeeded and step.observation is not None else ""


RewardName = Literal["prints", "runs", "substantial", "agrees"]
REWARDS: Mapping[str, StepReward] = {
    "prints": prints,
    "runs": runs,
    "substantial": substantial,
    "agrees": agrees,
}
REWARDS_HELP = (
    "Condition under which a repair earns reward 1. "
    + " ".join(f"{name}: {(reward.__doc__ or '').splitlines()[0]}" for name, reward in REWARDS.items())
    + " Or functions of your own as module:function or file.py:function; several are added up, each with a weight "
    "behind = if it is not 1."
)
"""Help text of the option, from the first line of each reward's docstring."""
