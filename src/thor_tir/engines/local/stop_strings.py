"""Finding stop strings in what is being sampled, without decoding the whole of it again at every token.

Works on the bytes a token stands for. UTF-8 lets no character hide inside another, so a string is in the text if and
only if its bytes are in the bytes, even where a character is split over several tokens.
"""

from collections.abc import Sequence
from functools import lru_cache

from tokenizers import decoders

from thor_tir.pretrained import ModelTokenizer

SPLIT_CHARACTER_TOKENS = 3
"""Tokens that a tail may begin with in the middle of a character: a character has at most four bytes."""


@lru_cache(maxsize=1)
def _byte_of_character() -> dict[str, int]:
    """The alphabet of byte-level BPE: every byte as one printable character (GPT-2, `bytes_to_unicode`)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def byte_pieces(tokenizer: ModelTokenizer, *, vocabulary: int) -> list[bytes] | None:
    """The bytes of every token of a byte-level BPE tokenizer, or None for other kinds, whose text needs a decoder.

    `vocabulary` is the model's, which may be padded beyond the tokenizer's; such tokens stand for no bytes.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not isinstance(backend.decoder, decoders.ByteLevel):
        return None
    alphabet = _byte_of_character()
    added = {token_id: token for token, token_id in tokenizer.get_added_vocab().items()}
    ids = tokenizer.get_vocab()
    pieces = [b""] * max(vocabulary, *(token_id + 1 for token_id in ids.values()))
    for token, token_id in ids.items():
        if token_id in added or any(character not in alphabet for character in token):
            pieces[token_id] = added.get(token_id, token).encode()
        else:
            pieces[token_id] = bytes(alphabet[character] for character in token)
    return pieces


class StopFinder:
    """Tells for one set of stop strings whether the last sampled token completed one of them."""

    def __init__(self, stop: tuple[str, ...], tokenizer: ModelTokenizer, pieces: Sequence[bytes] | None) -> None:
        if "" in stop:
            raise ValueError("an empty stop string would stop before the first token; leave it out")
        self._stop = stop
        self._stop_bytes = [text.encode() for text in stop]
        self._longest = max(map(len, self._stop_bytes), default=0)
        self._tokenizer = tokenizer
        self._pieces = pieces
        self.triggers = self._find_triggers()
        """Tokens that can complete a stop string; None where that is not known and every token must be looked at."""

    def _find_triggers(self) -> frozenset[int] | None:
        if not self._stop:
            return frozenset()
        if self._pieces is None:
            return None
        last_bytes = {text[-1] for text in self._stop_bytes}
        return frozenset(i for i, piece in enumerate(self._pieces) if not last_bytes.isdisjoint(piece))

    def completed_by_last(self, token_ids: Sequence[int], start: int) -> bool:
        """True if a stop string is in the text of `token_ids[start:]`, knowing that it was not one token earlier."""
        if self._pieces is None:
            # Every token but the first few of a tail adds a byte or more, so the tail holds the longest stop string.
            tail = token_ids[max(start, len(token_ids) - self._longest - SPLIT_CHARACTER_TOKENS) :]
            text = self._tokenizer.decode(tail, clean_up_tokenization_spaces=False)
            return any(stop in text for stop in self._stop)
        piece = self._pieces[token_ids[-1]]
        needed = self._longest - 1 + len(piece)
        first = len(token_ids) - 1
        while first > start and len(piece) < needed:
            first -= 1
            piece = self._pieces[token_ids[first]] + piece
        return any(stop in piece for stop in self._stop_bytes)
