"""One request while it waits, and the order in which waiting requests are admitted."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from thor_tir.engines.local.sampling import Uniforms
from thor_tir.engines.local.stop_strings import StopFinder
from thor_tir.engines.protocol import Sampling
from thor_tir.trajectory import Author, Completion, Span, StopReason

PADDING_SLACK = 16
"""Tokens by which prompts of one prefill call may differ beyond a factor of two."""


@dataclass(slots=True, eq=False, kw_only=True)
class SamplingRequest:
    """A sequence that is being continued. While it holds a row, that row stores all of its tokens but the last."""

    ids: list[int]
    """Prompt and what was sampled so far."""
    prompt_tokens: int
    """Number of tokens in the prompt."""
    longest: int
    """Length of `ids` at which it ends."""
    sampling: Sampling
    """Rules by which tokens are drawn."""
    finder: StopFinder
    """Search for the stop strings."""
    uniforms: Uniforms
    """Random numbers of this request alone."""
    future: asyncio.Future[Completion]
    """Promise of the completion to whoever asked."""
    logprobs: list[float] = field(default_factory=list)
    """Log-probabilities of the tokens drawn so far, in nats."""

    renewals: list[tuple[int, int]] = field(default_factory=list)
    """Versions of earlier weights, each with the number of tokens that it and those before it had drawn."""

    @property
    def order(self) -> tuple[int, int, list[int]]:
        """The sort key among requests of the same moment; it does not depend on which one came first."""
        return self.sampling.seed, len(self.ids), self.ids

    @property
    def next_uniform(self) -> float:
        """The random number that draws the next token."""
        return self.uniforms[len(self.logprobs)]

    def append(self, token: int, logprob: float, end_ids: frozenset[int]) -> StopReason | None:
        """Add a sampled token; the reason why it is the last one, or None."""
        self.ids.append(token)
        self.logprobs.append(logprob)
        if self.sampling.heard is not None:
            self.sampling.heard(token)
        if token in end_ids:
            return StopReason.END
        triggers = self.finder.triggers
        if (triggers is None or token in triggers) and self.finder.completed_by_last(self.ids, self.prompt_tokens):
            return StopReason.STOP
        return StopReason.LENGTH if len(self.ids) >= self.longest else None

    def completion(self, stop: StopReason, policy_version: int) -> Completion:
        """The completion that the caller gets."""
        ids = tuple(self.ids[self.prompt_tokens :])
        span = Span(token_ids=ids, author=Author.MODEL, logprobs=tuple(self.logprobs))
        versions: tuple[int, ...] = ()
        for version, end in (*self.renewals, (policy_version, len(ids))):
            versions += (version,) * (end - len(versions))
        has_changed = any(version != policy_version for version in versions)
        return Completion(
            span=span, stop=stop, policy_version=policy_version, versions=versions if has_changed else None
        )


def waves(requests: Sequence[SamplingRequest]) -> Iterator[list[SamplingRequest]]:
    """First one request of every prompt, then the others, which can copy what the first ones computed."""
    leaders: dict[tuple[int, ...], SamplingRequest] = {}
    followers = []
    for request in requests:
        if leaders.setdefault(tuple(request.ids), request) is not request:
            followers.append(request)
    yield list(leaders.values())
    if followers:
        yield followers


def prefill_groups(missing: Sequence[int], *, budget: int) -> Iterator[slice]:
    """Cut ascending token counts into runs of similar length that cost at most `budget` tokens, padding included.

    Zeros come first and are in no group. A count beyond the budget is in a group of its own.
    """
    start = sum(count == 0 for count in missing)
    for end in range(start + 1, len(missing) + 1):
        is_last = end == len(missing)
        if not is_last:
            longest, size = missing[end], end + 1 - start
            if longest * size <= budget and longest <= 2 * missing[start] + PADDING_SLACK:
                continue
        yield slice(start, end)
        start = end
