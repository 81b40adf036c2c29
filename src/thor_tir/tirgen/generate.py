"""Algorithm 1 of the paper: one problem -> one raw trajectory that mixes the actor's words with executed programs.

The actor writes a step from the revised context; the critic may turn it into words plus a program; the sandbox runs the
program and its true output stands where the computed result stood; the actor goes on from there. This file holds the
form of an actor that answers at once (short chains of thought); `thinking.py` that of one that thinks first.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from time import perf_counter

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.protocol import ContextFull, Policy, Sampling
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.rollout.toolbox import Toolbox, ToolRunner
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.seeds import seed_of
from thor_tir.tirgen.critic import Critic, CriticConfig, IsolatedStep, Refusal
from thor_tir.trajectory import Author, Completion, Finish, Span, Step, StopReason, Thought, Trajectory


@dataclass(frozen=True, kw_only=True)
class ThinkingConfig:
    """The form of an actor that thinks before it answers; defaults are the paper's and its code's for a 8B model."""

    window_tokens: int = 4096
    """Tokens that the actor writes at most before the critic sees them (the paper's L_step)."""
    min_window_tokens: int = 2048
    """Shorter pieces are not worth the critic's time, unless thinking has ended with them."""
    window_stop: tuple[str, ...] = ()
    """Strings that end a window as well, such as a blank line for a small critic, which rewrites one step at a time."""
    max_calls: int = 5
    """Programs the critic may put into one window."""
    begin: str = "<think>"
    """Begins thinking, where the chat template has not begun it."""
    end: str = "</think>"
    """Ends thinking, and with it what the critic sees."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_window_tokens <= self.window_tokens or self.max_calls < 1 or not self.end:
            raise ValueError(f"1 <= min_window_tokens <= window_tokens, a call and an end are needed, found {self}")


@dataclass(frozen=True, kw_only=True)
class TirgenConfig:
    """Limits and sampling of Algorithm 1; defaults are the paper's (section D.1) for a non-reasoning actor."""

    step_tokens: int = 512
    """Tokens after which the actor hands over to the critic at the latest (the paper's L_step)."""
    step_stop: tuple[str, ...] = ("\n\n",)
    """And at the end of a paragraph."""
    max_completion_length: int = 4096
    """Maximum response length in tokens; a reasoning actor needs 20,000 or so."""
    max_steps: int = 64
    """Most steps of a trajectory."""
    temperature: float = 0.6
    """Divisor of the actor's logits."""
    top_k: int = 50
    """Number of most likely tokens that the actor chooses among; 0 for all."""
    max_repairs: int = 1
    """Further replies asked of the critic when its program fails; then the step stays without a program."""
    critic: CriticConfig = field(default_factory=CriticConfig)
    """Options of the critic."""
    thinking: ThinkingConfig = field(default_factory=ThinkingConfig)
    """Options for a reasoning actor, whose steps are windows of its thinking."""

    def __post_init__(self) -> None:
        if min(self.step_tokens, self.max_completion_length, self.max_steps) < 1 or self.max_repairs < 0:
            raise ValueError(f"limits must be positive, found {self}")


REWRITTEN = "rewritten"
"""Fate of a step that has its program; a step without one has a `Refusal` or one of `FAILED`."""
FAILED: Mapping[Status, str] = {status: f"failed: {status}" for status in Status}
"""Fate of a step whose program failed, by the status of its end."""


class Role(StrEnum):
    """Models that make a trajectory."""

    ACTOR = "actor"
    CRITIC = "critic"


@dataclass(frozen=True, slots=True)
class Spent:
    """Completions and tokens that models were asked for, by role."""

    calls: Counter[Role] = field(default_factory=Counter)
    """Number of completions."""
    tokens: Counter[Role] = field(default_factory=Counter)
    """Number of tokens sampled, as the server counts them where there is one."""

    def add(self, other: "Spent") -> None:
        """Count what another has spent, too."""
        self.calls.update(other.calls)
        self.tokens.update(other.tokens)

    def to_json(self) -> dict[str, int]:
        """The costs as rows hold them: `actor calls`, `actor tokens` and so on, for each role that was asked."""
        return {
            name: count
            for role in Role
            if self.calls[role]
            for name, count in ((_CALLS[role], self.calls[role]), (_TOKENS[role], self.tokens[role]))
        }

    @classmethod
    def from_json(cls, row: Mapping[str, int]) -> "Spent":
        """The costs in a row; nothing for a role that it does not name."""
        calls, tokens = (Counter({role: row.get(names[role], 0) for role in Role}) for names in (_CALLS, _TOKENS))
        return cls(calls=calls, tokens=tokens)


_CALLS = {role: f"{role} calls" for role in Role}
_TOKENS = {role: f"{role} tokens" for role in Role}


@dataclass(slots=True, eq=False)
class Metered:
    """A policy that notes what one attempt asks of it."""

    policy: Policy
    """Policy that is asked."""
    role: Role
    """Role under which the cost is noted."""
    spent: Spent
    """Place where it is noted."""

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Sample as the policy does, and note the cost."""
        completion = await self.policy.sample(token_ids, sampling)
        count = len(completion.span) if completion.num_tokens is None else completion.num_tokens
        self.spent.calls[self.role] += 1
        self.spent.tokens[self.role] += count
        return completion

    def attend(self) -> AbstractContextManager[None]:
        """Attend as the policy does."""
        return self.policy.attend()


@dataclass(frozen=True, slots=True, kw_only=True)
class TirgenAgents:
    """Models and tools that work on a trajectory."""

    actor: Policy
    """Model that reasons."""
    dialect: Dialect
    """Conventions of the actor."""
    critic: Critic
    """Model that turns steps into programs."""
    sandbox: Sandbox
    """Place where programs run."""
    tools: ToolRunner = field(default_factory=Toolbox)
    """Runner of calls: of programs in the sandbox, and of the tools beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplacedText:
    """The actor's words that a rewriting stands for: nothing reads them but people."""

    step: int
    """Number of the first step of the rewriting, counted from 0."""
    num_steps: int
    """Steps of the rewriting."""
    text: str
    """Words of the actor, its own results among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """The yield of one attempt, before any filter."""

    trajectory: Trajectory
    """Trajectory that was made."""
    critic: Counter[str]
    """Fates of the steps that the critic saw, counted: REWRITTEN, those of `Refusal`, and those of FAILED."""
    kept: tuple[float, ...] = ()
    """Share of words that are the step's own, for each reply with a program."""
    replaced: tuple[ReplacedText, ...] = ()
    """Words that rewritings stand for, in the order of the steps."""
    spent: Spent = field(default_factory=Spent)
    """Calls and tokens of actor and critic."""
    seconds: float = 0.0
    """Duration of the attempt in seconds."""


@dataclass(slots=True, kw_only=True)
class Growing:
    """The revised context while it grows: `words` are thoughts that no program has followed yet."""

    prompt: Span
    """Tokens of the prompt."""
    words: Span
    """Thoughts that no program has followed yet."""
    steps: list[Step] = field(default_factory=list)
    """Steps that are complete."""
    fate: Counter[str] = field(default_factory=Counter)
    """Fates of the steps that the critic saw, counted."""
    kept: list[float] = field(default_factory=list)
    """Share of words that are the step's own, for each reply with a program."""
    replaced: list[ReplacedText] = field(default_factory=list)
    """Words that rewritings stand for, in the order of the steps."""
    finish: Finish = Finish.TOKEN_LIMIT
    """Way in which the trajectory ended."""

    @property
    def token_ids(self) -> list[int]:
        """The context as the actor reads it."""
        spans = [self.prompt, *(span for step in self.steps for span in step.spans), self.words]
        return [token for span in spans for token in span.token_ids]

    def room(self, max_tokens: int) -> int:
        """Tokens that the response may still have."""
        return max_tokens - (len(self.token_ids) - len(self.prompt))


StepForm = Callable[[Growing, TirgenAgents, TirgenConfig, int], Awaitable[None]]
"""A way in which a trajectory grows from a seed: in steps, or in windows of thinking."""


async def generate(
    problem: Problem, agents: TirgenAgents, config: TirgenConfig, *, id: str, seed: int, form: StepForm | None = None
) -> RawSample:
    """One attempt at one problem; `form` is `reason` or, for an actor that thinks first, `think`.

    Raises SandboxUnavailable, EngineFault and RequestFault; the caller counts.
    """
    spent = Spent()
    began = perf_counter()
    metered = replace(
        agents,
        actor=Metered(agents.actor, Role.ACTOR, spent),
        critic=replace(agents.critic, policy=Metered(agents.critic.policy, Role.CRITIC, spent)),
    )
    growing = Growing(prompt=agents.dialect.prompt(problem.question, problem.system), words=unsampled(()))
    with agents.actor.attend():  # the critic's engine shares the actor's barrier
        await (form or reason)(growing, metered, config, seed)
    if len(growing.words):
        text = agents.dialect.decode(growing.words.token_ids)
        growing.steps.append(Step(thought=Thought(text=text, span=growing.words)))
    trajectory = Trajectory(
        id=id, problem_id=problem.id, prompt=growing.prompt, steps=tuple(growing.steps), finish=growing.finish
    )
    return RawSample(
        trajectory=trajectory,
        critic=growing.fate,
        kept=tuple(growing.kept),
        replaced=tuple(growing.replaced),
        spent=spent,
        seconds=perf_counter() - began,
    )


async def reason(growing: Growing, agents: TirgenAgents, config: TirgenConfig, seed: int) -> None:
    """Step by step, each at most `step_tokens` long, until the actor ends its turn."""
    for number in range(config.max_steps):
        completion = await actor_writes(
            growing, agents, config, config.step_tokens, config.step_stop, seed_of(seed, "actor", number)
        )
        if completion is None:
            return
        step = await _computed(completion, growing, agents, config, seed=seed_of(seed, "critic", number))
        if step is not None:
            growing.steps.append(step)
            growing.words = unsampled(())
            continue
        growing.words = growing.words + completion.span
        if completion.stop is StopReason.END:
            growing.finish = Finish.ENDED
            return


async def actor_writes(
    growing: Growing, agents: TirgenAgents, config: TirgenConfig, most: int, stop: tuple[str, ...], seed: int
) -> Completion | None:
    """The actor's next words from the revised context; None where there is no room for them."""
    room = growing.room(config.max_completion_length)
    if room < 1:
        return None
    sampling = Sampling(
        max_tokens=min(room, most), temperature=config.temperature, top_k=config.top_k, stop=stop, seed=seed
    )
    try:
        return await agents.actor.sample(growing.token_ids, sampling)
    except ContextFull:
        return None


async def _computed(
    completion: Completion, growing: Growing, agents: TirgenAgents, config: TirgenConfig, *, seed: int
) -> Step | None:
    """The step with its program and true output, or None where it stays without a program."""
    if not len(completion.span):
        return None
    isolated = IsolatedStep.of(completion.span, agents.dialect)
    for attempt in range(1 + config.max_repairs):
        reply = await agents.critic.rewrite(isolated, seed=seed_of(seed, attempt))
        if reply.kept is not None:
            growing.kept.append(reply.kept)
        if isinstance(reply.verdict, Refusal):
            growing.fate[reply.verdict.value] += 1
            return None
        action = agents.dialect.call(reply.verdict.code, reply.verdict.tool)
        result = await agents.tools.run(action, agents.sandbox, growing.steps)
        if not result.succeeds():
            growing.fate[FAILED[result.status]] += 1
            continue
        growing.fate[REWRITTEN] += 1
        growing.replaced.append(ReplacedText(step=len(growing.steps), num_steps=1, text=isolated.text))
        thought = growing.words + unsampled(agents.dialect.encode(reply.verdict.logic))
        return Step(
            thought=Thought(text=agents.dialect.decode(thought.token_ids), span=thought),
            action=action,
            observation=agents.dialect.observe(result, after=action),
        )
    return None


def unsampled(token_ids: Sequence[int]) -> Span:
    """Text in the model's voice that no policy of this run sampled."""
    return Span(token_ids=tuple(token_ids), author=Author.MODEL)
