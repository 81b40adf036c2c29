"""Self-correction: redo a failed call from inside its thought, up to N_corr times (paper, section 2.4).

The error message is discarded with the call, as in the paper. If every attempt fails too, the first failed step stays,
observation included, and the model goes on from it.
"""

from dataclasses import dataclass, replace

from thor_tir.rollout.backtrack import backtrack
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, StepRepair, take_step
from thor_tir.trajectory import Span, Step, Thought, with_discarded


@dataclass(frozen=True, kw_only=True)
class SelfCorrectionConfig:
    """Length of the cut, and number of attempts."""

    max_attempts: int = 4
    """N_corr, per failed call."""
    suffix_tokens: int = 100
    """L_suf: 100 for non-reasoning, 500 for reasoning models (paper, section D.3)."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.suffix_tokens < 0:
            raise ValueError(f"at least one attempt and no negative suffix, found {self}")


def self_correction(agent: Agent, rollout: RolloutConfig, config: SelfCorrectionConfig) -> StepRepair:
    """The repair that `rollout` calls after a failed call."""

    async def repair(draft: Draft, failed: Step) -> Step:
        number = len(draft.steps)
        prefix = backtrack(draft.spans, failed, suffix_tokens=config.suffix_tokens, parent=draft.id, call=number)
        kept = prefix.spans[-1]
        room = rollout.max_completion_length - draft.num_response_tokens - len(kept)
        discarded: list[Step] = []
        for _ in range(config.max_attempts):
            taken = await take_step(
                agent,
                prefix.token_ids,
                rollout,
                max(1, room),
                may_call=True,
                seed=draft.next_seed(),
                kept=kept.token_ids,
            )
            if taken.step.succeeds(rollout.call_success):
                return with_discarded(joined(kept, taken.step, agent), (_cut(failed, kept, agent), *discarded))
            discarded.append(taken.step)
        return with_discarded(failed, tuple(discarded))

    return repair


def joined(kept: Span, suffix: Step, agent: Agent) -> Step:
    """The regenerated step with its kept prefix in front: the step as the context now holds it."""
    span = kept + suffix.thought.span
    return replace(suffix, thought=Thought(text=agent.dialect.decode(span.token_ids), span=span))


def _cut(failed: Step, kept: Span, agent: Agent) -> Step:
    """The part of the failed step that was thrown away."""
    span = failed.thought.span[len(kept) :]
    return replace(failed, thought=Thought(text=agent.dialect.decode(span.token_ids), span=span))
