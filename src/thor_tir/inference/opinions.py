"""Opinions of a model on the candidates of one question, and the way such a model is asked."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol

from thor_tir.dialect.fences import fenced
from thor_tir.dialect.observation import frame
from thor_tir.inference.best_of_n import Opinions
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """The answer of a model to one question about candidates, and its cost."""

    numbers: Opinions = field(default_factory=dict)
    """Numbers by the id of a candidate's trajectory; without those of which nothing usable was said."""
    fallbacks: int = 0
    """Requests whose answer could not be used, so that a rule decides instead."""
    calls: int = 0
    """Requests to the model."""
    read_tokens: int = 0
    """Tokens that the model read."""
    tokens: int = 0
    """Tokens that the model wrote."""
    seconds: float = 0.0
    """Wall-clock time, waiting included."""

    said: tuple[str, ...] = ()
    """Texts that the model wrote, for people who wonder why they could not be used."""

    @property
    def cost(self) -> JsonObject:
        """Counts and time, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in ("numbers", "said")}


class Asker(Protocol):
    """Something that has an opinion on candidates."""

    async def ask(self, question: str, candidates: Sequence[Attempt], *, seed: int) -> Opinion:
        """The opinion on the candidates of one question, its time left aside. Raises faults of the machine."""
        ...


def step_text(step: Step) -> str:
    """Thought, program and output of a step as text."""
    if step.action is None or step.observation is None:
        return step.thought.text
    return f"{step.thought.text}{fenced(step.action.code, step.action.tool)}\n{frame(step.observation.text)}"
