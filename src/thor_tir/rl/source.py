"""The surroundings that rounds of sampling share."""

from collections.abc import Sequence
from dataclasses import dataclass

from thor_tir.problem import Problem
from thor_tir.rl.step_reward import IsSubstantial
from thor_tir.rollout.sample_many import SamplingSetup
from thor_tir.storage.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundSource:
    """Everything that rounds are sampled from and with."""

    setup: SamplingSetup
    """Policy, sandbox, dialect and grader."""
    problems: Sequence[Problem]
    """Problems of all rounds, shuffled anew for each pass."""
    rollouts: Journal
    """Everything sampled, trajectories and repairs, and what functions of one's own gave the repairs."""
    asked: Journal | None = None
    """Problems that were asked, for whoever reads the rollouts; None where nobody does."""
    is_substantial: IsSubstantial = bool
    """True for a program that computes something; read by the step reward of that name."""
