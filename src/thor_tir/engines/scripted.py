"""A policy with prepared completions: for tests and for walking through the pipeline without a model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from thor_tir.engines.local.stop_strings import StopFinder, byte_pieces
from thor_tir.engines.protocol import Sampling
from thor_tir.pretrained import ModelTokenizer
from thor_tir.trajectory import Author, Completion, Span, StopReason

LOGPROB = -math.log(2)
"""Made-up log-probability of every scripted token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request as it arrived."""

    token_ids: tuple[int, ...]
    """Token ids of the prompt."""
    text: str
    """Decoded text of the prompt."""
    sampling: Sampling
    """Sampling that was asked for."""


class ScriptedPolicy:
    """Replies in order, cut at the token that completes a stop string or reaches `max_tokens`, as a real engine does.

    `replies` is either one list, in the order of the requests, or one list for each text that a prompt may contain: a
    request takes the next reply of the longest such text it contains, which keeps concurrent trajectories apart.
    What is not cut ends with the tokenizer's end-of-sequence token.
    """

    def __init__(self, tokenizer: ModelTokenizer, replies: Sequence[str] | Mapping[str, Sequence[str]]) -> None:
        scripts = replies if isinstance(replies, Mapping) else {"": replies}
        self.asked: list[Asked] = []
        """Every request so far."""
        self.attending = 0
        """Trajectories that may still ask."""
        if tokenizer.eos_token_id is None:
            raise ValueError("a scripted reply ends with the tokenizer's end-of-sequence token, and it has none")
        self._tokenizer = tokenizer
        self._end = tokenizer.eos_token_id
        self._pieces = byte_pieces(tokenizer, vocabulary=len(tokenizer))
        self._scripts = {text: iter(script) for text, script in scripts.items()}

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """The next reply. Raises LookupError when there is none: the script and the caller disagree."""
        asked = Asked(token_ids=tuple(token_ids), text=self._tokenizer.decode(token_ids), sampling=sampling)
        self.asked.append(asked)
        reply = self._tokenizer.encode(self._next_reply(asked.text), add_special_tokens=False)
        ids, stop = self._cut([*reply, self._end], sampling)
        if sampling.heard is not None:
            for token in ids:
                sampling.heard(token)
        span = Span(token_ids=tuple(ids), author=Author.MODEL, logprobs=(LOGPROB,) * len(ids))
        return Completion(span=span, stop=stop)

    @contextmanager
    def attend(self) -> Iterator[None]:
        """Count trajectories; nothing waits for them."""
        self.attending += 1
        try:
            yield
        finally:
            self.attending -= 1

    def _next_reply(self, text: str) -> str:
        keys = [key for key in self._scripts if key in text]
        reply = next(self._scripts[max(keys, key=len)], None) if keys else None
        if reply is None:
            raise LookupError(f"no reply is left for request {len(self.asked)}, whose prompt ends with {text[-80:]!r}")
        return reply

    def _cut(self, ids: list[int], sampling: Sampling) -> tuple[list[int], StopReason]:
        finder = StopFinder(sampling.stop, self._tokenizer, self._pieces)
        for end in range(1, len(ids) + 1):
            if ids[end - 1] == self._end:
                return ids[:end], StopReason.END
            if sampling.stop and finder.completed_by_last(ids[:end], 0):
                return ids[:end], StopReason.STOP
            if end == sampling.max_tokens:
                return ids[:end], StopReason.LENGTH
        raise AssertionError("the last of the ids is the end-of-sequence token")
