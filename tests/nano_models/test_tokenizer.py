"""The nano tokenizer: any text survives, digits and newlines stand alone, nobody else's text ends a turn."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from nano_models.tokenizer import ASSISTANT, END, PAD, USER, train_tokenizer
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.observation import frame

TEXTS = [
    "I look for the greatest common divisor of 84 and 36. It is 12.\n\n",
    "```python\nfrom math import gcd\nprint(gcd(84, 36))\n```\n\n\n",
    "1000 1000 1000 1000 2024 2024 2024 the the the the\n\n\n\n\n\n",
]
"""Repeated numbers and newlines, which a learner of merges would merge if it were let."""


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS * 20, vocab_size=400)


def pieces(text: str) -> list[str]:
    return [tokenizer().decode([id]) for id in Dialect(tokenizer()).encode(text)]


@settings(deadline=None)
@given(st.text())
def test_any_text_survives_encoding_and_decoding(text: str) -> None:
    dialect = Dialect(tokenizer())
    assert dialect.decode(dialect.encode(text)) == text


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_that_a_program_may_print_survive_as_far_as_they_are_text(output: bytes) -> None:
    text = output.decode(errors="backslashreplace")
    dialect = Dialect(tokenizer())
    assert dialect.decode(dialect.encode(text)) == text


def test_every_digit_is_a_token_of_its_own() -> None:
    assert pieces("1000") == ["1", "0", "0", "0"]
    digits = {token for token in tokenizer().get_vocab() if any(c.isdigit() and c.isascii() for c in token)}
    assert digits == set("0123456789")


def test_every_newline_is_a_token_of_its_own() -> None:
    assert pieces("\n\n\n") == ["\n", "\n", "\n"]
    assert [piece for piece in pieces("a line\n\nand another\n") if "\n" in piece] == ["\n"] * 3


def test_words_of_the_text_have_been_merged() -> None:
    assert pieces(" the the") == [" the", " the"]  # as in the text, with its space before it


@pytest.mark.parametrize("name", [END, PAD, USER, ASSISTANT])
def test_the_name_of_a_special_token_in_a_programs_output_stays_plain_text(name: str) -> None:
    dialect = Dialect(tokenizer())
    ids = dialect.encode(frame(f"before {name} after"))
    assert tokenizer().convert_tokens_to_ids(name) not in ids
    assert dialect.decode(ids) == frame(f"before {name} after")


def test_a_turn_is_the_question_between_markers_without_the_system_message() -> None:
    prompt = Dialect(tokenizer()).prompt("What is 2 + 2?")
    user, end, assistant = tokenizer().convert_tokens_to_ids([USER, END, ASSISTANT])
    text = tokenizer().decode(list(prompt.token_ids))
    assert (prompt.token_ids[0], *prompt.token_ids[-2:]) == (user, end, assistant)
    assert text.startswith(f"{USER}What is 2 + 2?\n")
    assert "careful mathematician" not in text
