"""Which benchmark problems a training problem overlaps with, and how much."""

from thor_tir.problem import Problem
from thor_tir.problems.overlap import overlaps


def problem(name: str, question: str) -> Problem:
    return Problem(id=name, question=question, answer="0", source="test")


def words(first: int, last: int) -> str:
    return " ".join(f"w{n}" for n in range(first, last + 1))


def test_the_same_letters_and_digits_are_the_same_question_whatever_stands_between() -> None:
    (found,) = overlaps([problem("t", r"Find $x^2$, if  $x = 3$.")], [problem("b", r"find \(x^2\) if $x=3$")])
    assert (found.train_id, found.exact, found.shared, found.share) == ("t", ("b",), (), 0.0)


def test_layout_that_latex_writes_for_the_eye_tells_no_questions_apart() -> None:
    train = problem("t", r"Let \[a^3 - \dfrac{1}{2} = 0 \quad \text{and} \quad \left(b\right) = 1.\] Compute $a + b$.")
    copied = problem("b", r"\quad Let $$ a^{3}-\frac{1}{2}=0 \text { and }(b)=1. $$ Compute $a+b$.")
    (found,) = overlaps([train], [copied])
    assert found.exact == ("b",)
    arrow, left = problem("t", r"a \rightarrow b"), problem("b", r"a \leftarrow b")
    assert overlaps([arrow], [left]) == []


def test_signs_alone_still_tell_questions_apart() -> None:
    assert overlaps([problem("t", "+ - ?")], [problem("b", "- + ?")]) == []


def test_the_share_is_that_of_the_shorter_questions_runs() -> None:
    # 20 words have 18 runs of 3, 8 words 6; w1 .. w5 in common are 3 runs: 3 / 6.
    train, benchmark = [problem("t", f"{words(1, 5)} x y z")], [problem("b", words(1, 20))]
    (found,) = overlaps(train, benchmark, ngram=3, share=0.5)
    assert (found.shared, found.share, found.exact) == (("b",), 0.5, ())
    assert found.run == "w1 w2 w3"
    assert overlaps(train, benchmark, ngram=3, share=0.51) == []


def test_a_stock_phrase_is_no_overlap_when_a_share_is_asked_for() -> None:
    phrase = "where m and n are relatively prime positive integers find the value of m plus n"  # 16 words: 4 runs of 13
    train = [problem("t", f"{words(1, 40)} {phrase}")]
    benchmark = [problem("b", f"{words(50, 90)} {phrase}")]
    assert [found.train_id for found in overlaps(train, benchmark)] == ["t"]
    assert overlaps(train, benchmark, share=0.2) == []
