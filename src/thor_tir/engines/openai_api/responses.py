"""Replies of OpenAI-compatible servers, read without trust: typed, bounded, or refused in one sentence.

Text is data, whatever it says: control characters, fences inside fences, nothing at all. A whole reply that is no
completion is the fault of its request alone (`BrokenReply`); half a reply, or an error in place of one, is the
server's fault (`CutReply`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from thor_tir.chat_template import CLOSES, OPENS
from thor_tir.trajectory import StopReason

MAX_TOKEN_CHARS = 512
"""No token of any vocabulary is longer; a reply with more text for each of its tokens was not made by a model."""
MAX_DEPTH = 20
"""Largest number of lists within each other in a content; no server nests more than three."""
_LENGTHS = frozenset({"length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"})
"""Finish reasons that say that a limit cut the reply; any other ends the model's turn, whatever its name."""
_ABORTED = frozenset({"error", "abort", "aborted", "cancelled", "canceled"})
"""Finish reasons of a server that gave up."""
_THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
"""Fields of a message for thoughts that a server separates from the text."""
_STOP_KEYS = ("stop_reason", "matched_stop")
"""Fields in which servers name what stopped them: vLLM and SGLang."""


class BrokenReply(Exception):
    """A reply that is no completion: the request's fault, and another try gives the same."""


class CutReply(BrokenReply):
    """Half a reply, or an error in place of one: the server's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """The limits and strings of a request, by which its reply is read."""

    max_tokens: int
    """Largest number of tokens of the reply."""
    stop: tuple[str, ...] = ()
    """Stop strings."""
    ends: tuple[str, ...] = ()
    """Names of tokens that end the model's turn; they are no text."""
    end_ids: frozenset[int] = frozenset()
    """Their ids."""
    has_begun_thinking: bool = False
    """The turn that is continued has begun its thoughts and not ended them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One completion as its server reported it."""

    text: str
    """Text of the completion."""
    token_ids: tuple[int, ...] | None
    """Token ids; None where the server does not return them."""
    stop: StopReason
    """Reason why the completion ended."""
    num_tokens: int | None
    """Number of sampled tokens, as the server counts; None where it does not say."""
    tells_stop: bool
    """True if the server says which stop string ended it, so that an end of turn cannot be taken for one."""


def parsed(body: bytes | str) -> Mapping[str, object]:
    """The JSON object of a body."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        kind = BrokenReply if _is_whole(error, body) else CutReply
        raise kind(f"no JSON: {str(error)[:100]}") from error
    return _object(value, "reply")


def _is_whole(error: Exception, body: bytes | str) -> bool:
    """True if a body that cannot be read is all of a reply: another try gives the same.

    A page in place of a reply, and a reply that ends too early, may be a passing fault of something on the way.
    """
    if isinstance(error, UnicodeDecodeError):
        return error.end < len(error.object) and bytes(error.object).strip()[:1] in (b"{", b"[")
    return not isinstance(error, json.JSONDecodeError)  # nested too deep, or a number of too many digits


def whole_reply(body: bytes, expected: Expected) -> Reply:
    """A reply that came in one piece. Raises BrokenReply."""
    value = parsed(body)
    choice = _choice(value)
    text = _text_of(choice, "message", expected)
    matched = next((choice[key] for key in _STOP_KEYS if isinstance(choice.get(key), str)), None)
    if isinstance(matched, str) and matched in expected.stop and not text.endswith(matched):
        text += matched  # most servers leave the stop string out
    num_tokens = _sampled(value.get("usage"))
    is_full = num_tokens is not None and num_tokens >= expected.max_tokens
    finish = choice.get("finish_reason") or ("length" if is_full else "stop")  # some servers say nothing
    return _checked(
        Reply(
            text=text,
            token_ids=_ids(choice.get("token_ids")),
            stop=StopReason.STOP if matched in expected.stop else _stop(finish),
            num_tokens=num_tokens,
            tells_stop=any(key in choice for key in _STOP_KEYS),
        ),
        expected,
    )


class Gathering:
    """A reply that comes in pieces, and is cut here at the first stop string."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._stop = (*expected.stop, *expected.ends)
        self._text = ""
        self._is_thinking = False
        self._finish: object = None
        self._pieces = 0
        self._counted: int | None = None

    def add(self, line: str) -> bool:
        """Read one line of the stream; True when nothing more is needed. Raises BrokenReply."""
        if not line.startswith("data:") or (data := line[5:].strip()) == "[DONE]":
            return False
        value = parsed(data)
        self._counted = _sampled(value.get("usage")) or self._counted
        if value.get("choices") == []:  # the piece that carries the usage alone
            return False
        choice = _choice(value)
        piece = self._piece(choice)
        self._finish = choice.get("finish_reason") or self._finish
        self._pieces += bool(piece)
        before = len(self._text)
        self._text = _plausible(self._text + piece, self._expected.max_tokens)
        return first_stop(self._text, self._stop, before) is not None

    def _piece(self, choice: Mapping[str, object]) -> str:
        """New text, between tags where the server marks it as thoughts."""
        thoughts, said = _parts_of(choice, "delta")
        opens = OPENS if thoughts and not (self._is_thinking or self._expected.has_begun_thinking) else ""
        closes = CLOSES if said and (self._is_thinking or thoughts) else ""
        self._is_thinking = not said and (self._is_thinking or bool(thoughts))
        return opens + thoughts + closes + said

    def reply(self) -> Reply:
        """The gathered reply. Raises CutReply where the stream broke off."""
        is_cut = first_stop(self._text, self._stop) is not None
        if not is_cut and self._finish is None:
            raise CutReply("it ends without a finish reason, so it is not whole")
        stop = StopReason.STOP if is_cut else _stop(self._finish)
        found = Reply(
            text=self._text + CLOSES * (self._is_thinking and stop is StopReason.END),
            token_ids=None,
            stop=stop,
            num_tokens=self._pieces if self._counted is None else self._counted,
            tells_stop=False,
        )
        return _checked(found, self._expected)


