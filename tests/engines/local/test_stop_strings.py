import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from thor_tir.engines.local.stop_strings import StopFinder, byte_pieces
from tiny_models import tiny_tokenizer


def pieces() -> list[bytes]:
    return byte_pieces(tiny_tokenizer(), vocabulary=330)


def first_stop(ids: list[int], stop: tuple[str, ...], tokenizer=None, table=None) -> int | None:
    """Tokens sampled until the finder speaks, looking only where an engine would look."""
    finder = StopFinder(stop, tokenizer or tiny_tokenizer(), table if tokenizer else pieces())
    for count in range(1, len(ids) + 1):
        looks = finder.triggers is None or ids[count - 1] in finder.triggers
        if looks and finder.completed_by_last(ids[:count], 0):
            return count
    return None


def test_the_pieces_of_a_text_are_its_bytes_and_padding_of_the_vocabulary_has_none():
    text = "<|user|>héllo ✓ 😀\n```python<|end|>"
    assert b"".join(pieces()[i] for i in tiny_tokenizer().encode(text)) == text.encode()
    assert pieces()[325] == b""


# The alphabet makes overlaps, characters of several tokens, and merges of the tokenizer likely.
fragments = st.lists(st.sampled_from(["`", "``", "```", "\n", "output", "é", "😀", " the", "a"]), max_size=12).map(
    "".join
)


@settings(deadline=None)
@given(text=fragments, stops=st.lists(fragments.filter(bool), min_size=1, max_size=3))
def test_it_speaks_at_the_token_after_which_the_decoded_text_first_holds_a_stop_string(text, stops):
    ids = tiny_tokenizer().encode(text)
    texts = [tiny_tokenizer().decode(ids[:count]) for count in range(1, len(ids) + 1)]
    expected = next((n for n, sofar in enumerate(texts, 1) if any(stop in sofar for stop in stops)), None)
    assert first_stop(ids, tuple(stops)) == expected


def test_a_stop_string_split_over_tokens_within_a_character_is_found_at_its_last_byte():
    ids = tiny_tokenizer().encode("a😀b")
    assert len(ids) == 6  # one token for each of the four bytes of the emoji
    assert first_stop(ids, ("😀",)) == 5


def test_a_token_that_holds_more_than_the_stop_string_stops_too():
    vocabulary = tiny_tokenizer().get_vocab()
    [longest] = [i for token, i in vocabulary.items() if token == "Ġthe"]
    assert first_stop([longest], ("th",)) == 1


def test_text_before_the_completion_does_not_count():
    ids = tiny_tokenizer().encode("``") + tiny_tokenizer().encode("`")
    finder = StopFinder(("```",), tiny_tokenizer(), pieces())
    assert finder.completed_by_last(ids, 0)
    assert not finder.completed_by_last(ids, len(ids) - 1)


def test_a_tokenizer_that_is_not_byte_level_is_decoded_instead():
    words = {word: i for i, word in enumerate(["<s>", "▁so", "▁the", "▁ans", "wer", "▁is"])}
    backend = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert byte_pieces(tokenizer, vocabulary=6) is None
    assert first_stop([1, 2, 3, 4, 5], ("answer",), tokenizer, None) == 4
    assert first_stop([1, 2, 3, 5], ("answer",), tokenizer, None) is None


def test_an_empty_stop_string_is_refused():
    with pytest.raises(ValueError, match="empty stop string"):
        StopFinder(("",), tiny_tokenizer(), pieces())
