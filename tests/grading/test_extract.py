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
