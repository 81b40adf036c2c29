"""One problem -> one trajectory: think, act, observe. The only agent loop of the package.

TIRGen, both levels of RL, self-correction and evaluation run through `take_step`. Batching is the engine's business,
concurrency of programs the sandbox's. Faults of either are exceptions and pass through; faults of the model are data.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.fences import FenceReading
from thor_tir.engines.protocol import ContextFull, Policy, Sampling
from thor_tir.execution import NO_CALL_LEFT, CallSuccess
from thor_tir.rollout.toolbox import Toolbox, ToolRunner
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.seeds import seed_of
from thor_tir.trajectory import (
    Author,
    Completion,
    Finish,
    Span,
    Step,
    StopReason,
    Thought,
    Trajectory,
    dated,
    with_versions,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The surroundings of a trajectory."""

    policy: Policy
    """Model that is sampled from."""
    sandbox: Sandbox
    """Place where programs run."""
    dialect: Dialect
    """Conventions by which text becomes tokens."""
    tools: ToolRunner = field(default_factory=Toolbox)
    """Runner of calls: of programs in the sandbox, and of the tools beside it."""


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Limits and sampling of one trajectory. RL keeps top_p and top_k off: they would bias the probability ratio."""

    max_completion_length: int = 4096
    """Maximum response length in tokens, observations included."""
    max_tool_calling_iterations: int = 5
    """Tool calls that stand in the context; discarded repairs are counted apart."""
    temperature: float = 1.0
    """Divisor of the logits; 0 takes the most likely token."""
    top_p: float = 1.0
    """Share of probability that the kept tokens reach at least; 1 keeps all."""
    top_k: int = 0
    """Number of most likely tokens that are kept; 0 keeps all."""
    stop_at_failure: bool = False
    """End the trajectory at its first failed call, as the paper's training rollouts do (specification, 5.3)."""
    call_success: CallSuccess = "printed"
    """Calls that count as successes: those that ran and `printed` something (released code), or all that `ran` to
    their end. A failed call ends a trajectory, is repaired, and leaves the episode level where a run asks for that."""
    at_call_limit: Literal["notice", "stop"] = "notice"
    """Reply to a program that is written when no call is left: `notice` does not run it, says so, and lets the model
    answer; `stop` ends the attempt there, without an answer."""
    fences: FenceReading = "blanks"
    """Lines that are read as a program's fences: `exact` takes ```python and ``` alone, `blanks` also with blanks
    behind them, `lenient` also ```py, ~~~ and indented ones. Programs that were written and not read are counted."""

    def __post_init__(self) -> None:
        if self.max_completion_length < 1 or self.max_tool_calling_iterations < 0:
            raise ValueError(f"at least one token and no negative number of calls, found {self}")
        self.sampling(self.max_completion_length)

    def sampling(self, max_tokens: int, *, stop: tuple[str, ...] = (), seed: int = 0) -> Sampling:
        """Options of drawing one completion. Raises ValueError for what no engine can draw."""
        return Sampling(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=stop,
            seed=seed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One turn, and the finish of the trajectory where it ends with it."""

    step: Step
    """Thought, call and observation of the turn."""
    finish: Finish | None
    """None where the model may go on."""
    policy_version: int
    """Version of the weights that sampled it."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """A trajectory while it grows."""

    id: str
    """Id of the trajectory."""
    problem_id: str
    """Id of its problem."""
    prompt: Span
    """Tokens of the prompt."""
    seed: int
    """Every sample of this trajectory is seeded from it and from how often it has sampled before."""
    steps: list[Step] = field(default_factory=list)
    """Steps so far."""
    policy_version: int = 0
    """Version of the weights that sampled the last step."""
    num_taken: int = 0
    """Number of samples drawn so far."""
    num_forgiven: int = 0
    """Failed calls that stand in the context and cost none of its calls."""

    @property
    def spans(self) -> list[Span]:
        """The context so far."""
        return [self.prompt, *(span for step in self.steps for span in step.spans)]

    @property
    def token_ids(self) -> list[int]:
        """The context so far, as the engine reads it."""
        return [token for span in self.spans for token in span.token_ids]

    @property
    def num_response_tokens(self) -> int:
        """Tokens after the prompt."""
        return sum(len(span) for step in self.steps for span in step.spans)

    @property
    def num_calls(self) -> int:
        """Calls that have been used up."""
        return sum(step.is_call or step.is_dropped for step in self.steps) - self.num_forgiven

    @property
    def open_thought(self) -> tuple[int, ...]:
        """Tokens of the thought that the context ends with, where the call behind it was dropped."""
        ids: tuple[int, ...] = ()
        for step in reversed(self.steps):
            if step.action is not None:
                break
            ids = step.thought.span.token_ids + ids
        return ids

    def renew(self, version: int) -> None:
        """The weights were renewed: what stands so far says from now on which ones sampled it."""
        if version != self.policy_version:
            self.steps = [dated(step, self.policy_version) for step in self.steps]
            self.policy_version = version

    def next_seed(self) -> int:
        """A fresh seed for the next sample of this trajectory."""
        self.num_taken += 1
        return seed_of(self.seed, self.num_taken)

    def freeze(self, finish: Finish) -> Trajectory:
        """The finished record."""
        return Trajectory(
            id=self.id,
            problem_id=self.problem_id,
            prompt=self.prompt,
            steps=tuple(self.steps),
            finish=finish,
            policy_version=self.policy_version,
        )


StepRepair = Callable[[Draft, Step], Awaitable[Step]]
"""Given the draft before a failed step and that step: the step that shall stand in its place (see `inference/`)."""


async def rollout(draft: Draft, agent: Agent, config: RolloutConfig, repair: StepRepair | None = None) -> Trajectory:
    """Grow a draft until the model ends its turn or a limit is reached.

    Raises SandboxUnavailable and EngineFault: the caller drops the trajectory and counts it.
    """
    with agent.policy.attend():
        while (room := config.max_completion_length - draft.num_response_tokens) > 0:
            may_call = draft.num_calls < config.max_tool_calling_iterations
            taken = await take_step(
                agent,
                draft.token_ids,
                config,
                room,
                may_call=may_call,
                seed=draft.next_seed(),
                kept=draft.open_thought,
                earlier=draft.steps,
            )
            if not any(map(len, taken.step.spans)):  # the context was full already
                break
            step = taken.step
            if repair is not None and step.fails(config.call_success):
                step = await repair(draft, step)
            draft.renew(taken.policy_version)
            draft.steps.append(step)
            if taken.finish is not None:
                return draft.freeze(taken.finish)
            if config.stop_at_failure and step.fails(config.call_success):
                return draft.freeze(Finish.FAILED_CALL)
    return draft.freeze(Finish.TOKEN_LIMIT)


async def take_step(
    agent: Agent,
    context: Sequence[int],
    config: RolloutConfig,
    room: int,
    *,
    may_call: bool,
    seed: int,
    kept: Sequence[int] = (),
    earlier: Sequence[Step] = (),
) -> Turn:
    """One turn from a context of token ids, in at most `room` tokens: a thought, and the call that it makes, if any.

    Where no call may be made, a program is answered by the notice that none is left, unless the run stops there.
    `kept` are the last ids of `context` that belong to the same thought (after a backtrack): a fence must begin a line
    of the whole thought, not just of what is new. `earlier` are the steps in `context`, whose programs may be in
    force. A context that is full ends the turn as any limit does, with the
    tokens that it has, or with none.
    """
    dialect = agent.dialect
    stop = dialect.stops(config.fences)
    span = Span(token_ids=(), author=Author.MODEL, logprobs=())
    completion = Completion(span=span, stop=StopReason.STOP)
    thought, action = Thought(text="", span=span), None
    versions: list[int] = []
    # A stop string that closes no program (some other fenced text) ends nothing: the thought goes on.
    while action is None and completion.stop is StopReason.STOP and len(span) < room:
        sampling = config.sampling(room - len(span), stop=stop, seed=seed_of(seed, len(span)))
        try:
            completion = await agent.policy.sample([*context, *span.token_ids], sampling)
        except ContextFull:
            break
        span = span + completion.span
        versions += completion.versions or [completion.policy_version] * len(completion.span)
        has_ended = completion.stop is StopReason.END
        thought, action = dialect.split(span, config.fences, kept=kept, has_ended=has_ended)
    version = completion.policy_version
    stops_here = not may_call and config.at_call_limit == "stop"
    if action is None or stops_here:
        finish = Finish.ENDED if completion.stop is StopReason.END else Finish.TOKEN_LIMIT
        whole = _as_sampled(Step(thought=Thought(text=dialect.decode(span.token_ids), span=span)), versions)
        return Turn(step=whole, finish=finish if action is None else Finish.CALL_LIMIT, policy_version=version)
    result = await agent.tools.run(action, agent.sandbox, earlier) if may_call else NO_CALL_LEFT
    step = Step(thought=thought, action=action, observation=dialect.observe(result, after=action))
    return Turn(step=_as_sampled(step, versions), finish=None, policy_version=version)


def _as_sampled(step: Step, versions: Sequence[int]) -> Step:
    """The step, with the version behind each token where there was more than one."""
    return with_versions(step, versions) if len(set(versions)) > 1 else step
