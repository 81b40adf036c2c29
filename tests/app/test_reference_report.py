"""What a run says of its references on the console, in its folder, and in the results of an evaluation."""

import json

from thor_tir.app.reference_report import report_references, with_reference_notes
from thor_tir.problem import read_problems
from thor_tir.problems.sets import load_set


def rows(path, *answers: str, column: str = "answer"):
    lines = (json.dumps({"question": f"q{i}", column: answer}) for i, answer in enumerate(answers))
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_a_stage_says_once_which_columns_it_reads_and_which_references_are_none_and_keeps_it(tmp_path):
    spec, said = rows(tmp_path / "mine.jsonl", "5", "None", "nan", column="ground_truth"), []
    report_references(read_problems(tmp_path / "mine.jsonl"), spec, said.append, tmp_path)
    assert said[0] == f"{spec}: questions from `question`, answers from `ground_truth`"
    assert said[1].startswith(f"{spec}: 2 of 3 references say nothing")
    assert len(said) == 2
    kept = json.loads((tmp_path / "references.json").read_text())
    assert (kept["problems"], kept["columns"], [fault["count"] for fault in kept["faults"]]) == (
        3,
        said[0][len(spec) + 2 :],
        [2],
    )


def test_an_evaluations_set_bears_the_same_as_notes_which_results_show(tmp_path):
    said = []
    asked = with_reference_notes(load_set(rows(tmp_path / "mine.jsonl", "5", "x\ny", "6")), said.append)
    assert len(asked.notes) == 1
    assert asked.notes[0].startswith("mine: 1 of 3 references hold a line break")
    assert said == list(asked.notes)


def test_references_without_a_fault_are_not_spoken_of(tmp_path):
    said = []
    spec = rows(tmp_path / "mine.jsonl", "5", "#### 6", "So \\boxed{7}.")
    report_references(read_problems(tmp_path / "mine.jsonl"), spec, said.append)
    assert with_reference_notes(load_set(spec), said.append).notes == ()
    assert said == []


def test_a_count_that_cuts_a_file_is_said(tmp_path):
    spec, said = rows(tmp_path / "mine.jsonl", "5", "6", "7"), []
    report_references(read_problems(tmp_path / "mine.jsonl")[:2], spec, said.append, count=2)
    report_references(read_problems(tmp_path / "mine.jsonl"), spec, said.append, count=3)
    assert said == [f"{spec}: the first 2 of 3 problems are used; --count takes more"]
