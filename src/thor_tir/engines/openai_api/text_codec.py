"""Token ids for a model whose tokenizer is not here: an id is a piece of text, and says which.

Dialect, rollout, TIRGen and self-correction speak token ids. Where a model is reached by text alone, these ids stand in
for its own: about as long as a model's tokens, the same in every process, and turned back into text without a table.
They mean nothing to any model; who trains on such a trajectory encodes its text again (`sft/examples.py`).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from thor_tir.pretrained import ChatTurn

LOWEST = 1 << 24
"""Every id here is at least this large, and no vocabulary of a model is."""
PIECE_BYTES = 7
"""Bytes of UTF-8 in one id at most, so that ids fit 63 bits."""
SHORT_BYTES = 3
"""Shorter pieces are padded to this, which keeps their ids above those of control tokens."""

SYSTEM, USER, ASSISTANT, THINKING, END = (
    f"<|thor:{name}|>" for name in ("system", "user", "assistant", "think", "end")
)
CONTROLS = {name: LOWEST + number for number, name in enumerate((END, SYSTEM, USER, ASSISTANT, THINKING))}
"""Tokens that only a template writes: beginnings of turns and the end of the model's own."""
_NAMES = {token_id: name for name, token_id in CONTROLS.items()}
_CONTROL = re.compile("(" + "|".join(map(re.escape, CONTROLS)) + ")")
KNOWN_CHARS = 32
"""Pieces no longer than this are remembered with their ids."""
_PIECE = re.compile(r" ?[^\W\d_]+|\d| ?[^\w\s]|_|\s")
"""A word with the space before it, a digit, a mark, a blank: how the tokenizers of models cut, roughly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """The text of a context of such ids, for a server that is sent messages or plain text."""

    system: str
    """Text of the system turn."""
    user: str
    """Text of the user's turn."""
    answer: str
    """The model's turn so far; empty where it has not begun."""
    is_thinking: bool
    """True if the model's turn opens with thoughts."""
    earlier: tuple[ChatTurn, ...] = ()
    """Turns of the user and of the model before the user's last one."""

    @property
    def plain(self) -> str:
        """All of it as one text, for a model without a chat template."""
        parts = (self.system, *(turn["content"] for turn in self.earlier), self.user)
        return "\n\n".join(part for part in parts if part) + "\n\n" + self.answer


class TextTokenizer:
    """As much of a Hugging Face tokenizer as a `Dialect` asks for. Any text survives encoding and decoding."""

    eos_token_id = CONTROLS[END]
    all_special_tokens = tuple(CONTROLS)
    chat_template = "messages"
    is_of_package = True
    """Turns are written by a method of this package, which needs no limit of time."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        """Ids; with `split_special_tokens=True` names of control tokens are text like any other."""
        if options.get("split_special_tokens"):
            return {"input_ids": _ids(text)}
        ids: list[int] = []
        for part in _CONTROL.split(text):  # of a rendered prompt, whose instructions are the same each time
            ids += [CONTROLS[part]] if part in CONTROLS else _part(part)
        return {"input_ids": ids}

    def get_added_vocab(self) -> dict[str, int]:
        """The control tokens."""
        return dict(CONTROLS)

    def encode(self, text: str, **options: Any) -> list[int]:
        """The ids alone."""
        return self(text, **options)["input_ids"]

    def decode(self, token_ids: Sequence[int], **_: Any) -> str:
        """The text of ids; control tokens by their names."""
        return "".join(map(_text, token_ids))

    def apply_chat_template(
        self,
        conversation: Sequence[ChatTurn],
        *,
        add_generation_prompt: bool = True,
        enable_thinking: bool = False,
        **_: Any,
    ) -> str:
        """The turns one after another, and the beginning of the model's. Raises ValueError for a turn of a tool."""
        if unknown := {turn["role"] for turn in conversation} - {"system", "user", "assistant"}:
            raise ValueError(f"there is no turn of {min(unknown)}")
        said = "".join(f"<|thor:{turn['role']}|>{turn['content']}" for turn in conversation)
        if not add_generation_prompt:
            return said
        return said + (THINKING if enable_thinking else ASSISTANT)


def conversation(token_ids: Sequence[int]) -> Conversation:
    """The turns of a context. Raises ValueError for ids that no `TextTokenizer` made."""
    if not is_text_level(token_ids):
        raise ValueError("these token ids belong to a model's own tokenizer, not to text")
    ids = [*token_ids, CONTROLS[END]]
    turns = [(USER, "")]
    start = 0
    for place in [place for place, token_id in enumerate(ids) if token_id in _NAMES]:
        piece = ids[start:place]
        start = place + 1
        speaker, text = turns[-1]
        turns[-1] = speaker, text + (_instructions(tuple(piece)) if speaker == SYSTEM else "".join(map(_text, piece)))
        if (name := _NAMES[ids[place]]) != END:
            turns.append((name, ""))
    speaker, answer = turns.pop() if turns[-1][0] in (ASSISTANT, THINKING) else (ASSISTANT, "")
    asked = [(role, text) for role, text in turns if text and role != SYSTEM]
    user = asked.pop()[1] if asked and asked[-1][0] == USER else ""
    return Conversation(
        system="".join(text for role, text in turns if role == SYSTEM),
        user=user,
        answer=answer,
        is_thinking=speaker == THINKING,
        earlier=tuple({"role": "user" if role == USER else "assistant", "content": text} for role, text in asked),
    )


def is_text_level(token_ids: Iterable[int]) -> bool:
    """True if ids are text, and no model's own."""
    return min(token_ids, default=LOWEST) >= LOWEST


def _ids(text: str) -> list[int]:
    ids: list[int] = []
    for piece in _PIECE.findall(text):
        ids += _known(piece) if len(piece) <= KNOWN_CHARS else _cut(piece)
    return ids


@lru_cache(maxsize=64)
def _part(text: str) -> tuple[int, ...]:
    return tuple(_ids(text))


def _cut(piece: str) -> Iterator[int]:
    """Ids of a piece, at most `PIECE_BYTES` of it in each, never half a character."""
    while piece:
        data, length = b"", 0
        for length, character in enumerate(piece, 1):
            more = data + character.encode("utf-8", errors="surrogatepass")
            if len(more) > PIECE_BYTES:
                length -= 1
                break
            data = more
        piece = piece[length:]
        yield int.from_bytes(bytes([16 + len(data)]) + data.rjust(SHORT_BYTES, b"\0"))


@lru_cache(maxsize=2**16)
def _known(piece: str) -> tuple[int, ...]:
    return tuple(_cut(piece))


@lru_cache(maxsize=64)
def _instructions(token_ids: tuple[int, ...]) -> str:
    return "".join(map(_text, token_ids))


@lru_cache(maxsize=2**16)
def _text(token_id: int) -> str:
    if (name := _NAMES.get(token_id)) is not None:
        return name
    head, *_ = blob = token_id.to_bytes(8).lstrip(b"\0")
    return blob[-(head - 16) :].decode("utf-8", errors="surrogatepass")
