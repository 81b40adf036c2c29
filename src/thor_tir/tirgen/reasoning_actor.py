"""Algorithm 1 for an actor that thinks before it answers: the critic sees windows of its thinking.

A window is what the actor wrote since the critic last rewrote something, up to its last whole line. It may take several
programs, so the critic works on it as in any tool-integrated turn: it writes, each program is run, and it reads the
true output before it writes on. What follows the window's last line is dropped with a rewriting, since it built on the
computed results, and is written again. At the end of thinking, which the engine's stop reason tells, the last window is
rewritten, and from then on the actor is left alone.
"""

from dataclasses import dataclass

from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.seeds import seed_of
from thor_tir.tirgen.critic import FENCES, Critic, IsolatedStep, Refusal, compared, without_program
from thor_tir.tirgen.generate import (
    FAILED,
    REWRITTEN,
    Growing,
    ReplacedText,
    ThinkingConfig,
    TirgenAgents,
    TirgenConfig,
    actor_writes,
    unsampled,
)
from thor_tir.trajectory import Finish, Span, Step, StopReason, Thought, Trajectory


async def think(growing: Growing, agents: TirgenAgents, config: TirgenConfig, seed: int) -> None:
    """Window by window until thinking has ended; then the answer, which no critic sees."""
    rules = config.thinking
    is_thinking = True
    window = unsampled(())
    for number in range(config.max_steps):
        stop = (rules.end, *rules.window_stop) if is_thinking else ()
        most = rules.window_tokens - len(window) if is_thinking else config.max_completion_length
        completion = await actor_writes(growing, agents, config, max(1, most), stop, seed_of(seed, "actor", number))
        if completion is None:
            return
        growing.words = growing.words + completion.span
        if is_thinking:
            window = window + completion.span
            is_step = completion.stop is StopReason.STOP and _is_step(window, agents, rules)
            is_thinking = is_step or completion.stop is StopReason.LENGTH
            if not is_thinking or len(window) >= rules.min_window_tokens:
                is_whole = not is_thinking
                if await _refine(growing, window, agents, config, seed_of(seed, "critic", number), is_whole=is_whole):
                    window = unsampled(())
                    if not is_thinking:
                        continue  # the end of thinking, or of the turn, was dropped with the window's rest
                elif is_step or len(window) >= rules.window_tokens:
                    window = unsampled(())  # it stays without a program; the next one begins after it
        if completion.stop is StopReason.END:
            growing.finish = Finish.ENDED
            return


