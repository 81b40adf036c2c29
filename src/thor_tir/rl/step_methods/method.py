"""The interface of a step method.

Three questions, one answer each: `gather` samples groups that share a prefix and rewards their members; the rows of
such a group train what follows the prefix, each with its standing in the group; `credit` says what the turns of whole
trajectories get. Rows and learner are the same for all.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thor_tir.rl.config import RLConfig
from thor_tir.rl.shaping import Shape
from thor_tir.rl.source import RoundSource
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.rollout.sample_many import Attempt, SamplingSetup

StepGroup = tuple[StepPrompt, list[StepSample]]
"""A prefix, and what was sampled from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRound:
    """A round as a step method finds it: its trajectories are there."""

    number: int
    """Number of the round, counted from 0."""
    groups: Sequence[Sequence[Attempt]]
    """Trajectories of each problem."""
    source: RoundSource
    """Journal, and what rounds are sampled with."""
    setup: SamplingSetup
    """The same under the limits of this round."""
    config: RLConfig
    """Options of the run."""

    @property
    def attempts(self) -> list[Attempt]:
        """The trajectories of all problems."""
        return [attempt for group in self.groups for attempt in group]

    @property
    def max_queries(self) -> int:
        """Most prefixes, or trajectories that prefixes are sought in, of the round."""
        return round(self.config.step.max_queries_share * self.config.problems_per_round)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a step method sampled in a round."""

    groups: Sequence[StepGroup] = ()
    """Groups that share a prefix, with their rewards."""
    num_asked: int = 0
    """Samples that were wanted in these groups."""
    unrewarded: Counter[str] = field(default_factory=Counter)
    """Samples without a reward, by cause; they are none of the groups'."""
    potentials: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Potentials before a trajectory's first turn and behind every turn but the last, by the trajectory's id."""
    probe_tokens: int = 0
    """Tokens that the model sampled for potentials."""


Gather = Callable[[StepRound], Awaitable[Evidence]]
"""Function that samples from prefixes of a round's trajectories."""


async def nothing(found: StepRound) -> Evidence:
    """No further sample."""
    return Evidence()


OF_GROUPS = frozenset({"num_generations", "nll_weight", "min_survivors"})
"""Fields of the step options that rows of groups with a common prefix are made by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepMethod:
    """One way to credit single steps."""

    reads: frozenset[str] = frozenset()
    """Fields of the step options that it reads; others would be without effect, and are refused."""

    gather: Gather = nothing
    """Samples and rewards of groups that share a prefix."""
    credit: Callable[[RLConfig, Evidence], Shape] | None = None
    """Credit of a trajectory's turns, in place of one advantage for all; None where they share it."""
