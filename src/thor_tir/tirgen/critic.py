"""The critic: one isolated step in, the same step with programs in place of its computation out, or nothing.

It cannot be shown the problem, the answer or earlier steps: all it takes is an `IsolatedStep`, which is made of what
the actor has just written and of nothing else. That keeps the data on the actor's own distribution (paper, section 2.2,
"policy alignment"). Its replies are not believed: what breaks the format, solves on its own, or changes words is
refused and counted, each under its own name.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Self

from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.fences import FenceReading
from thor_tir.engines.protocol import ContextFull, Policy, Sampling
from thor_tir.seeds import seed_of
from thor_tir.trajectory import PYTHON, Author, Span, StopReason, Thought

MATCHING_CHARS = 3
"""Shorter runs are chance."""
_WORD = re.compile(r"\w+|[^\w\s]")
BOX = "\\boxed"
FENCES: FenceReading = "lenient"
"""Reading of the fences in a critic's reply: it is data to be understood, not a style to be taught."""


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """Sampling of the critic, and bounds on what of its replies is believed."""

    max_tokens: int = 1024
    """Largest number of tokens of a reply."""
    temperature: float = 0.6
    """Divisor of the logits."""
    top_k: int = 50
    """Number of most likely tokens that are kept; 0 keeps all."""
    min_kept: float = 0.9
    """Share of the rewritten words, as characters of matching runs, that must stand in the step as they are."""
    max_added_chars: int = 24
    """Number of characters that may follow the last words that are the step's own; more is a solution of the
    critic's."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_kept <= 1 or self.max_added_chars < 0:
            raise ValueError(f"min_kept is a share, and no negative number of characters may be added, found {self}")


@dataclass(frozen=True, slots=True)
class IsolatedStep:
    """All that the critic may see. It is made in one way: from tokens the actor has written and the text they say."""

    text: str
    """Text of the step alone."""

    @classmethod
    def of(cls, span: Span, dialect: Dialect) -> Self:
        """The words of a span. Raises ValueError for what a prompt or the environment says."""
        if span.author is not Author.MODEL:
            raise ValueError(f"the critic sees what the actor wrote, not what the {span.author} says")
        return cls(dialect.decode(span.token_ids))

    def begun_with(self, words: str) -> str:
        """Rewritten words that begin with the blanks that the step begins with, and end a line.

        A critic leaves such blanks out, and they are the actor's: many models open their thoughts with a line break.
        """
        blanks = self.text[: len(self.text) - len(self.text.lstrip())]
        return blanks + self.broken_alike(words).strip() + "\n"

    def broken_alike(self, words: str) -> str:
        """Words with line breaks as the step has them."""
        return words if "\r" in self.text else words.replace("\r\n", "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting:
    """A step split into the words that stay and the program that computes the rest."""

    logic: str
    """r_logic: ends with a newline, so that a fence may follow."""
    code: str
    """a_t as the critic wrote it, without fences."""
    tool: str = PYTHON
    """Name of the tool that is called."""
    kept: float
    """Share of `logic` that is the step's own."""


