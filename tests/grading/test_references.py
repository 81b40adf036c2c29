"""References as data sets publish them: what is read in them, what is none, and what a run says of them."""

import re

import pytest

from thor_tir.grading.extract import extract_answer
from thor_tir.grading.grader import Grader
from thor_tir.grading.references import check_references, is_marked, read_reference
from thor_tir.grading.types import pair
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Strictness


@pytest.mark.parametrize(
    ("published", "value"),
    [
        ("2*9=<<2*9=18>>18\n18+4=<<18+4=22>>22\n#### 22", "22"),
        ("#### 2,310", "2,310"),
        ("#### -6.5", "-6.5"),
        ("3+4=7. #### 7", "7"),
        ("####7", "7"),
        ("#### 3 #### 9", "9"),
        ("7+3=10\n#### 10\nThe answer is: 10", "10"),
        ("#### Answer\n\n12", "12"),
        ("### Final Answer\n12", "12"),
        ("#### \\boxed{12}", "12"),
        ("Answer: 12", "12"),
        ("**Answer:** 12", "12"),
        ("Final answer: $\\frac{1}{2}$.", "\\frac{1}{2}"),
        ("The final answer is $12$. I hope it is correct.", "12"),
        ("The answer is 2.5.", "2.5"),
        ("The answer is (3, 4).", "(3, 4)"),
        ("The answer is 1,234.", "1,234"),
        ("Solution. We find x = 3.\n\nAnswer: 3", "3"),
        ("The correct answer is (C)", "(C)"),
        ("答案是 5。", "5"),
        ("<answer> 12 </answer>", "12"),
        ("<think>so 5, no, 12</think>\n<answer>12</answer>", "12"),
        ("['12']", "12"),
        ('["12"]', "12"),
        ("['\\frac{1}{2}']", "\\frac{1}{2}"),
        ("'12'", "12"),
        ("We get \\boxed{12}.", "12"),
        (" 12\n", "12"),
    ],
)
def test_the_value_is_found_in_what_the_source_wrote(published, value):
    assert read_reference(published) == value


@pytest.mark.parametrize(
    "plain",
    ["12", "$12$", "[12]", "['3', '4']", r"\(12\)", r"\text{None}", "na", "No answer is possible", r"\#"],
)
def test_a_reference_without_a_wrapper_stays_as_it_is(plain):
    assert read_reference(plain) == plain
    assert not is_marked(plain)


@pytest.mark.parametrize(
    "prose",
    [
        "#### First step\nTwo terms vanish.\nThe rest is 7.",
        "So the answer is not an integer. We still find 7",
        r"\text{The answer is unknown}",
    ],
)
def test_a_text_whose_mark_marks_nothing_is_not_cut(prose):
    assert read_reference(prose) == prose


@pytest.mark.parametrize(
    "nothing",
    [
        *("", "  ", "None", "none", "nan", "NaN", "null", "NULL", "N/A", "n/a", "NA", "<NA>", "NaT", "#N/A"),
        *("['None']", "['']", "#### nan", "Answer: N/A", "<answer></answer>", "$$", r"\boxed{}", "####"),
    ],
)
def test_what_says_nothing_is_no_reference_and_leaves_the_attempt_unscored(nothing):
    assert read_reference(nothing) == ""
    with Grader() as grader:
        verdict = grader.begin(pair(nothing, "5")).result().verdict
    assert verdict.outcome is Outcome.UNSCORED
    assert "says nothing" in verdict.reason


def test_the_grader_compares_with_what_was_found():
    with Grader() as grader:
        found = [
            grader.begin(pair(reference, "17")).result(timeout=30).verdict.outcome
            for reference in ("20-3=17\n#### 17", "Answer: 17", "['17']", "<answer>18</answer>", "#### 18")
        ]
    assert found == [Outcome.CORRECT] * 3 + [Outcome.WRONG] * 2


def of(*answers: str, source: str = "mine") -> list[Problem]:
    return [Problem(id=f"p{i}", question="q", answer=answer, source=source) for i, answer in enumerate(answers)]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ("nan", "1 of 2 references say nothing .* for example 'nan' \\(p1\\)"),
        ("\\frac{1}{2", "1 of 2 references are not accepted as an answer to themselves"),
        ("It follows from the lemma above that the sum of both roots is seven.", "longer than 60 characters"),
        ("five\nsix", "hold a line break"),
    ],
)
def test_a_run_says_of_what_kind_and_how_many_its_doubtful_references_are(answer, fault):
    assert check_references(of("5", "#### 12")) == []
    [found] = check_references(of("5", answer))
    assert re.search(fault, found.sentence(2))


def test_a_long_solution_with_a_mark_is_no_fault_and_generated_problems_are_left_to_their_scorers():
    assert check_references(of("First we add.\nThen we multiply, which gives a number. " * 3 + "\n#### 12")) == []
    assert check_references(of("None", "a\nb", source="reasoning_gym/gcd")) == []
    [found] = check_references(of(*["None"] * 5))
    assert found.count == 5
    assert len(found.examples) == 3


