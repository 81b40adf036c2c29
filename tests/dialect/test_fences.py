"""What opens and closes a program, to the character."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.dialect.fences import STOPS, blocks, first_block
from thor_tir.dialect.near_misses import near_misses
from thor_tir.trajectory import Author, Finish, Span, Step, Thought, Trajectory

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


def test_of_two_programs_the_first_counts():
    text = "a\n```python\n1\n```\nb\n```python\n2\n```\n"
    assert first_block(text).code == "1\n"
    assert text[first_block(text).start : first_block(text).end] == "```python\n1\n```\n"


def test_an_empty_program_is_a_program():
    assert first_block("```python\n```\n").code == ""


ANSWER = "I compute.\n{}\nprint(20 - 3)\n{}"


@pytest.mark.parametrize("reading", ["exact", "blanks", "lenient"])
@pytest.mark.parametrize("text", ["```python\nprint(1)\n```", "So.\n```python\nprint(1)\n```"])
def test_a_closing_fence_that_ends_the_turn_closes_the_program(text, reading):
    block = first_block(text, reading, has_ended=True)
    assert (block.code, block.end) == ("print(1)\n", len(text))
    assert first_block(text, reading) is None  # more may come: "```output" for example


@pytest.mark.parametrize("text", ["```python", "```python\nprint(1)\n``", "```python\nprint(1)", "x ```", "```"])
def test_a_turn_that_ends_before_a_closing_fence_holds_no_program(text):
    assert first_block(text, "lenient", has_ended=True) is None


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("```python ", "```"),
        ("```python", "``` "),
        ("```python\t", "```  "),
        ("```python\r", "```\r"),
        ("```python", "```"),
    ],
)
def test_blanks_behind_a_fence_are_read_where_blanks_are(opening, closing):
    text = ANSWER.format(opening, closing) + "\n"
    assert first_block(text, "blanks").code == "print(20 - 3)\n"
    assert first_block(text, "lenient").code == "print(20 - 3)\n"
    assert (first_block(text) is None) == ((opening, closing) != ("```python", "```"))


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("```py", "```"),
        ("```Python", "```"),
        ("```python3", "```"),
        ("``` python", "```"),
        ("```{python}", "```"),
        ("```{.python .numberLines}", "```"),
        ("```python title=x", "```"),
        ("````python", "````"),
        ("~~~python", "~~~"),
        ("~~~~ PY", "~~~~~"),
        ("  ```python", "  ```"),
        ("\t```py", "\t```"),
    ],
)
def test_fences_as_chat_models_write_them_are_read_leniently_and_not_otherwise(opening, closing):
    text = ANSWER.format(opening, closing)
    assert first_block(text + "\n", "lenient").code == "print(20 - 3)\n"
    assert first_block(text, "lenient", has_ended=True).code == "print(20 - 3)\n"
    assert first_block(text + "\n", "blanks") is None


@pytest.mark.parametrize(
    "opening", ["```", "```output", "```pycon", "```pseudo python", "Now ```python", "``python", "~~py"]
)
def test_what_opens_no_program_leniently(opening):
    assert first_block(ANSWER.format(opening, "```") + "\n", "lenient") is None


def test_a_program_under_a_list_item_loses_the_indentation_of_its_fence():
    text = "1. Compute:\n   ```python\n   for i in range(2):\n       print(i)\n   ```\n2. Done."
    assert first_block(text, "lenient").code == "for i in range(2):\n    print(i)\n"


def test_a_fence_within_a_docstring_closes_nothing_leniently():
    code = 'def f():\n    """\n    ```\n    f()\n    ```\n    """\n'
    assert first_block(f"```python\n{code}```\n", "lenient").code == code


def test_carriage_returns_are_read_leniently_and_leave_the_code():
    assert first_block("```python\r\nif 1:\r\n    print(1)\r\n```\r\n", "lenient").code == "if 1:\n    print(1)\n"


def test_all_programs_of_a_text_in_order():
    text = "```python\n1\n```\nb\n```py\n2\n```\n```python\n3\n```"
    assert [block.code for block in blocks(text, "lenient", has_ended=True)] == ["1\n", "2\n", "3\n"]
    assert [block.code for block in blocks(text)] == ["1\n"]


@pytest.mark.parametrize(
    ("thoughts", "count"),
    [
        (["No program."], 0),
        (["```python\n1\n```\n"], 0),  # written exactly, and not run for another reason
        (["```python \n1\n```\n"], 1),
        (["```py\n1\n```\n and ```` ``` ````\n~~~python\n2\n~~~"], 2),
        (["  ```python\n  1\n  ```", "None.", "```py\n1\n```"], 2),
        (["```python\n1\n"], 0),
    ],
)
def test_programs_that_were_written_in_fences_that_are_not_read_are_counted(thoughts, count):
    span = Span(token_ids=(), author=Author.MODEL)
    steps = tuple(Step(thought=Thought(text=text, span=span)) for text in thoughts)
    assert near_misses(Trajectory(id="a", problem_id="p", prompt=span, steps=steps, finish=Finish.ENDED)) == count


@pytest.mark.parametrize("reading", ["exact", "blanks"])
def test_a_reading_stops_where_it_finds_programs_closed_and_asks_no_server_for_more_than_four(reading):
    assert len(STOPS[reading]) <= 4
    assert all(first_block(f"```python\n1{stop}", reading) is not None for stop in STOPS[reading])


@pytest.mark.parametrize(
    "text",
    [
        "1. ```python\n   print(1)\n   ```\n",
        "12) ```py\n    print(1)\n    ```\n",
        "- ```py\n  print(1)\n  ```\n",
        "* ~~~python\n  print(1)\n  ~~~\n",
        "> ```python\n> print(1)\n> ```\n",
        "> > ```python3.11\n> > print(1)\n> > ```\n",
        "```ipython\nprint(1)\n```\n",
        "```Python3.12\nprint(1)\n```\n",
    ],
)
def test_marks_of_lists_and_quotes_and_versions_of_the_language_are_read_leniently(text):
    assert [block.code for block in blocks(text, "lenient")] == ["print(1)\n"]
    assert first_block(text, "exact") is None


@pytest.mark.parametrize("tag", ["pycon", "text", "pyx", "output", "python-repl", "", "1"])
def test_other_languages_open_no_program_leniently(tag):
    assert first_block(f"```{tag}\nprint(1)\n```\n", "lenient") is None


def test_code_in_a_quote_keeps_what_stands_behind_the_mark():
    text = "> ```python\n> if 1 > 0:\n>     print('> 1')\n> ```\nafter"
    assert first_block(text, "lenient").code == "if 1 > 0:\n    print('> 1')\n"
