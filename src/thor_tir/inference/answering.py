"""One question -> one answer that is listened to: what `thor solve`, `thor chat` and `thor serve` share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from thor_tir.dialect.dialect import Dialect, Thinking, thinking_of, unless_cut_short
from thor_tir.dialect.prompts import conversation_messages
from thor_tir.engines.protocol import ContextFull
from thor_tir.grading.extract import extract_answer
from thor_tir.inference.asking import Chooser
from thor_tir.inference.best_of_n import Choice
from thor_tir.inference.opinions import Opinion
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.pretrained import ChatTurn
from thor_tir.problem import Problem
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.rollout.overheard import Event, Overheard
from thor_tir.rollout.sample_many import Attempt, in_parallel, written_text
from thor_tir.seeds import seed_of
from thor_tir.trajectory import Span
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptLimits:
    """Sampling of an attempt, and repair of its failed calls."""

    rollout: RolloutConfig
    """Limits and sampling."""
    correction: SelfCorrectionConfig | None
    """Repair of failed calls; None leaves failures as they are."""
    attempts: int = 1
    """Number of attempts at one question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPrompt:
    """A conversation as the model reads it."""

    prompt: Span
    """Tokens of all turns."""
    question: str
    """Text of the last turn, for selectors that ask about its answers."""


def asked_prompt(dialect: Dialect, turns: Sequence[ChatTurn]) -> AskedPrompt:
    """The prompt that asks the last of some turns. Raises TemplateFault where the model's template refuses them."""
    return AskedPrompt(
        prompt=dialect.chat(conversation_messages(dialect.config.style, turns)), question=str(turns[-1]["content"])
    )


def unheard(_: Any) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ears:
    """Those who listen to an answer while it is made."""

    hear: Callable[[Event], None] = unheard
    """Called with the events of the answer: of a single attempt at once, of one among several when it is chosen."""
    note: Callable[[Event], None] = unheard
    """Called with every event of all attempts."""
    done: Callable[[Attempt], None] = unheard
    """Called with each of several attempts as it ends."""
    is_live: bool = False
    """True where text is wanted as it is sampled; a single attempt alone can give it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The attempts at one question, and the one that is the answer."""

    choice: Choice
    """Attempt that is the answer, and why."""
    candidates: tuple[Attempt, ...]
    """All attempts, the chosen one among them."""
    dialect: Dialect
    """Conventions of the model that wrote them."""
    seed: int
    """Seed that gives this answer again."""
    seconds: float
    """Time from the first sample to the choice."""
    opinion: Opinion | None = None
    """Opinion that the selector asked for; None for a rule."""

    @property
    def chosen(self) -> Attempt:
        """The attempt that is the answer."""
        return self.choice.chosen

    @property
    def text(self) -> str:
        """The final answer as it was found; empty where there is none."""
        return (self.chosen.verdict.extracted or "").strip()

    @property
    def context(self) -> str:
        """Text that stands in the model's context, calls and results as its dialect writes them."""
        spans = [span for step in self.chosen.trajectory.steps for span in step.spans]
        return self.dialect.readable([token for span in spans for token in span.token_ids])

    @property
    def sampled_tokens(self) -> int:
        """Tokens that the model wrote in all candidates, discarded repairs included."""
        return sum(candidate.trajectory.num_model_tokens for candidate in self.candidates)

    @property
    def num_tokens(self) -> int:
        """The same, and those written to choose among the candidates."""
        return self.sampled_tokens + (0 if self.opinion is None else self.opinion.tokens)


async def answer(
    asked: AskedPrompt, limits: AttemptLimits, agent: Agent, chooser: Chooser, ears: Ears, *, seed: int
) -> Answer:
    """Answer one prompt by one attempt, or by the best of several.

    Raises ContextFull where the prompt leaves no room for an answer, and faults of the machine.
    """
    began, thinking = monotonic(), thinking_of(agent.dialect)
    is_single = limits.attempts == 1
    events: list[list[Event]] = [[] for _ in range(limits.attempts)]
    found: dict[int, Attempt] = {}

    async def one(number: int) -> None:
        def hear(event: Event) -> None:
            ears.note(event)
            (ears.hear if is_single else events[number].append)(event)

        draft = Draft(id=str(number), problem_id="", prompt=asked.prompt, seed=seed_of(seed, number))
        overheard = Overheard(agent, hear, is_live=ears.is_live and is_single)
        found[number] = await heard_attempt(draft, limits, overheard, thinking)
        if not is_single:
            ears.done(found[number])

    await in_parallel(range(limits.attempts), one, limits.attempts)
    candidates = tuple(found[number] for number in range(limits.attempts))
    choice, opinion = await chooser.choose(asked.question, candidates, seed=seed)
    for event in events[choice.place]:
        ears.hear(event)
    return Answer(
        choice=choice,
        candidates=candidates,
        dialect=agent.dialect,
        seed=seed,
        seconds=monotonic() - began,
        opinion=opinion,
    )


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
