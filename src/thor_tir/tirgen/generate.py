"""Algorithm 1 of the paper: one problem -> one raw trajectory that mixes the actor's words with executed programs.

The actor writes a step from the revised context; the critic may turn it into words plus a program; the sandbox runs the
program and its true output stands where the computed result stood; the actor goes on from there.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.fences import CLOSE, OPEN
from thor_tir.engines.protocol import ContextFull, Policy, Sampling
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.rollout import seed_of
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.tirgen.critic import Critic, CriticConfig, Refusal
from thor_tir.trajectory import Action, Author, Finish, Span, Step, StopReason, Thought, Trajectory


@dataclass(frozen=True, kw_only=True)
class TirgenConfig:
    """Limits and sampling of Algorithm 1; defaults are the paper's (section D.1) for a non-reasoning actor."""

    step_tokens: int = 512
    """L_step: the actor hands over to the critic after so many tokens at the latest."""
    step_stop: tuple[str, ...] = ("\n\n",)
    """And at the end of a paragraph."""
    max_tokens: int = 4096
    """Of the whole response."""
    max_steps: int = 64
    temperature: float = 0.6
    top_k: int = 50
    max_repairs: int = 1
    """Further replies asked of the critic when its program fails; then the step stays in words."""
    critic: CriticConfig = field(default_factory=CriticConfig)

    def __post_init__(self) -> None:
        if min(self.step_tokens, self.max_tokens, self.max_steps) < 1 or self.max_repairs < 0:
            raise ValueError(f"limits must be positive, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """Who works on a trajectory."""

    actor: Policy
    dialect: Dialect
    """The actor's."""
    critic: Critic
    sandbox: Sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSample:
    """What one attempt yielded, before any filter."""

    trajectory: Trajectory
    critic: Counter[str]
    """Fate of each step the critic saw: `rewritten`, a refusal's name, or `failed: <status>`."""


@dataclass(slots=True)
class _Growing:
    """The revised context while it grows: `words` are thoughts that no program has followed yet."""

    prompt: Span
    words: Span
    steps: list[Step]

    @property
    def token_ids(self) -> list[int]:
        spans = [self.prompt, *(span for step in self.steps for span in step.spans), self.words]
        return [token for span in spans for token in span.token_ids]


async def generate(problem: Problem, studio: Studio, config: TirgenConfig, *, id: str, seed: int) -> RawSample:
    """One attempt at one problem. Raises SandboxUnavailable and EngineFault; the caller counts and goes on."""
    growing = _Growing(studio.dialect.prompt(problem.question), _words(()), [])
    prompt_length = len(growing.prompt)
    fate: Counter[str] = Counter()
    finish = Finish.TOKEN_LIMIT
    with studio.actor.attend():  # the critic's engine shares the actor's attendance
        for number in range(config.max_steps):
            room = config.max_tokens - (len(growing.token_ids) - prompt_length)
            if room < 1:
                break
            sampling = Sampling(
                max_tokens=min(room, config.step_tokens),
                temperature=config.temperature,
                top_k=config.top_k,
                stop=config.step_stop,
                seed=seed_of(seed, "actor", number),
            )
            try:
                completion = await studio.actor.sample(growing.token_ids, sampling)
            except ContextFull:
                break
            text = studio.dialect.decode(completion.span.token_ids)
            step = await _computed(text, growing.words, studio, config, fate, seed=seed_of(seed, "critic", number))
            if step is not None:
                growing.steps.append(step)
                growing.words = _words(())
                continue
            growing.words = growing.words + completion.span
            if completion.stop is StopReason.END:
                finish = Finish.ENDED
                break
    if len(growing.words):
        text = studio.dialect.decode(growing.words.token_ids)
        growing.steps.append(Step(thought=Thought(text=text, span=growing.words)))
    trajectory = Trajectory(
        id=id, problem_id=problem.id, prompt=growing.prompt, steps=tuple(growing.steps), finish=finish
    )
    return RawSample(trajectory=trajectory, critic=fate)


async def _computed(
    text: str, words: Span, studio: Studio, config: TirgenConfig, fate: Counter[str], *, seed: int
) -> Step | None:
    """The step with its program and true output, or None where it stays in words."""
    for attempt in range(1 + config.max_repairs):
        reply = await studio.critic.rewrite(text, seed=seed_of(seed, attempt))
        if isinstance(reply, Refusal):
            fate[reply.value] += 1
            return None
        result = await studio.sandbox.run(reply.code)
        if result.status is not Status.OK:
            fate[f"failed: {result.status}"] += 1
            continue
        fate["rewritten"] += 1
        thought = words + _words(studio.dialect.encode(reply.logic))
        fenced = f"{OPEN}\n{reply.code}{CLOSE}\n"
        return Step(
            thought=Thought(text=studio.dialect.decode(thought.token_ids), span=thought),
            action=Action(code=reply.code, span=_words(studio.dialect.encode(fenced))),
            observation=studio.dialect.observe(result),
        )
    return None


def _words(token_ids: Sequence[int]) -> Span:
    """Text in the model's voice that no policy of this run sampled."""
    return Span(token_ids=tuple(token_ids), author=Author.MODEL)
