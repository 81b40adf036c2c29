"""What a server of the OpenAI kind answered, read without trust: typed, bounded, or refused in one sentence.

Text is data, whatever it says: control characters, fences inside fences, nothing at all. A reply that is no reply
(half a JSON, no choice, another's turn) is a fault of the machine and may be asked for again.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thor_tir.trajectory import StopReason

MAX_TOKEN_CHARS = 512
"""No token of any vocabulary is longer; a reply with more text for each of its tokens was not made by a model."""
_ENDS = {"stop": StopReason.END, "eos": StopReason.END, "length": StopReason.LENGTH}
_CUT = frozenset({"content_filter", "tool_calls", "function_call"})
"""Finish reasons that end the model's turn although it did not."""
_STOP_KEYS = ("stop_reason", "matched_stop")
"""Where servers tell what stopped them: vLLM and SGLang."""


class BrokenReply(Exception):
    """What came back is no completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion as its server told it."""

    text: str
    """Text of the completion."""
    token_ids: tuple[int, ...] | None
    """None where the server does not tell them."""
    stop: StopReason
    """Reason why the completion ended."""
    num_tokens: int | None
    """Sampled, as the server counts; None where it does not say."""
    tells_stop: bool
    """True if the server says which stop string ended it, so that an end of turn cannot be taken for one."""


def parsed(body: bytes | str) -> Mapping[str, object]:
    """The JSON object of a body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BrokenReply(f"no JSON: {str(error)[:100]}") from error
    return _object(value, "reply")


def whole_reply(body: bytes, *, stop: Sequence[str], max_tokens: int) -> Reply:
    """A reply that came in one piece. Raises BrokenReply."""
    value = parsed(body)
    choice = _choice(value)
    text = _text_of(choice, "message")
    told = next((choice[key] for key in _STOP_KEYS if isinstance(choice.get(key), str)), None)
    if isinstance(told, str) and told in stop and not text.endswith(told):
        text += told  # most servers leave the stop string out
    return _checked(
        Reply(
            text=text,
            token_ids=_ids(choice.get("token_ids")),
            stop=StopReason.STOP if told in stop else _stop(choice.get("finish_reason")),
            num_tokens=_sampled(value.get("usage")),
            tells_stop=any(key in choice for key in _STOP_KEYS),
        ),
        stop,
        max_tokens,
    )


class Gathering:
    """A reply that comes in pieces, and is cut here at the first stop string."""

    def __init__(self, *, stop: Sequence[str], max_tokens: int) -> None:
        self._stop = stop
        self._max_tokens = max_tokens
        self._text = ""
        self._finish: object = None
        self._pieces = 0
        self._told: int | None = None

    def add(self, line: str) -> bool:
        """Read one line of the stream; True when nothing more is needed. Raises BrokenReply."""
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            return False
        value = parsed(data)
        if value.get("error"):
            raise BrokenReply(f"an error instead of text: {str(value['error'])[:200]}")
        self._told = _sampled(value.get("usage")) or self._told
        if value.get("choices") == []:  # the piece that carries the usage alone
            return False
        choice = _choice(value)
        piece = _text_of(choice, "delta")
        self._finish = choice.get("finish_reason") or self._finish
        self._pieces += bool(piece)
        before = len(self._text)
        self._text = _plausible(self._text + piece, self._max_tokens)
        return first_stop(self._text, self._stop, before) is not None

    def reply(self) -> Reply:
        """What was gathered. Raises BrokenReply where the stream broke off."""
        is_cut = first_stop(self._text, self._stop) is not None
        found = Reply(
            text=self._text,
            token_ids=None,
            stop=StopReason.STOP if is_cut else _stop(self._finish),
            num_tokens=self._pieces if self._told is None else self._told,
            tells_stop=False,
        )
        return _checked(found, self._stop, self._max_tokens)


def first_stop(text: str, stop: Sequence[str], before: int = 0) -> int | None:
    """Where the first stop string that is completed after `before` characters ends; None where there is none."""
    ends = [place + len(each) for each in stop if (place := text.find(each, max(0, before - len(each) + 1))) >= 0]
    return min(ends, default=None)


def _checked(reply: Reply, stop: Sequence[str], max_tokens: int) -> Reply:
    if reply.token_ids is not None and len(reply.token_ids) > max_tokens:
        raise BrokenReply(f"{len(reply.token_ids)} token ids where {max_tokens} were allowed")
    text = _plausible(reply.text, max_tokens)
    if reply.token_ids is None and (end := first_stop(text, stop)) is not None:
        # Also for servers that go on after a stop string, or do not know the option.
        return replace(reply, text=text[:end], stop=StopReason.STOP)
    return replace(reply, text=text)


def _plausible(text: str, max_tokens: int) -> str:
    if len(text) > MAX_TOKEN_CHARS * max_tokens:
        raise BrokenReply(f"{len(text)} characters where {max_tokens} tokens were allowed")
    return text


def _choice(value: Mapping[str, object]) -> Mapping[str, object]:
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BrokenReply("no choices" if choices in (None, []) else "choices that are no list")
    return _object(choices[0], "choices[0]")


def _text_of(choice: Mapping[str, object], turn: str) -> str:
    """`text` of a completion, or the content of the assistant's turn; null counts as nothing said."""
    if turn not in choice:
        return _clean(choice.get("text"))
    message = _object(choice[turn], turn)
    if message.get("role") not in ("assistant", None):
        raise BrokenReply(f"a turn of the role {str(message['role'])[:40]!r} instead of the assistant's")
    if any(_clean(message.get(name)).strip() for name in ("reasoning_content", "reasoning")):
        raise BrokenReply(
            "thinking apart from the text; start the server without its reasoning parser, or name the model's tokenizer"
        )
    return _clean(message.get("content"))


def _clean(value: object) -> str:
    """The string, with what no file can hold replaced: halves of characters."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BrokenReply(f"text that is no string but {type(value).__name__}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return value.encode("utf-8", errors="replace").decode("utf-8")
    return value


def _stop(finish: object) -> StopReason:
    if isinstance(finish, str):
        if finish in _ENDS:
            return _ENDS[finish]
        if finish in _CUT:
            return StopReason.END
    raise BrokenReply(f"finish_reason {str(finish)[:40]!r}, so the reply is not whole")


def _ids(value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value):
        raise BrokenReply("token_ids that are no list of token ids")
    return tuple(value)


def _sampled(usage: object) -> int | None:
    count = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise BrokenReply(f"{where} is no JSON object but {type(value).__name__}")
    return value
