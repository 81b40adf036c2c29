"""One prompt -> one attempt at it that is listened to: what `thor solve`, `thor chat` and `thor serve` share."""

from dataclasses import dataclass

from thor_tir.dialect.dialect import Thinking, unless_cut_short
from thor_tir.engines.protocol import ContextFull
from thor_tir.grading.extract import extract_answer
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.problem import Problem
from thor_tir.rollout.loop import Draft, RolloutConfig, rollout
from thor_tir.rollout.overheard import Overheard
from thor_tir.rollout.sample_many import Attempt, written_text
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """Sampling of an attempt, and repair of its failed calls."""

    rollout: RolloutConfig
    """Limits and sampling."""
    correction: SelfCorrectionConfig | None
    """Repair of failed calls; None leaves failures as they are."""


async def heard_attempt(draft: Draft, limits: AttemptLimits, overheard: Overheard, thinking: Thinking) -> Attempt:
    """Grow a draft that is listened to. There is no reference, so that the attempt is unscored.

    Raises ContextFull where the prompt leaves no room for an answer, and faults of the machine.
    """
    repair = None
    if limits.correction is not None:
        repair = overheard.repair(self_correction(overheard.agent, limits.rollout, limits.correction))
    trajectory = await rollout(draft, overheard.agent, limits.rollout, repair)
    if not trajectory.steps:
        raise ContextFull(f"the messages have {len(draft.prompt)} tokens, which leave no room for an answer")
    overheard.finished(trajectory)
    return Attempt(
        problem=Problem(id="", question="", answer="", source="a person"),
        trajectory=trajectory,
        verdict=Verdict(
            outcome=Outcome.UNSCORED,
            extracted=extract_answer(unless_cut_short(written_text, thinking)(trajectory)),
            reason="no reference",
        ),
    )
