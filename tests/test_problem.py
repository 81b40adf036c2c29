"""Problem files: what is read, and how each kind of bad line is named."""

import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem, digest, read_problem_file, read_problems, write_problems

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


CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}]


@pytest.mark.parametrize(
    ("row", "answer", "columns"),
    [
        (
            {"prompt": CHAT, "reward_model": {"ground_truth": "2"}},
            "2",
            "`prompt`, answers from `reward_model.ground_truth`",
        ),
        ({"prompt": CHAT[1:], "reward_model": {"style": "rule", "ground_truth": 2}}, "2", "reward_model.ground_truth"),
        ({"problem": "1 + 1?", "solution": "So \\boxed{2}."}, "So \\boxed{2}.", "answers from `solution`"),
        ({"problem": "1 + 1?", "answer": "2", "solution": "So \\boxed{2}."}, "2", ""),
        ({"question": "1 + 1?", "answer": None, "ground_truth": "2"}, "2", "answers from `ground_truth`"),
        ({"question": "1 + 1?", "answer": " ", "solution": "#### 2"}, "#### 2", "answers from `solution`"),
        ({"query": "1 + 1?", "expected_answer": 2}, "2", "questions from `query`, answers from `expected_answer`"),
        ({"prompt": "1 + 1?", "final_answer": ["2"]}, "2", "answers from `final_answer`"),
        ({"prompt": [{"from": "human", "value": "1 + 1?"}], "answer": "2"}, "2", "the user's turn of `prompt`"),
        (
            {"prompt": [{"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}], "answer": "2"},
            "2",
            "the user's turn of `prompt`",
        ),
        ({"question": "1 + 1?", "answer": 2, "extra": None, "id": None, "source": None}, "2", ""),
    ],
)
def test_rows_are_read_in_the_layouts_that_are_published(tmp_path, row, answer, columns):
    found = read_problem_file(file_of(tmp_path, json.dumps(row)))
    assert [(p.question, p.answer, p.extra) for p in found.problems] == [("1 + 1?", answer, {})]
    assert found.rows == (row,)
    assert (columns in found.taken) if columns else (found.taken == "")


@pytest.mark.parametrize(
    ("blob", "advice"),
    [
        (b"PAR1\x15\x04 PAR1", "mine.jsonl is a parquet file; write it as JSONL"),
        (b"ARROW1\0\0 ", "is an Arrow file"),
        (b"\x1f\x8b\x08\0", "compressed; unpack it first: gunzip mine.jsonl"),
        (GOOD.encode("utf-16"), "in UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 mine.jsonl"),
        (GOOD.encode("utf-16-le"), "no text in UTF-8"),
        (GOOD.encode("utf-32"), "in UTF-16|no text"),
        ('{"question": "3 × 4?", "answer": 12}'.encode("latin-1"), r"line 1: not UTF-8 \(byte 0xd7 at column 17\)"),
        (b'[\n{"question": "a", "answer": 1}\n]', "one JSON array becomes JSONL by jq"),
        (b'{"question": "a", "answer": NaN}', "line 1: `answer` is nan, which is no answer"),
        (b'{"question": "a", "answer": -Infinity}', "line 1: `answer` is -inf, which is no answer"),
        (b'{"question": "a", "reward": 1}', r"found None \(the row has question, reward\).*`solution`.*ground_truth"),
        (b'{"text": "a", "answer": 1}', r"\(the row has text, answer\)"),
        (
            b'{"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "answer": 1}',
            "a chat may be a system turn and one turn of the user's",
        ),
    ],
)
def test_another_kind_of_file_or_row_is_refused_in_a_sentence_that_says_what_to_do(tmp_path, blob, advice):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(blob)
    with pytest.raises(UsageError, match=advice):
        read_problems(path)
