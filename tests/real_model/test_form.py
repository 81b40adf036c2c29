"""What the small real model learns first: to put the value that it states into a box, in its own words."""

import json
from pathlib import Path

import pytest

from real_model.form import boxed, write_form


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("2 + 3 = 6.\n\nSo, the answer is 6.", "6", "2 + 3 = 6.\n\nSo, the answer is \\boxed{6}."),
        ("The answer is 3/2.", "3/2", "The answer is \\boxed{3/2}."),
        ("It is 12 + 2 = 14.\n", "14", "It is 12 + 2 = \\boxed{14}.\n"),
        ("It is 7.\n\nThis ends it.", "7", None),
        ("Your answer is correct.", "correct", None),
        ("So " + "1 + " * 20 + "1", "1 + " * 20 + "1", None),
    ],
)
def test_the_value_of_the_last_paragraph_is_boxed_and_nothing_else_changes(text, value, expected):
    assert boxed(text, value) == expected


def row(number: int, text: str, finish: str = "ended", extracted: str | None = "6") -> dict[str, object]:
    whole = {"finish": finish, "steps": [{"thought": {"text": text}}]}
    return {"problem_id": f"p{number}", "extracted": extracted, "trajectory": whole}


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir()
    path.write_text("".join(json.dumps(each) + "\n" for each in rows))


def test_answers_that_were_cut_off_say_nothing_or_have_a_box_are_left_out(tmp_path):
    lines(tmp_path / "problems" / "q.jsonl", [{"id": f"p{n}", "question": f"{n} + 1?"} for n in range(4)])
    rows = [
        row(0, "So it is 6."),
        row(1, "So it is 6.", finish="token_limit"),
        row(2, "This is it.", extracted=None),
        row(3, "So \\boxed{6}."),
    ]
    lines(tmp_path / "attempts" / "q.jsonl", rows)
    assert write_form(tmp_path / "form.jsonl", tmp_path) == 1
    (chat,) = map(json.loads, (tmp_path / "form.jsonl").read_text().splitlines())
    asked, answer = (turn["content"] for turn in chat["messages"][1:])
    assert asked.startswith("0 + 1?")
    assert answer == "So it is \\boxed{6}."