def _is_step(window: Span, agents: TirgenAgents, rules: ThinkingConfig) -> bool:
    """True where a window ended at a string of `window_stop`: the only other stop string ends thinking."""
    return bool(rules.window_stop) and rules.end not in agents.dialect.decode(window.token_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """The part of the words that the critic sees."""

    before: Span
    """Words that stay as they are."""
    seen: Span
    """Tokens that the critic sees."""


async def _refine(
    growing: Growing, window: Span, agents: TirgenAgents, config: TirgenConfig, seed: int, *, is_whole: bool
) -> bool:
    """Put the window's rewriting into the context; False where it stays as it was.

    `is_whole` says that its last line is, since thinking has ended with it.
    """
    found = _cut(growing.words, window, agents, config, is_whole=is_whole)
    if not len(found.seen):
        return False
    isolated = IsolatedStep.of(found.seen, agents.dialect)
    for attempt in range(1 + config.max_repairs):
        draft = await _rewritten(isolated, agents, config, seed=seed_of(seed, attempt))
        verdict = _judged(draft, isolated, agents.critic, growing) if isinstance(draft, Trajectory) else draft
        if isinstance(verdict, Refusal):
            growing.fate[verdict.value] += 1
            return False
        if isinstance(draft, Trajectory) and (failed := next((s for s in draft.calls if not s.succeeded), None)):
            assert failed.observation is not None
            growing.fate[FAILED[failed.observation.result.status]] += 1
            continue
        assert isinstance(draft, Trajectory)
        first, *others = draft.calls
        begun = isolated.begun_with(first.thought.text)
        steps = [
            _in_actors_tokens(first, begun, agents, before=found.before),
            *(_in_actors_tokens(s, isolated.broken_alike(s.thought.text).rstrip() + "\n", agents) for s in others),
        ]
        growing.fate[REWRITTEN] += 1
        growing.replaced.append(ReplacedText(step=len(growing.steps), num_steps=len(steps), text=isolated.text))
        growing.steps += steps
        left = "".join(step.thought.text for step in draft.steps if step.action is None)
        rest = isolated.broken_alike(left).rstrip()
        growing.words = unsampled(agents.dialect.encode(f"{rest}\n")) if rest else unsampled(())
        return True
    return False


def _cut(words: Span, window: Span, agents: TirgenAgents, config: TirgenConfig, *, is_whole: bool) -> _Window:
    """Whole lines of the window, without the tags around thinking."""
    dialect, rules = agents.dialect, config.thinking
    start = len(words) - len(window)
    text = dialect.decode(window.token_ids)
    head = text.find(rules.begin) + len(rules.begin) if rules.begin and text.lstrip().startswith(rules.begin) else 0
    head += len(text) - head - len(text[head:].lstrip()) if head else 0  # a line break after the tag is the tag's
    tail = len(text.removesuffix(rules.end)) if is_whole else text.rfind("\n") + 1 or len(text)
    first, last = dialect.tokens_before(window.token_ids, head), dialect.tokens_before(window.token_ids, tail)
    return _Window(before=words[: start + first], seen=words[start + first : start + max(first, last)])


async def _rewritten(
    step: IsolatedStep, agents: TirgenAgents, config: TirgenConfig, *, seed: int
) -> Trajectory | Refusal:
    """The critic's own tool-integrated turn about the window."""
    critic = agents.critic
    rules = RolloutConfig(
        max_completion_length=critic.config.max_tokens + 2 * config.thinking.window_tokens,
        max_tool_calling_iterations=config.thinking.max_calls,
        temperature=critic.config.temperature,
        top_k=critic.config.top_k,
        stop_at_failure=True,
        fences=FENCES,
        at_call_limit="stop",  # a window of more programs is refused: none of them would be left unrun
    )
    draft = Draft(id="critic", problem_id="window", prompt=critic.prompt(step), seed=seed)
    agent = Agent(policy=critic.policy, sandbox=agents.sandbox, dialect=critic.dialect, tools=agents.tools)
    written = await rollout(draft, agent, rules)
    return written if written.steps else Refusal.STEP_TOO_LONG


def _judged(draft: Trajectory, step: IsolatedStep, critic: Critic, growing: Growing) -> Refusal | None:
    """The reason why a rewriting may not stand, apart from programs that fail; None where it may."""
    if draft.finish is Finish.FAILED_CALL:
        return None
    if not draft.calls:
        is_cut = draft.finish is not Finish.ENDED
        return without_program(draft.response_text, StopReason.LENGTH if is_cut else StopReason.END)
    if draft.finish is not Finish.ENDED:
        return Refusal.TRUNCATED
    words = compared(step, [each.thought.text for each in draft.steps])
    growing.kept.append(words.kept)
    return words.refusal(critic.config)


def _in_actors_tokens(step: Step, words: str, agents: TirgenAgents, *, before: Span | None = None) -> Step:
    """A step of the critic's turn as it stands in the actor's context: its `words` follow those `before` the window."""
    assert step.action is not None
    assert step.observation is not None
    dialect = agents.dialect
    span = (before or unsampled(())) + unsampled(dialect.encode(words))
    action = dialect.call(step.action.code, step.action.tool)
    return Step(
        thought=Thought(text=words if before is None else dialect.decode(span.token_ids), span=span),
        action=action,
        observation=dialect.observe(step.observation.result, after=action),
    )
