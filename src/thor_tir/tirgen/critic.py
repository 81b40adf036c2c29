"""The critic: one isolated step in, the same step with a program in place of its computation out, or nothing.

It cannot be shown the problem, the answer or earlier steps, since `rewrite` takes a single text; that keeps the data on
the actor's own distribution (paper, section 2.2, "policy alignment").
"""

from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.fences import OPEN
from thor_tir.engines.protocol import Policy, Sampling


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """How the critic is sampled and what of its replies is believed."""

    max_tokens: int = 1024
    temperature: float = 0.6
    top_k: int = 50
    min_kept: float = 0.9
    """Share of the rewritten words, as characters in matching runs, that must stand in the step as they are."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_kept <= 1:
            raise ValueError(f"min_kept is a share between 0 and 1, found {self.min_kept}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewriting:
    """A step split into what stays in words and what is computed."""

    logic: str
    """r_logic: ends with a newline, so that a fence may follow."""
    code: str
    """a_t as the critic wrote it, without fences."""


class Refusal(StrEnum):
    """Why a reply left the step as it was."""

    NOTHING_TO_COMPUTE = "nothing to compute"
    BROKEN_FORMAT = "broken format"
    CHANGED_WORDS = "changed words"


@dataclass(frozen=True, slots=True, kw_only=True)
class Critic:
    """A model that rewrites steps."""

    policy: Policy
    dialect: Dialect
    config: CriticConfig

    async def rewrite(self, step: str, *, seed: int) -> Rewriting | Refusal:
        """Judge one isolated step and, if code can do its computation, write that code."""
        prompt = self.dialect.prompt(step)
        sampling = Sampling(
            max_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
            top_k=self.config.top_k,
            stop=self.dialect.stop,
            seed=seed,
        )
        completion = await self.policy.sample(prompt.token_ids, sampling)
        thought, action = self.dialect.split(completion.span)
        if action is None:
            return Refusal.BROKEN_FORMAT if OPEN in thought.text else Refusal.NOTHING_TO_COMPUTE
        if kept_share(step, thought.text) < self.config.min_kept:
            return Refusal.CHANGED_WORDS
        return Rewriting(logic=thought.text.rstrip() + "\n", code=action.code)


def kept_share(step: str, logic: str) -> float:
    """How much of the rewritten words is the step's own: matching runs of three characters and more."""
    logic = logic.strip()
    if not logic:
        return 1.0
    blocks = SequenceMatcher(None, step, logic, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size >= 3) / len(logic)