def first_stop(text: str, stop: Sequence[str], before: int = 0) -> int | None:
    """End of the first stop string that is completed after `before` characters; None where there is none."""
    ends = [place + len(each) for each in stop if (place := text.find(each, max(0, before - len(each) + 1))) >= 0]
    return min(ends, default=None)


def _checked(reply: Reply, expected: Expected) -> Reply:
    if reply.token_ids is not None and len(reply.token_ids) > expected.max_tokens:
        raise BrokenReply(f"{len(reply.token_ids)} token ids where {expected.max_tokens} were allowed")
    text = _plausible(reply.text, expected.max_tokens)
    if reply.token_ids is not None:
        end = next((place for place, token in enumerate(reply.token_ids, 1) if token in expected.end_ids), None)
        if end is not None:
            return replace(reply, text=text, token_ids=reply.token_ids[:end], stop=StopReason.END)
        return replace(reply, text=text)
    # Also for servers that go on after a stop string, or do not know the option.
    ending = first_stop(text, expected.ends)
    if (cut := first_stop(text, expected.stop)) is not None and (ending is None or cut <= ending):
        return replace(reply, text=text[:cut], stop=StopReason.STOP)
    if ending is not None:
        name = max((each for each in expected.ends if text[:ending].endswith(each)), key=len)
        return replace(reply, text=text[: ending - len(name)], stop=StopReason.END)
    return replace(reply, text=text)


def _plausible(text: str, max_tokens: int) -> str:
    if len(text) > MAX_TOKEN_CHARS * max_tokens:
        raise BrokenReply(f"{len(text)} characters where {max_tokens} tokens were allowed")
    return text


def _choice(value: Mapping[str, object]) -> Mapping[str, object]:
    if value.get("error"):
        raise CutReply(f"an error instead of text: {str(value['error'])[:200]}")
    choices = value.get("choices")
    if not isinstance(choices, list) or not choices:
        raise BrokenReply("no choices" if choices in (None, []) else "choices that are no list")
    return _object(choices[0], "choices[0]")


def _text_of(choice: Mapping[str, object], turn: str, expected: Expected) -> str:
    """`text` of a completion, or what the assistant's turn says, its thoughts between tags; null is nothing said."""
    thoughts, said = _parts_of(choice, turn)
    if not thoughts.strip():
        return said
    closes = CLOSES if said or _stop(choice.get("finish_reason") or "stop") is StopReason.END else ""
    return OPENS * (not expected.has_begun_thinking) + thoughts + closes + said


def _parts_of(choice: Mapping[str, object], turn: str) -> tuple[str, str]:
    """Thoughts that a server separates, and text."""
    if turn not in choice:
        return "", _clean(choice.get("text"))
    if choice[turn] is None:
        return "", ""
    message = _object(choice[turn], turn)
    if message.get("role") not in ("assistant", None):
        raise BrokenReply(f"a turn of the role {str(message['role'])[:40]!r} instead of the assistant's")
    thoughts, said = _said(message.get("content"))
    apart = next((found for name in _THOUGHTS if (found := "".join(_said(message.get(name))))), "")
    return apart or thoughts, said


def _said(content: object, depth: int = 0) -> tuple[str, str]:
    """Thoughts and text of a content: a string, or a list of parts that say what they are."""
    if depth > MAX_DEPTH:
        raise BrokenReply(f"content of more than {MAX_DEPTH} lists within each other")
    if not isinstance(content, list):
        return "", _clean(content)
    thoughts, said = "", ""
    for part in content:
        kind = str(part.get("type", "text")) if isinstance(part, Mapping) else "text"
        inner = part if not isinstance(part, Mapping) else next((part[k] for k in _PART_KEYS if k in part), None)
        text = "".join(_said(inner, depth + 1))
        if "think" in kind or "reason" in kind:
            thoughts += text
        else:
            said += text
    return thoughts, said


_PART_KEYS = ("text", "thinking", "reasoning", "summary", "refusal", "content")
"""Fields in which parts of a content keep their text."""


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
    if not isinstance(finish, str):
        raise BrokenReply(f"finish_reason {str(finish)[:40]!r}")
    if finish.lower() in _ABORTED:
        raise CutReply(f"finish_reason {finish[:40]!r}: the server gave up")
    return StopReason.LENGTH if finish.lower() in _LENGTHS else StopReason.END


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
