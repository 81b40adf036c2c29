"""Texts with programs in them, taken apart and spelled again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.sft.tool_text import Kind, Piece, Unusable, pieces, settled, text_of


def words(text: str) -> Piece:
    return Piece(Kind.WORDS, text)


def program(text: str) -> Piece:
    return Piece(Kind.PROGRAM, text)


def output(text: str) -> Piece:
    return Piece(Kind.OUTPUT, text)


FENCED = "Multiply.\n```python\nprint(7*8)\n```\n```output\n56\n```\nSo \\boxed{56}."


def spelled(parts) -> str:
    return text_of(settled(parts))


def test_a_text_in_our_fences_is_spelled_as_it_was():
    assert pieces(FENCED) == (words("Multiply.\n"), program("print(7*8)\n"), output("56"), words("So \\boxed{56}."))
    assert spelled(pieces(FENCED)) == FENCED


@pytest.mark.parametrize(
    "text",
    [
        "Multiply.\n<llm-code>\nprint(7*8)\n</llm-code>\n<llm-code-output>\n56\n</llm-code-output>\nSo \\boxed{56}.",
        "Multiply.\n```py\nprint(7*8)\n```\n\n```output\n56\n```\nSo \\boxed{56}.",
        "Multiply.\n```python\nprint(7*8)\n```\n~~~Output\n56\n~~~\nSo \\boxed{56}.",
        "Multiply.\n```python\nprint(7*8)\n```\n````output\n56\n````\nSo \\boxed{56}.",
        "Multiply.\n``` python \nprint(7*8)\n``` \n\n\n``` output\n56\n```  \nSo \\boxed{56}.",
        "Multiply.\n~~~Python\nprint(7*8)\n~~~\n```output\n56\n\n```\nSo \\boxed{56}.".replace("56\n\n", "56\n"),
        "Multiply.\r\n```python\r\nprint(7*8)\r\n```\r\n```output\r\n56\n```\r\nSo \\boxed{56}.".replace("y.\r", "y."),
    ],
)
def test_other_marks_mean_the_same(text):
    assert [p.text.strip() for p in pieces(text)] == [p.text.strip() for p in pieces(FENCED)]
    assert spelled(pieces(text)).replace("\r", "") == FENCED


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Multiply.\n```python\nprint(7", "a program never ends"),
        ("Multiply.\n```python\nprint(7)", "a program never ends"),
        ("Multiply.\n<llm-code>\nprint(7", "a program never ends"),
        ("~~~python\nprint(7)\n```\n", "a program never ends"),
        ("```python\nprint(7)\n```\n```output\n7", "an output never ends"),
        ("<llm-code>\nprint(7)\n</llm-code>\n<llm-code-output>\n7", "an output never ends"),
        ("I guess.\n```output\n7\n```\nSo 7.", "an output follows no program"),
        ("```python\nprint(7)\n```\nIt prints:\n```output\n7\n```\n", "an output follows no program"),
        ("<code>\nprint(7)\n</code>\n<interpreter>\n7\n</interpreter>\n", "are not read here: <interpreter>"),
        ("So.\n<llm-code-output>\n7\n</llm-code-output>\n", "a program never ends"),
    ],
)
def test_what_is_cut_off_or_out_of_order_is_no_response(text, reason):
    with pytest.raises(Unusable, match=reason):
        pieces(text)


def test_a_program_in_a_sentence_and_other_languages_are_words():
    text = "Write ```python``` first.\n```c\nint x;\n```\nDone ```output```."
    assert pieces(text) == (words(text),)


def test_a_program_that_would_close_its_own_fence_cannot_be_spelled():
    with pytest.raises(Unusable, match="holds the fence"):
        spelled([program("print('''\n```\n''')\n")])
    assert (
        spelled([program("print(1)"), output("```"), words("ok")])
        == "```python\nprint(1)\n```\n```output\n'''\n```\nok"
    )
    assert spelled([words("now"), program("print(1)"), output("1"), words("ok")]).startswith("now\n```python\n")


plain = st.text(st.characters(codec="utf-8", exclude_characters="`~<\r"), min_size=1, max_size=30)
line = plain.map(lambda text: " ".join(text.split()) or "x")


@given(st.lists(st.tuples(line, line, line), max_size=4), line)
def test_whatever_is_spelled_reads_as_it_was_and_no_output_is_the_models(steps, answer):
    parts = [p for said, code, shown in steps for p in (words(f"{said}\n"), program(f"{code}\n"), output(shown))]
    parts.append(words(answer))
    assert settled(parts) == tuple(parts)
    assert list(pieces(text_of(parts))) == parts


MARKS = ("```python\n", "```\n", "```output\n", "~~~py\n", "~~~\n", "````\n", "x = 1\n", "say ", "\n", "  ", "> ")
LLM = ("<llm-code>", "</llm-code>", "<llm-code-output>", "</llm-code-output>")


@given(st.lists(st.sampled_from(MARKS), max_size=12) | st.lists(st.sampled_from((*MARKS, *LLM)), max_size=12))
def test_odd_fences_are_read_or_refused_and_outputs_stay_outputs(parts):
    try:
        found = pieces("".join(parts))
        parts = settled(found)
    except Unusable:
        return
    assert [p for p in pieces(text_of(parts)) if p.kind is Kind.OUTPUT] == [p for p in parts if p.kind is Kind.OUTPUT]


def test_a_shorter_fence_within_an_output_does_not_end_it():
    text = "```python\nprint(7)\n```\n````output\n```\n7\n```\n````\nSo 7."
    assert pieces(text) == (program("print(7)\n"), output("```\n7\n```"), words("So 7."))
