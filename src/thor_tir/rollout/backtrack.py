"""Cut a trajectory inside the thought before a failed action: what step-level RL and self-correction share.

The cut never leaves r_t. Earlier thoughts, programs and observations stay whole, token for token, however short the
failing thought is.
"""

from collections.abc import Sequence

from thor_tir.trajectory import Prefix, Span, Step, Trajectory


def kept_thought(failed: Step, *, suffix_tokens: int) -> Span:
    """r_t_pre: the thought without its last `suffix_tokens` tokens, or nothing of a thought that is shorter."""
    thought = failed.thought.span
    return thought[: max(0, len(thought) - suffix_tokens)]


def backtrack(before: Sequence[Span], failed: Step, *, suffix_tokens: int, parent: str, call: int) -> Prefix:
    """pref(tau, t) = everything before step t, then r_t_pre (paper, section 2.3.2).

    `before` holds the spans of prompt and earlier steps. The failed action and its observation are left out.
    """
    return Prefix(spans=(*before, kept_thought(failed, suffix_tokens=suffix_tokens)), parent=parent, call=call)


def failed_prefix(trajectory: Trajectory, call: int, *, suffix_tokens: int) -> Prefix:
    """The prefix of step number `call` of a finished trajectory, whose call must have failed."""
    failed = trajectory.steps[call]
    if failed.succeeds("printed") or not failed.is_call:
        raise ValueError(f"step {call} of trajectory {trajectory.id} has no failed call to go back from")
    before = [trajectory.prompt, *(span for step in trajectory.steps[:call] for span in step.spans)]
    return backtrack(before, failed, suffix_tokens=suffix_tokens, parent=trajectory.id, call=call)
