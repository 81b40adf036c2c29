"""What attempts cost: model calls, tokens and time, by role."""

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from thor_tir.engines.protocol import Policy, Sampling
from thor_tir.trajectory import Completion

ACTOR, CRITIC = "actor", "critic"


@dataclass(slots=True, eq=False)
class Metered:
    """A policy that notes what one attempt asks of it."""

    policy: Policy
    """Policy that is asked."""
    role: str
    """Role under which the cost is noted."""
    spent: Counter[str] = field(default_factory=Counter)
    """`actor calls`, `actor tokens` and so on, as the server counts them where there is one."""

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """As the policy does."""
        completion = await self.policy.sample(token_ids, sampling)
        count = len(completion.span) if completion.num_tokens is None else completion.num_tokens
        self.spent[f"{self.role} calls"] += 1
        self.spent[f"{self.role} tokens"] += count
        return completion

    def attend(self) -> AbstractContextManager[None]:
        """As the policy does."""
        return self.policy.attend()


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent, by one question or by a whole run. An attempt that has begun is finished."""

    tokens: int | None = None
    """Sampled by actor and critic; None for no bound."""
    calls: int | None = None
    """Completions asked of actor and critic."""
    hours: float | None = None
    """Hours that may be spent: by a question the time of its attempts added up, by a run the time since this process
    began."""

    def __post_init__(self) -> None:
        if any(bound is not None and bound <= 0 for bound in (self.tokens, self.calls, self.hours)):
            raise ValueError(f"a budget is positive, found {self}")

    def used_up(self, spent: Counter[str], seconds: float) -> str | None:
        """What is used up, in words; None while something is left of everything."""
        found = (
            ("tokens", self.tokens, spent[f"{ACTOR} tokens"] + spent[f"{CRITIC} tokens"]),
            ("calls", self.calls, spent[f"{ACTOR} calls"] + spent[f"{CRITIC} calls"]),
            ("hours", self.hours, seconds / 3600),
        )
        return next((f"{bound:g} {name}" for name, bound, used in found if bound is not None and used >= bound), None)
