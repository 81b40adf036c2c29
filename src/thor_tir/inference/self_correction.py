"""Self-correction: what becomes of a failed call at inference (paper, section 2.4 and Table 5).

A scope says what is written again, up to N_corr times; the error message is discarded with the call, as in the paper,
unless a hint is asked for. If no attempt succeeds, the first failed step stays with its observation and the model goes
on from it, or the call is dropped. Under `recover` nothing is ever taken back, as where words are read at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import takewhile
from typing import Literal, cast

from thor_tir.rollout.backtrack import BY_ERROR, CUTS, Cut, backtrack, by_error
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, StepRepair, take_step
from thor_tir.trajectory import Span, Step, Thought, Trajectory, with_discarded

Scope = Literal["none", "action", "suffix", "replan", "by-error", "recover"]
AfterAll = Literal["keep", "drop"]


@dataclass(frozen=True, kw_only=True)
class SelfCorrectionConfig:
    """The part that is written again after a failed call, how often, and the policy after the last failure."""

    scope: Scope = "suffix"
    """Part that is written again: the `action` alone, also the last --suffix-tokens of its thought (`suffix`, the
    paper's), the whole thought (`replan`), or one of these `by-error`; `recover` takes nothing back: the error is read
    and the model goes on, at no cost of calls; `none` leaves failed calls as any other call."""
    max_attempts: int = 4
    """Repairs of one failed call at most (the paper's N_corr)."""
    max_per_attempt: int = 0
    """Most repairs in one attempt at a problem, all its failed calls together; 0 for no such limit."""
    suffix_tokens: int = 100
    """Tokens at the end of the failing thought that are written again (the paper's L_suf, section D.3: 100 for
    non-reasoning, 500 for reasoning models)."""
    by_error: tuple[str, ...] = ()
    """Changes to the table of `by-error`, such as ValueError=replan timeout=action other=suffix: exception or status,
    and what is written again (docs/self_correction.md shows the table)."""
    whole_words: bool = False
    """True moves a cut that would fall inside a word or a number to the front of it."""
    hint: bool = False
    """True lets a retry read the error, in a line before the thought that it continues; the line is no part of what is
    kept."""
    temperature: float | None = None
    """Temperature of retries; by default that of the attempt."""
    stop_at_repeat: bool = False
    """True ends the retries of a call at the first that is the same program as one before."""
    after_all: AfterAll = "keep"
    """After the last failure: `keep` the first failed call with its error, or `drop` it: the context goes back to the
    cut, the model goes on from there, and the call counts as made."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or min(self.suffix_tokens, self.max_per_attempt) < 0:
            raise ValueError(f"at least one attempt and no negative suffix or limit, found {self}")
        if self.temperature is not None and self.temperature < 0:
            raise ValueError(f"--correction.temperature is {self.temperature}; it is 0 or larger")
        if self.scope in ("none", "recover") and (self.hint or self.stop_at_repeat or self.after_all != "keep"):
            raise ValueError(f"scope {self.scope} writes no call again, so there is no hint, no repeat and no drop")
        if self.by_error and self.scope != "by-error":
            raise ValueError("--correction.by-error changes the table of --correction.scope by-error; give both")
        self.table()

    def under(self, scope: Scope) -> "SelfCorrectionConfig":
        """The same under another scope, without the options that it has no use for."""
        options = self if scope == "by-error" else replace(self, by_error=())
        if scope in ("none", "recover"):
            options = replace(options, hint=False, stop_at_repeat=False, after_all="keep")
        return replace(options, scope=scope)

    def table(self) -> Mapping[str, Cut]:
        """Cuts by the kind of failure, this run's changes included. Raises ValueError for a change that is none."""
        changed = {}
        for change in self.by_error:
            kind, _, cut = change.partition("=")
            if not kind or cut not in CUTS or cut == "by-error":
                raise ValueError(f"--correction.by-error takes KIND=action, =suffix or =replan, found {change!r}")
            changed[kind] = cast(Cut, cut)
        return {**BY_ERROR, **changed}

    def cut_tokens(self, failed: Step) -> int:
        """Tokens of the failed step's thought that are written again."""
        if self.scope == "by-error":
            return by_error(failed, self.suffix_tokens, self.table())
        return CUTS[cast(Cut, self.scope)](failed, self.suffix_tokens)

    def attempts_left(self, num_used: int) -> int:
        """Attempts at one more failed call of an attempt that has used up so many."""
        return (
            self.max_attempts if not self.max_per_attempt else min(self.max_attempts, self.max_per_attempt - num_used)
        )


def self_correction(agent: Agent, rollout: RolloutConfig, config: SelfCorrectionConfig) -> StepRepair | None:
    """The repair that `rollout` calls after a failed call; None where failed calls are left alone."""
    if config.scope == "none":
        return None
    if config.scope == "recover":
        return _recovery(rollout, config)
    return _repair(agent, rollout, config)


def _repair(agent: Agent, rollout: RolloutConfig, config: SelfCorrectionConfig) -> StepRepair:
    retried = rollout if config.temperature is None else replace(rollout, temperature=config.temperature)
    decode = agent.dialect.decode if config.whole_words else None

    async def repair(draft: Draft, failed: Step) -> Step:
        cut, number = config.cut_tokens(failed), len(draft.steps)
        prefix = backtrack(draft.spans, failed, suffix_tokens=cut, parent=draft.id, call=number, decode=decode)
        before, kept = prefix.spans[:-1], prefix.spans[-1]
        room = max(1, rollout.max_completion_length - draft.num_response_tokens - len(kept))
        versions = [failed]
        for _ in range(config.attempts_left(sum(map(num_retries, draft.steps)))):
            hint = _hint(versions, agent) if config.hint else ()
            taken = await take_step(
                agent,
                (*(token for span in before for token in span.token_ids), *hint, *kept.token_ids),
                retried,
                room,
                may_call=True,
                seed=draft.next_seed(),
                kept=(*draft.open_thought, *kept.token_ids),
                earlier=draft.steps,
            )
            step = _without_logprobs(taken.step) if config.hint else taken.step
            if step.succeeds(rollout.call_success):
                return with_discarded(joined(kept, step, agent), (_cut(failed, kept, agent), *versions[1:]))
            versions.append(step)
            if config.stop_at_repeat and num_repeats(versions):
                break
        if config.after_all == "drop":
            return Step(thought=_thought(kept, agent), discarded=(_cut(failed, kept, agent), *versions[1:]))
        return with_discarded(failed, tuple(versions[1:]))

    return repair


def _recovery(rollout: RolloutConfig, config: SelfCorrectionConfig) -> StepRepair:
    """The failed call stays, and costs no call while it is one of the first N_corr in a row."""

    async def forgive(draft: Draft, failed: Step) -> Step:
        in_a_row = len(list(takewhile(lambda step: step.fails(rollout.call_success), reversed(draft.steps))))
        if in_a_row < config.attempts_left(draft.num_forgiven):
            draft.num_forgiven += 1
        return failed

    return forgive


def joined(kept: Span, suffix: Step, agent: Agent) -> Step:
    """The regenerated step with its kept prefix in front: the step as the context now holds it."""
    return replace(suffix, thought=_thought(kept + suffix.thought.span, agent))


def _cut(failed: Step, kept: Span, agent: Agent) -> Step:
    """The part of the failed step that was thrown away."""
    return replace(failed, thought=_thought(failed.thought.span[len(kept) :], agent))


def _thought(span: Span, agent: Agent) -> Thought:
    return Thought(text=agent.dialect.decode(span.token_ids), span=span)


def _hint(versions: Sequence[Step], agent: Agent) -> tuple[int, ...]:
    """A line in the environment's voice about the newest failed call; read by one retry, and kept nowhere."""
    seen = next(step.observation for step in reversed(versions) if step.observation is not None)
    return agent.dialect.encode_foreign(f"[a program written here failed: {seen.text.strip()}]\n")


def _without_logprobs(step: Step) -> Step:
    """The step without log-probabilities, which were those behind a hint that the context does not hold."""
    thought = replace(step.thought, span=replace(step.thought.span, logprobs=None))
    if step.action is None:
        return replace(step, thought=thought)
    return replace(step, thought=thought, action=replace(step.action, span=replace(step.action.span, logprobs=None)))


# ---- what it cost


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairCost:
    """Outcome of the failed calls of one trajectory or of several, and the cost of their repair."""

    failed: int = 0
    """Calls that failed when they were first written."""
    repaired: int = 0
    """Those that a retry replaced by a call that succeeds."""
    recovered: int = 0
    """Those that stayed with their error, and after which a later call succeeded."""
    dropped: int = 0
    """Those that were taken out of the context."""
    retries: int = 0
    """Attempts at writing a failed call again."""
    repeats: int = 0
    """Retries whose program is that of the failed call or of an earlier retry."""
    discarded_calls: int = 0
    """Programs that were run and do not stand in the context."""
    discarded_tokens: int = 0
    """Tokens that were sampled and do not stand in the context."""
    discarded_s: float = 0.0
    """Seconds for which those programs ran."""

    def __add__(self, other: "RepairCost") -> "RepairCost":
        return RepairCost(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


def repair_cost(trajectory: Trajectory) -> RepairCost:
    """The cost of one trajectory, read off its steps."""
    steps, calls = trajectory.steps, trajectory.calls
    last = max((place for place, step in enumerate(calls) if step.succeeded), default=-1)
    lost = [old for step in steps for old in step.discarded]
    results = [old.observation.result for old in lost if old.observation is not None]
    repaired = sum(step.succeeded and bool(step.discarded) for step in steps)
    dropped = sum(step.is_dropped for step in steps)
    return RepairCost(
        failed=sum(step.failed for step in calls) + repaired + dropped,
        repaired=repaired,
        recovered=sum(step.failed for step in calls[:last]) if last > 0 else 0,
        dropped=dropped,
        retries=sum(map(num_retries, steps)),
        repeats=sum(num_repeats([step, *step.discarded]) for step in steps),
        discarded_calls=len(results),
        discarded_tokens=sum(old.num_sampled for old in lost),
        discarded_s=sum((result.seconds for result in results), 0.0),
    )


def num_retries(step: Step) -> int:
    """Attempts at writing a step's failed call again; the failed call itself is a discarded version if it is gone."""
    return max(0, len(step.discarded) - step.is_dropped)


def num_repeats(versions: Sequence[Step]) -> int:
    """Versions whose program is that of another version."""
    programs = [(step.action.tool, step.action.code) for step in versions if step.action is not None]
    return len(programs) - len(set(programs))
