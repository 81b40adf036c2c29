"""A text that is continued as it stands, for `/v1/completions`: one sample, no template, no tools."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thor_tir.engines.protocol import Policy, Sampling
from thor_tir.rollout.overheard import TextReader
from thor_tir.trajectory import Decode, StopReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """Text that the model added."""

    text: str
    """Text up to a stop string, which is left out."""
    num_tokens: int
    """Tokens that the model wrote."""
    stop: StopReason
    """Reason why it ended."""


class _StopReader:
    """Text that comes piece by piece, passed on as soon as it can no longer belong to a stop string."""

    def __init__(self, stop: Sequence[str], tell: Callable[[str], None]) -> None:
        self._stop = stop
        self._tell = tell
        self._text = ""
        self._passed = 0

    def add(self, piece: str, *, is_last: bool = False) -> None:
        """Read more."""
        self._text += piece
        held = 0 if is_last else max((len(each) - 1 for each in self._stop), default=0)
        end = min([len(self._text) - held, *self._places()])
        if end > self._passed:
            self._tell(self._text[self._passed : end])
            self._passed = end

    @property
    def text(self) -> str:
        """All text that was passed on."""
        return self._text[: self._passed]

    def _places(self) -> list[int]:
        return [place for each in self._stop if (place := self._text.find(each)) >= 0]


async def continued(
    ids: Sequence[int], sampling: Sampling, policy: Policy, decode: Decode, tell: Callable[[str], None]
) -> Continuation:
    """Continue token ids once. Raises ContextFull, ValueError for ids that are no prompt, and faults of the engine."""
    reader, output = TextReader(decode), _StopReader(sampling.stop, tell)
    heard = replace(sampling, heard=lambda token: output.add(reader.add([token])))
    completion = await policy.sample(ids, heard)
    output.add(reader.add(completion.span.token_ids[reader.num_tokens :], is_last=True), is_last=True)
    return Continuation(text=output.text, num_tokens=len(completion.span), stop=completion.stop)
