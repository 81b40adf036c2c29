"""Data sets of one's own: what is read, from which columns, and how each kind of bad row is named."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problem import Problem, digest, write_problems
from thor_tir.problems.columns import ProblemFields
from thor_tir.problems.data_set import read_data_set, read_problems

GOOD = '{"question": "1 + 1?", "answer": "2"}'


def file_of(folder: Path, *lines: str) -> Path:
    path = folder / "mine.jsonl"
    path.write_bytes(("\n".join(lines) + "\n").encode())
    return path


def test_problems_survive_writing_and_reading(tmp_path):
    problems = [
        Problem(
            id="a",
            question="x\u2028y é?\n{}",
            answer="\\frac{1}{2}",
            source="s",
            extra={"k": [1, {"z": None}]},
            system="Be",
        ),
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
        ("question,answer", r"not valid JSON .*; a table of comma-separated values is named \.csv"),
        ("[1, 2]", "expected a JSON object, found list"),
        ('{"answer": "2"}', "`question` .* must be a non-empty string, found None"),
        ('{"question": " ", "answer": "2"}', "must be a non-empty string, found ' '"),
        ('{"question": 3, "answer": "2"}', "must be a non-empty string, found 3"),
        ('{"question": "a\\ud800", "answer": "2"}', "half of a surrogate pair"),
        ('{"question": "a"}', "`answer` must be a string or a number, found None"),
        ('{"question": "a", "answer": true}', "`answer` must be a string or a number, found True"),
        ('{"question": "a", "answer": ["2", "3"]}', r"`answer` must be a string or a number, found \['2', '3'\]"),
        ('{"question": "a", "answer": "2", "extra": 3}', "`extra` must be an object, found 3"),
        ('{"question": "a", "answer": ' + "1" * 5000 + "}", "JSON that Python cannot read"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path, line, complaint):
    # blank lines count, as they do in an editor
    with pytest.raises(UsageError, match=rf"mine\.jsonl, line 4: .*{complaint}"):
        read_problems(file_of(tmp_path, GOOD, "", '{"question": "z", "answer": 1}', line))


def test_a_file_without_problems_or_none_at_all_is_said_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match=r"mine\.jsonl holds no problems; expected JSONL, JSON, CSV"):
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
        ({"Problem": "1 + 1?", "ANSWER": ["2"]}, "2", "questions from `Problem`, answers from `ANSWER`"),
        ({"question": "1 + 1?", "answer": None}, "", "questions from `question`, answers from `answer`"),
        ({"question": "1 + 1?", "answer": float("nan")}, "", "answers from `answer`"),
        ({"prompt": CHAT[1:], "extra_info": {"answer": "2"}}, "2", "answers from `extra_info.answer`"),
    ],
)
def test_rows_are_read_in_the_layouts_that_are_published(tmp_path, row, answer, columns):
    found = read_data_set(str(file_of(tmp_path, json.dumps(row))))
    assert [(p.question, p.answer, p.extra) for p in found.problems] == [("1 + 1?", answer, {})]
    assert (columns in found.taken) if columns else found.is_usual


def test_a_row_alone_with_a_chat_of_several_turns_is_a_row_and_not_a_list_of_them(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    with pytest.raises(UsageError, match="a chat may be a system turn and one turn of the user's"):
        read_problems(file_of(tmp_path, json.dumps({"prompt": turns, "answer": 1})))


def test_facts_of_a_table_become_values_of_json(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    facts = {"on": date(2026, 1, 2), "rate": float("nan"), "tags": ["a"]}
    rows = [{"question": "1 + 1?", "answer": Decimal("2.50"), "extra": facts, "level": 3}]
    pyarrow.parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "mine.parquet")
    [problem] = read_problems(tmp_path / "mine.parquet")
    assert problem.answer == "2.50"
    assert problem.extra == {"on": "2026-01-02", "rate": None, "tags": ["a"], "level": 3}


def test_named_columns_are_taken_wherever_they_lie(tmp_path):
    row = {
        "question": "not this",
        "item": {"texts": ["a", "1 + 1?"]},
        "target.value": 2,
        "chat": [*CHAT, {"role": "assistant", "content": "So \\boxed{2}."}],
    }
    path = str(file_of(tmp_path, json.dumps(row)))
    nested = read_data_set(path, ProblemFields(question_field="item.texts.1", answer_field="target.value"))
    assert [(p.question, p.answer) for p in nested.problems] == [("1 + 1?", "2")]
    assert nested.taken == "questions from `item.texts.1`, answers from `target.value`"
    chat = read_data_set(path, ProblemFields(question_field="chat", answer_field="chat"))
    assert [(p.question, p.answer, p.system) for p in chat.problems] == [("1 + 1?", "So \\boxed{2}.", "Be brief.")]
    assert chat.taken == (
        "questions from the user's turn of `chat`, answers from the assistant's turn of `chat`, "
        "system messages from the system turn of `chat`"
    )


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"question_field": "text"}, r"`text` must be .* \(the row has question, answer; --question-field names"),
        ({"answer_field": "gold"}, r"`gold` must be .* \(the row has question, answer; --answer-field names"),
        ({"system_field": "rules"}, r"`rules` is missing \(the row has question, answer; --system-field names"),
    ],
)
def test_a_named_column_that_is_missing_is_refused_with_the_columns_there_are(tmp_path, fields, complaint):
    with pytest.raises(UsageError, match=complaint):
        read_data_set(str(file_of(tmp_path, GOOD)), ProblemFields(**fields))


@pytest.mark.parametrize(
    ("row", "field", "system"),
    [
        ({"question": "a", "answer": 1, "system": "Be brief."}, "", "Be brief."),
        ({"prompt": CHAT, "answer": 1}, "", "Be brief."),
        ({"prompt": CHAT, "answer": 1}, "none", ""),
        ({"prompt": CHAT, "answer": 1, "rules": "Be long."}, "rules", "Be long."),
        ({"question": "a", "answer": 1, "chat": CHAT}, "chat", "Be brief."),
        ({"question": "a", "answer": 1, "system": None}, "", ""),
    ],
)
def test_a_system_message_is_that_of_its_column_or_of_the_chat(tmp_path, row, field, system):
    found = read_data_set(str(file_of(tmp_path, json.dumps(row))), ProblemFields(system_field=field))
    assert [p.system for p in found.problems] == [system]
    assert ("system messages from" in found.taken) == bool(system)


def test_a_repeated_question_is_used_once_and_an_id_of_two_questions_is_completed_and_all_is_counted(tmp_path):
    rows = [
        {"question": "1 + 1?", "answer": "2"},
        {"question": "1  + 1?", "answer": "2"},
        {"question": "1 + 1?", "answer": "3"},
        {"id": 7, "question": "2 + 2?", "answer": "4"},
        {"id": 7, "question": "3 + 3?", "answer": "6"},
        {"id": 7, "question": "3 + 3?", "answer": "6"},
        {"id": 8, "question": "4 + 4?", "answer": None},
    ]
    found = read_data_set(str(file_of(tmp_path, *map(json.dumps, rows))))
    assert [(p.id, p.answer) for p in found.problems] == [
        (digest("1 + 1?"), "2"),
        ("7", "4"),
        (f"7-{digest('3 + 3?')}", "6"),
        ("8", ""),
    ]
    assert found.left_out == (
        "repeated questions, left out: 3 (1 with another answer)",
        "questions with the id of another one, completed by a digest: 1",
    )


def test_columns_that_compete_and_rows_that_differ_are_said(tmp_path):
    both = {"question": "1?", "problem": "2?", "answer": "1"}
    assert read_data_set(str(file_of(tmp_path, json.dumps(both)))).is_usual is False
    found = read_data_set(
        str(file_of(tmp_path, json.dumps({**both, "question": ""}), '{"question": "3?", "answer": 3}'))
    )
    assert not found.is_usual
    assert "questions from `problem`, answers from `answer` (1 of 2)" in found.taken


def test_files_of_no_split_beside_those_of_one_are_named(tmp_path):
    for name in ("train", "more"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"question": name, "answer": "1"}))
    found = read_data_set(str(tmp_path))
    assert [p.question for p in found.problems] == ["train"]
    assert "1 of no split left out: more.jsonl" in found.taken
