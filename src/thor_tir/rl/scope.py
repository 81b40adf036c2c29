"""Which failed calls of a trajectory are repaired, and how far before a call the repair begins."""

from collections.abc import Callable, Mapping, Sequence
from random import Random

from thor_tir.execution import Status
from thor_tir.rl.config import Cut, Which
from thor_tir.trajectory import Step

Choose = Callable[[Sequence[int], Random], Sequence[int]]
"""From the places of all failed calls, at least one, to those that are repaired."""


def the_first(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """What comes before it has not failed (released code)."""
    return failed[:1]


def any_one(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """One at random: later calls are repaired too, each trajectory counts once."""
    return [rng.choice(failed)]


def every_one(failed: Sequence[int], rng: Random) -> Sequence[int]:
    """All of them (paper, Eq. 7)."""
    return failed


CHOICES: Mapping[Which, Choose] = {"first": the_first, "any": any_one, "all": every_one}


def suffix(failed: Step, suffix_tokens: int) -> int:
    """L_suf tokens of the thought are written again, whatever went wrong (paper, section 2.3.2)."""
    return suffix_tokens


def by_error(failed: Step, suffix_tokens: int) -> int:
    """A program that does not compile is written again from a thought that stands; anything else goes back as far."""
    is_slip = failed.observation is not None and failed.observation.result.status is Status.SYNTAX
    return 0 if is_slip else suffix_tokens


CUTS: Mapping[Cut, Callable[[Step, int], int]] = {"suffix": suffix, "by-error": by_error}
"""From a failed step and L_suf to the tokens of its thought that are cut away."""
