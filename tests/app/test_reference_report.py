"""What a run says of its references on the console, in its folder, and in the results of an evaluation."""

import json
from copy import deepcopy

import pytest

from thor_tir.app.reference_report import report_problems, say_unread, with_reference_notes, with_unread_note
from thor_tir.dialect.dialect import Dialect
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.problems.sets import load_set
from thor_tir.problems.sources import ProblemChoice, load_problems
from tiny_models import tiny_tokenizer


def rows(path, *answers: str, column: str = "answer"):
    lines = (json.dumps({"question": f"q{i}", column: answer}) for i, answer in enumerate(answers))
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def test_a_stage_says_once_which_columns_it_reads_and_which_references_are_none_and_keeps_it(tmp_path):
    spec, said = rows(tmp_path / "mine.jsonl", "5", "None", "nan", column="ground_truth"), []
    report_problems(load_problems(spec), spec, said.append, tmp_path)
    assert said[0] == f"{spec}: questions from `question`, answers from `ground_truth`"
    assert said[1].startswith(f"{spec}: 2 of 3 references say nothing")
    assert len(said) == 2
    kept = json.loads((tmp_path / "references.json").read_text())
    assert (kept["problems"], kept["taken"], [fault["count"] for fault in kept["faults"]]) == (
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
    report_problems(load_problems(spec), spec, said.append)
    assert with_reference_notes(load_set(spec), said.append).notes == ()
    assert said == [f"{spec}: questions from `question`, answers from `answer`"]


def test_what_is_left_out_of_a_file_is_said_and_kept_and_a_note_of_an_evaluation(tmp_path):
    spec, said = rows(tmp_path / "mine.jsonl", "5", "6", "7"), []
    again = (tmp_path / "mine.jsonl").read_text() + json.dumps({"question": "q0", "answer": "5"}) + "\n"
    (tmp_path / "mine.jsonl").write_text(again)
    report_problems(load_problems(spec, choice=ProblemChoice(first=2)), spec, said.append, tmp_path)
    left_out = ["repeated questions, left out: 1", "the first 2 of 3 problems are used"]
    assert said[1:] == [f"{spec}: {sentence}" for sentence in left_out]
    assert json.loads((tmp_path / "references.json").read_text())["left_out"] == left_out
    assert load_set(spec).notes == ("mine: repeated questions, left out: 1",)


def test_a_run_that_goes_on_with_other_problems_is_refused(tmp_path):
    for answers, refused in ((("5", "6"), False), (("5", "6"), False), (("5", "7"), True)):
        spec = rows(tmp_path / "mine.jsonl", *answers)
        if refused:
            with pytest.raises(UsageError, match=r"mine\.jsonl are not those that the run in .* began with"):
                report_problems(load_problems(spec), spec, lambda line: None, tmp_path)
        else:
            report_problems(load_problems(spec), spec, lambda line: None, tmp_path)


def test_a_template_that_leaves_out_system_messages_is_said_with_their_number():
    said = []
    problems = [Problem(id=name, question="q", answer="1", source="s", system=name) for name in ("", "a", "b")]
    tokenizer = deepcopy(tiny_tokenizer())
    say_unread(problems, Dialect(tokenizer), said.append)
    assert said == []
    tokenizer.init_kwargs["reads_rules"] = False
    tokenizer.chat_template = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"
    say_unread(problems, Dialect(tokenizer), said.append)
    assert said == ["the model's chat template leaves out system messages, also those of 2 problems"]
    asked = ProblemSet(name="s", title="s", problems=tuple(problems), sha256="")
    assert with_unread_note(asked, Dialect(tokenizer), said.append).notes == (f"s: {said[0]}",)
