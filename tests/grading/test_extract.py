import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.grading.extract import extract_answer
from thor_tir.verdict import Strictness

balanced = st.recursive(
    st.text(alphabet="a1 +,^", max_size=5),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
    max_leaves=10,
)
noise = st.text(alphabet="ab {}\n$", max_size=20)


@settings(deadline=None)
@given(noise, balanced, noise)
def test_the_content_of_the_last_box_comes_out_whatever_surrounds_it(before, content, after):
    expected = content.strip() or None
    assert extract_answer(rf"{before}\boxed{{{content}}}{after}") == expected
    assert extract_answer(rf"\boxed{{7}}{before}\fbox{{{content}}}{after}") == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{\frac{1}{\sqrt{2}}}.", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),  # escaped braces do not nest
        (r"\boxed{a \\}", r"a \\"),  # an escaped backslash does not escape the brace
        (r"\boxed {5}", "5"),
        (r"\boxed{3} or rather \boxed{4", None),  # a correction that was cut off takes the first guess back
        (r"\boxed{ \boxed{8} }", "8"),
        (r"\boxed{6} \boxed{}", None),  # the model took its answer back
        (r"the answer is 7", None),
        (r"\bbox{7} \oxed{7}", None),
        (r"<think>\boxed{1}</think> It is \boxed{2}.", "2"),
        (r"<think>\boxed{1}</think> It is one.", None),
        (r"<think>\boxed{1}", "1"),
        (r"a</think>\boxed{1}</think>\boxed{2}", "2"),
    ],
)
def test_what_counts_as_the_answer(text, answer):
    assert extract_answer(text) == answer


def test_a_flood_of_unclosed_boxes_holds_no_answer_and_a_closed_one_behind_it_does():
    # A scan that starts anew at each box would take 10^11 steps.
    flood = r"\boxed{" * 300_000
    assert extract_answer(flood) is None
    assert extract_answer(flood + r"\boxed{9}") == "9"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"first \boxed{8}, checking again \boxed{7}", "7"),
        ("<answer> 12 </answer>", "12"),
        ("So the answer is $\\frac{3}{4}$.", r"\frac{3}{4}"),
        ("**Final answer:** 42", "42"),
        (r"it is \boxed 5", "5"),
        ("we count 3 and then 17 of them", "17"),
        ("nothing at all", None),
        (r"\boxed{6} \boxed{}", None),  # taken back, whatever else was said
        ("```python\nprint(25)\n```\n```output\n25\n```\nIt ran.", None),  # a program's number is not an answer
    ],
)
def test_an_evaluation_looks_beyond_the_box(text, answer):
    assert extract_answer(text, Strictness.LENIENT) == answer


def test_a_reward_needs_a_box_of_the_models_own():
    assert extract_answer("The answer is 5.") is None
    assert extract_answer("```output\n\\boxed{5}\n```\nDone.") is None


PROGRAMS = [
    *("python", "py", "Python", "PYTHON", "python3", " python", "ipython", "pycon", "sage", "c++", "bash", "sh"),
    *("output", "Output", "Output:", "stdout", "result", "text output", "tool_output", 'python title="a"', "{.python}"),
]


@pytest.mark.parametrize(("sign", "indent"), [("```", ""), ("~~~", ""), ("````", ""), ("```", "    "), ("```", "> ")])
@pytest.mark.parametrize("label", PROGRAMS)
def test_a_box_in_a_program_or_its_output_is_not_the_models_however_it_is_fenced(label, sign, indent):
    fenced = f"{indent}{sign}{label}\n{indent}\\boxed{{5}}\n{indent}{sign}\n"
    assert extract_answer(fenced + "It ran.") is None
    assert extract_answer(fenced + "So \\boxed{6}.") == "6"
    assert extract_answer(fenced.replace("\n", "\r\n") + "It ran.") is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("```\n\\boxed{5}\n```", "5"),
        ("```latex\n\\boxed{5}\n```", "5"),
        ("~~~text\n\\boxed{5}\n~~~", "5"),
        ("```\\boxed{5}```", "5"),
        ("```python\nx\n```output\n\\boxed{5}\n```\nSo \\boxed{6}", "6"),
        ("```python\nx\n```So \\boxed{6}", "6"),
        ("````python\n```\n\\boxed{5}\n```\n````\nIt ran.", None),
        ("```\nx\n```\n```python\n\\boxed{5}\n```", None),
        ("1. ```python\n   \\boxed{5}\n   ```", None),
        ("```python\n\\boxed{5}", None),
    ],
)
def test_fences_of_writing_are_read_and_those_of_programs_end_where_they_close(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    ("bare", "answer"),
    [
        (r"\boxed8", "8"),
        (r"\boxed 8.", "8"),
        (r"\fbox 8", "8"),
        (r"\boxed-8", "-8"),
        (r"\boxed .5", ".5"),
        (r"\boxed 0.5,", "0.5"),
        (r"\boxed 1,000", "1,000"),
        (r"$\boxed\frac{8}{1}$", r"\frac{8}{1}"),
        (r"\boxed\frac81", r"\frac81"),
        (r"\boxed\sqrt{2}", r"\sqrt{2}"),
        (r"\boxed\pi", r"\pi"),
        (r"\boxed $8$", "8"),
        (r"\boxed(3, 4)", "(3, 4)"),
        (r"\boxed\{1,2\}", r"\{1,2\}"),
        (r"\boxed\text{no}", r"\text{no}"),
        (r"\boxed x", "x"),
        (r"\boxed 8 and \boxed 9", "8, 9"),
    ],
)
def test_a_box_without_braces_is_read_and_replaces_an_earlier_one(bare, answer):
    assert extract_answer(bare) == answer
    assert extract_answer(rf"First \boxed{{7}}, corrected to {bare}") == answer
    assert extract_answer(rf"{bare} Corrected: \boxed{{7}}") == "7"


@pytest.mark.parametrize("mention", [r"I used \boxed as asked.", r"It is in `\boxed`.", r"See the \boxed.", r"\boxed"])
def test_a_sentence_about_boxes_replaces_no_answer(mention):
    assert extract_answer(rf"\boxed{{7}}. {mention}") == "7"


@pytest.mark.parametrize(
    "text", ["<ANSWER>42</ANSWER>", "<Answer> 42 </answer>", "<answer>7</answer> <ANSWER>42</ANSWER>"]
)
def test_tags_are_read_in_capitals_too(text):
    assert extract_answer(text) == "42"
