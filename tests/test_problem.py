"""Problem files: what is read, and how each kind of bad line is named."""

import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem, digest, read_problems, write_problems

GOOD = '{"question": "1 + 1?", "answer": "2"}'


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def test_problems_survive_writing_and_reading(tmp_path):
    problems = [
        Problem(id="a", question="x\u2028y é?\n{}", answer="\\frac{1}{2}", source="s", extra={"k": [1, {"z": None}]}),
        Problem(id="b", question="z", answer="", source="t"),
    ]
    write_problems(tmp_path / "p.jsonl", problems)
    assert read_problems(tmp_path / "p.jsonl") == problems


def test_a_question_and_an_answer_are_enough(tmp_path):
    [problem] = read_problems(file_of(tmp_path, GOOD))
    assert problem == Problem(id=digest("1 + 1?"), question="1 + 1?", answer="2", source="mine")


def test_the_default_id_depends_on_the_words_of_the_question_and_not_on_its_place_or_blanks(tmp_path):
    # printf '1 + 1?' | sha256sum
    assert digest("1  +\n1? ") == digest("1 + 1?") == "c97c3a9c9b99"
    first = read_problems(file_of(tmp_path, GOOD, '{"question": "2?", "answer": 2}'))
    moved = read_problems(file_of(tmp_path, '{"question": "2?", "answer": 2}', GOOD))
    assert {p.id for p in first} == {p.id for p in moved}


def test_a_problem_may_be_called_problem_and_an_answer_may_be_a_number(tmp_path):
    lines = '{"problem": "a", "answer": 7}', '{"problem": "b", "answer": 0.5}', '{"problem": "c", "answer": 0}'
    assert [(p.question, p.answer) for p in read_problems(file_of(tmp_path, *lines))] == [
        ("a", "7"),
        ("b", "0.5"),
        ("c", "0"),
    ]


def test_the_number_zero_is_an_id_as_good_as_any(tmp_path):
    lines = (json.dumps({"id": i, "question": f"q{i}", "answer": "1"}) for i in range(2))
    assert [p.id for p in read_problems(file_of(tmp_path, *lines))] == ["0", "1"]


def test_blank_lines_windows_line_ends_and_a_byte_order_mark_are_nothing(tmp_path):
    assert len(read_problems(file_of(tmp_path, "\ufeff" + GOOD + "\r", "", "  "))) == 1


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"question": "a"', r"not valid JSON \(Expecting ',' delimiter at column 17\)"),
        ("question,answer", "not valid JSON"),
        ("[1, 2]", "expected a JSON object, found list"),
        ('{"answer": "2"}', "`question` .* must be a non-empty string, found None"),
        ('{"question": " ", "answer": "2"}', "must be a non-empty string, found ' '"),
        ('{"question": 3, "answer": "2"}', "must be a non-empty string, found 3"),
        ('{"question": "a\\ud800", "answer": "2"}', "half of a surrogate pair"),
        ('{"question": "a"}', "`answer` must be a string or a number, found None"),
        ('{"question": "a", "answer": true}', "`answer` must be a string or a number, found True"),
        ('{"question": "a", "answer": ["2"]}', r"`answer` must be a string or a number, found \['2'\]"),
        ('{"question": "a", "answer": "2", "extra": 3}', "`extra` must be an object, found 3"),
        ('{"question": "a", "answer": ' + "1" * 5000 + "}", "JSON that Python cannot read"),
        (GOOD, "is used twice; ids must be unique"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, complaint):
    # blank lines count, as they do in an editor
    with pytest.raises(UsageError, match=rf"mine\.jsonl, line 4: .*{complaint}"):
        read_problems(file_of(tmp_path, GOOD, "", '{"question": "z", "answer": 1}', line))


def test_a_file_without_problems_or_none_at_all_is_said_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"mine\.jsonl holds no problems; expected JSONL"):
        read_problems(file_of(tmp_path, ""))
    with pytest.raises(UsageError, match=r"no problem file at .*none\.jsonl"):
        read_problems(tmp_path / "none.jsonl")