class Refusal(StrEnum):
    """Why a reply left the step as it was."""

    NOTHING_TO_COMPUTE = "nothing to compute"
    BROKEN_FORMAT = "broken format"
    TRUNCATED = "truncated"
    """The reply came to its limit of tokens before a program was closed."""
    CHANGED_WORDS = "changed words"
    ADDED_SOLUTION = "added a solution"
    STEP_TOO_LONG = "step too long"
    """The step fills the critic's context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticReply:
    """The critic's reply about a step."""

    verdict: Rewriting | Refusal
    """Rewriting with its program, or the reason why there is none."""
    kept: float | None = None
    """Share of the rewritten words that are the step's own, where there was a program to judge by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """A model that rewrites steps."""

    policy: Policy
    """Model that answers."""
    dialect: Dialect
    """Conventions of that model."""
    config: CriticConfig
    """Options of its sampling."""

    async def rewrite(self, step: IsolatedStep, *, seed: int) -> CriticReply:
        """Judge one isolated step and, if code can do its computation, write that code."""
        asked = self.prompt(step).token_ids
        span = Span(token_ids=(), author=Author.MODEL)
        thought, action = Thought(text="", span=span), None
        stop = StopReason.STOP
        # a stop string that closes no program, such as a fence of no language, ends nothing: the reply goes on
        while action is None and stop is StopReason.STOP and len(span) < self.config.max_tokens:
            try:
                completion = await self.policy.sample([*asked, *span.token_ids], self._sampling(seed, len(span)))
            except ContextFull:
                if not len(span):
                    return CriticReply(verdict=Refusal.STEP_TOO_LONG)
                stop = StopReason.LENGTH
                break
            span, stop = span + completion.span, completion.stop
            thought, action = self.dialect.split(span, FENCES, has_ended=stop is StopReason.END)
        if action is None:
            stop = StopReason.LENGTH if stop is StopReason.STOP else stop
            return CriticReply(verdict=without_program(thought.text, stop))
        if not action.tool:
            return CriticReply(verdict=Refusal.BROKEN_FORMAT)
        words = compared(step, [thought.text])
        if (refusal := words.refusal(self.config)) is not None:
            return CriticReply(verdict=refusal, kept=words.kept)
        rewriting = Rewriting(logic=step.begun_with(thought.text), code=action.code, tool=action.tool, kept=words.kept)
        return CriticReply(verdict=rewriting, kept=words.kept)

    def _sampling(self, seed: int, written: int) -> Sampling:
        """Sampling of the rest of a reply of which `written` tokens are there."""
        return Sampling(
            max_tokens=self.config.max_tokens - written,
            temperature=self.config.temperature,
            top_k=self.config.top_k,
            stop=self.dialect.stops(FENCES),
            seed=seed_of(seed, written) if written else seed,
        )

    def prompt(self, step: IsolatedStep) -> Span:
        """All that the critic reads."""
        return self.dialect.prompt(step.text)


def without_program(text: str, stop: StopReason) -> Refusal:
    """Why a reply without a closed program has none."""
    if "```" in text or "~~~" in text:
        return Refusal.TRUNCATED if stop is StopReason.LENGTH else Refusal.BROKEN_FORMAT
    return Refusal.NOTHING_TO_COMPUTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Differences between the words of a reply and those of the step."""

    kept: float
    """Share of the reply's words, as characters, in runs that the step has too."""
    kept_before: float
    """The same of the words up to the end of the last of these runs."""
    added_chars: int
    """Characters of the reply after the words that are the step's own."""
    has_new_box: bool
    """True if it states an answer that the step does not state."""

    def refusal(self, config: CriticConfig) -> Refusal | None:
        """The reason why it may not stand; None where it may."""
        goes_on = self.added_chars > config.max_added_chars and self.kept_before >= config.min_kept
        if self.has_new_box or goes_on:
            return Refusal.ADDED_SOLUTION
        return Refusal.CHANGED_WORDS if self.kept < config.min_kept else None


def compared(step: IsolatedStep, words: Sequence[str]) -> Compared:
    """Matching runs of the step and of the rewritten words, whose pieces programs separate.

    Compared word by word, which a step of thousands of tokens needs; runs of fewer than three characters are chance.
    """
    logic = "\n".join(piece.strip() for piece in words).strip()
    theirs, ours = _WORD.findall(logic), _WORD.findall(step.text)
    blocks = SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks()
    runs = [(block.b, block.b + block.size) for block in blocks]
    sizes = [(sum(map(len, theirs[start:end])), end) for start, end in runs]
    kept = [(size, end) for size, end in sizes if size >= MATCHING_CHARS]
    kept_chars, last = sum(size for size, _ in kept), max((end for _, end in kept), default=0)
    total, before = sum(map(len, theirs)), sum(map(len, theirs[:last]))
    return Compared(
        kept=kept_chars / total if total else 1.0,
        kept_before=kept_chars / before if before else 0.0,
        added_chars=total - before,
        has_new_box=logic.count(BOX) > step.text.count(BOX),
    )
