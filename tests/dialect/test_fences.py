"""What opens and closes a program, to the character."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.dialect.fences import FenceParser, first_block

LINES = ["```python", "```", "```output", " ```python", "``` ", "python", "x = 1", "", "é\u2028😀", "``", "```python\r"]
TEXTS = st.tuples(st.lists(st.sampled_from(LINES), max_size=8), st.booleans()).map(
    lambda lines_and_end: "\n".join(lines_and_end[0]) + "\n" * lines_and_end[1]
)
REFERENCE = re.compile(r"(?:\A|(?<=\n))```python\n((?:(?!```\n)[^\n]*\n)*)```\n")
"""The same rule as one regular expression over the whole text."""


@given(TEXTS)
def test_the_first_program_is_the_one_a_regular_expression_finds(text):
    found, block = REFERENCE.search(text), first_block(text)
    expected = None if found is None else (found.start(), found.end(), found[1])
    assert (None if block is None else (block.start, block.end, block.code)) == expected


@given(TEXTS, st.lists(st.integers(0, 80)))
def test_the_result_does_not_depend_on_how_the_text_is_cut_into_pieces(text, cuts):
    parser = FenceParser()
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    for start, end in pairwise(edges):
        parser.feed(text[start:end])
    whole = FenceParser()
    whole.feed(text)
    assert (parser.block, parser.is_open) == (whole.block, whole.is_open)


@pytest.mark.parametrize(
    "opening",
    [
        "python",
        " ```python",
        "\t```python",
        "```python3",
        "```python title=x",
        "```python ",
        "```Python",
        "```py",
        "````python",
        "```",
        "Now ```python",
        "> ```python",
        "```python\r",
    ],
)
def test_only_the_bare_fence_at_the_start_of_its_line_opens_a_program(opening):
    assert first_block(f"Let us see.\n{opening}\nprint(1)\n```\n") is None


@pytest.mark.parametrize("closing", [" ```", "``` ", "```output", "````", "`` `", "```\r", "'''"])
def test_only_the_bare_fence_on_its_line_closes_a_program(closing):
    block = first_block(f"```python\nprint(1)\n{closing}\n```\n")
    assert block.code == f"print(1)\n{closing}\n"


@pytest.mark.parametrize("text", ["```python\nprint(1)\n", "```python\nprint(1)\n```", "```python"])
def test_an_unclosed_program_is_none(text):
    assert first_block(text) is None


def test_a_program_is_open_from_the_newline_of_its_first_fence_to_that_of_its_last():
    parser, is_open = FenceParser(), []
    for character in "```python\nx\n```\n":
        parser.feed(character)
        is_open.append(parser.is_open)
    # 16 characters, of which the tenth is the first newline; the last closes
    assert is_open == [False] * 9 + [True] * 6 + [False]


def test_of_two_programs_the_first_counts():
    text = "a\n```python\n1\n```\nb\n```python\n2\n```\n"
    assert first_block(text).code == "1\n"
    assert text[first_block(text).start : first_block(text).end] == "```python\n1\n```\n"


def test_an_empty_program_is_a_program():
    assert first_block("```python\n```\n").code == ""
