from thor_tir.problem import Problem
from thor_tir.problems.overlap import overlapping_ids


def problem(name: str, question: str) -> Problem:
    return Problem(id=name, question=question, answer="0", source="test")


def words(first: int, last: int) -> str:
    return " ".join(f"w{n}" for n in range(first, last + 1))


def test_a_question_that_differs_in_case_and_spacing_only_is_the_same_question():
    train = [problem("same", "What is  2 + 2 ?"), problem("other", "what is 2 - 2 ?")]
    assert overlapping_ids(train, [problem("b", "what is 2 + 2 ?")]) == {"same"}


def test_thirteen_tokens_in_a_row_are_an_overlap_and_twelve_are_not():
    benchmark = [problem("b", words(1, 20))]
    train = [problem("thirteen", f"x {words(4, 16)} y"), problem("twelve", f"x {words(4, 15)} y")]
    assert overlapping_ids(train, benchmark) == {"thirteen"}
    assert overlapping_ids(train, benchmark, ngram=12) == {"thirteen", "twelve"}


def test_signs_count_as_tokens_so_long_formulas_are_found():
    # 7 numbers and 6 signs are 13 tokens, though only 7 words.
    formula = "1+2+3+4+5+6+7"
    assert overlapping_ids([problem("t", f"Add: {formula}!")], [problem("b", f"Compute {formula}.")]) == {"t"}
    assert overlapping_ids([problem("t", f"Add: {formula}!")], [problem("b", "Compute 1+2+3-4+5+6+7.")]) == set()