@pytest.mark.parametrize(
    ("published", "value"),
    [
        ("Answer: .5", ".5"),
        ("The answer is .25", ".25"),
        ("The answer is .25.", ".25"),
        ("Answer: $.50", ".50"),
        ("Answer: $.50$", ".50"),
        ("Answer: **.5**", ".5"),
        ("Answer: -.5", "-.5"),
        ("Final answer:.125", ".125"),
        ("The answer is ...5", "5"),
    ],
)
def test_a_leading_point_belongs_to_its_number(published, value):
    assert read_reference(published) == value
    assert extract_answer(published, Strictness.LENIENT) == value


def test_a_leading_point_is_kept_without_an_announcement_too():
    assert read_reference("#### .5") == ".5"
    found = [
        extract_answer(text, Strictness.LENIENT)
        for text in ("It costs $.50", "about .5 of it", "it is roughly -.25 then")
    ]
    assert found == [".50", ".5", "-.25"]


@pytest.mark.parametrize(
    ("published", "value"),
    [
        (r"So \boxed{3}. Thus \boxed{4}", "4"),
        (r"\boxed{3} so \boxed{4}", "4"),
        (r"\boxed{3} hence \boxed{4}", "4"),
        (r"\boxed{2}+\boxed{3}=\boxed{5}", "5"),
        (r"\boxed{2} \cdot \boxed{3} = \boxed{6}", "6"),
        (r"\boxed{2} and \boxed{3}", "2, 3"),
        (r"$\boxed{2}$ or $\boxed{3}$", "2, 3"),
        (r"\boxed{2}, \boxed{3}", "2, 3"),
        (r"\boxed{1} papers and \boxed{2} bins", "1, 2"),
        ("#### 5\n#### Note: check", "5"),
        ("3+2=5\n#### 5\n#### Explanation\nWe add.", "5"),
        ("<ANSWER>42</ANSWER>", "42"),
        ("<Answer> 42 </answer>", "42"),
    ],
)
def test_of_several_marks_the_conclusion_counts_and_only_a_list_joins_boxes(published, value):
    assert read_reference(published) == value


@pytest.mark.parametrize(
    "published",
    [
        r"Area \boxed{12}, not \boxed{13}",
        r"\boxed{12}. Correction: \boxed{13}",
        r"\boxed{12}, wait, \boxed{13}",
        r"\boxed{12} \ne \boxed{13}",
        "Answer: 3\nCorrection: 4",
        "#### 3\nErratum: it should be 4",
        "The answer is 3.\nSorry, it is 4.",
    ],
)
def test_a_reference_that_corrects_itself_is_none_and_is_said(published):
    assert read_reference(published) == ""
    [found] = check_references(of("5", published))
    assert "correct it" in found.sentence(2)


@pytest.mark.parametrize(
    "nothing",
    [
        *(
            "None.",
            "null.",
            "N.A.",
            "n.a.",
            "N/A.",
            "-",
            "--",
            "?",
            "[None]",
            "[nan]",
            "np.nan",
            "float('nan')",
            "math.nan",
        ),
        *("unknown", "Unknown.", "not available", "Answer: unknown", "#### None."),
    ],
)
def test_other_spellings_of_nothing_are_no_reference_either(nothing):
    assert read_reference(nothing) == ""


@pytest.mark.parametrize(
    "doubtful",
    [
        *("(B) 12", "B. 12", "Die Antwort ist 42.", "Ответ 42", "La respuesta es 42", "答えは42です", "#### 1/2 or so"),
        *("#### 1/2 blorp flagons", "about 12 or 13", "between 3 and 5 inclusive", "It takes Ann 5 days.", "7 halves"),
        *('{"answer": 5}', "{'x': 1}", '[{"value": 3}]'),
    ],
)
def test_text_around_a_value_is_said_because_the_value_alone_is_not_right(doubtful):
    [found] = check_references(of("5", doubtful))
    assert re.search("words or signs around a value|are records", found.sentence(2))


@pytest.mark.parametrize(
    "plain",
    [
        *(
            "5 cm",
            r"5\text{ cm}^2",
            r"\$5",
            "10%",
            "3 and 4",
            r"3\text{ or }4",
            r"x \in [3, 4]",
            r"\sin 3",
            "x=5",
            "1,234",
        ),
        *(
            r"\frac{1}{2}",
            "(3, 4)",
            "-5",
            ".5",
            "3:45 pm",
            r"\text{east}",
            "(C)",
            "x^2+3x",
            r"\begin{pmatrix}1\\2\end{pmatrix}",
        ),
        *("5 apples", r"\log_2 5", "52_8", r"90^\circ", "2^{10}", r"3\sqrt{2}\text{ cm}"),
    ],
)
def test_values_with_their_units_and_signs_are_in_order(plain):
    assert check_references(of("5", plain)) == []
