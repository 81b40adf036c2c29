"""`thor show`: a line for each trajectory of any run, filters, and one with its repairs and its reference."""

import io
import json
from dataclasses import asdict
from math import inf
from pathlib import Path

import pytest
from rich.console import Console

from fake_run import stored, write_lines
from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.rollout.sample_many import attempt_to_json
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Outcome
from thor_tir.view.run import ViewedRun
from thor_tir.view.selection import Selection
from thor_tir.view.terminal import Asked, show
from viewed_runs import RIGHT, attempt, evaluation_run, problem, training_run


def shown(folder: Path, id: str = "", *, most: int = 0, **filters: str) -> str:
    out = io.StringIO()
    reporter = ConsoleReporter(Console(file=out, width=100, highlight=False))
    show(folder, Asked(id=id, selection=Selection(**filters), most=most), reporter)
    return out.getvalue()


def keys(folder: Path, **filters: str) -> list[str]:
    return [line.split()[0] for line in shown(folder, **filters).splitlines()[1:]]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = training_run(tmp_path / "run", rounds=2)
    asked = Journal(folder / "rl" / "problems.jsonl")
    for number in range(2):
        asked.add(f"gcd-{number}", asdict(problem(f"gcd-{number}")))
    return folder


def test_a_list_says_of_each_trajectory_how_it_ended_what_failed_and_what_was_repaired(trained: Path) -> None:
    heading, *lines = shown(trained).splitlines()
    assert heading == "rl/rollouts: 8 trajectories of rounds 1 to 2"
    assert len(lines) == 8
    (failed,) = [line for line in lines if line.startswith("round1/0/3 ")]
    assert [part.strip() for part in failed.split("  ") if part.strip()][:5] == [
        *("round1/0/3", "wrong", "1 call", "1 failed", "4 repairs")
    ]


@pytest.mark.parametrize(
    ("filters", "ends"),
    [
        ({"call": "failed"}, ["round1/0/3", "round2/0/3"]),
        ({"repaired": "yes", "round": "last"}, ["round2/0/3"]),
        ({"outcome": "wrong", "round": "1"}, ["round1/0/2", "round1/0/3"]),
    ],
)
def test_filters_may_be_combined(trained: Path, filters: dict[str, str], ends: list[str]) -> None:
    assert sorted(keys(trained, **filters)) == ends


def test_a_long_list_is_cut_and_says_how_much_is_left(trained: Path) -> None:
    assert shown(trained, most=3).splitlines()[-1].startswith("5 more: --limit 0 lists all")


def test_one_trajectory_is_printed_with_its_reference_the_kept_thought_and_each_repair(trained: Path) -> None:
    text = shown(trained, "round2/0/3")
    assert "round 2" in text.splitlines()[0]
    for word in (
        "question: ",
        "reference: 12",
        "output: runtime",
        "repair 1 of 4, reward ",
        "repair 4 of 4",
        "kept: ",
    ):
        assert word in text, word


def test_for_one_trajectory_no_other_ones_are_read(trained: Path) -> None:
    run = ViewedRun(trained, "run")
    run.refresh(inf, holding="round1/0/3")
    kept = {entry.key for _, entry in run.rows()}
    assert "round1/0/3" in kept
    assert all(key.startswith("round1/0/3") for key in kept)
    assert "gcd-0" in run.problems


def test_the_beginning_of_ids_lists_and_an_id_that_nothing_has_is_refused(trained: Path) -> None:
    assert len(shown(trained, "round2").splitlines()) == 5
    with pytest.raises(UsageError, match=r"id beginning with 'round7'; `thor show .*` lists them"):
        shown(trained, "round7")


def test_tirgen_and_evaluations_are_read_as_they_are(tmp_path: Path) -> None:
    made = attempt("sum/0", problem("sum"), RIGHT, Outcome.CORRECT, "12")
    row = {**attempt_to_json(made), "problem": asdict(made.problem), "critic": {"rewritten": 1}}
    Journal(tmp_path / "tirgen" / "raw.jsonl").add("sum/0", row)
    heading, line = shown(tmp_path / "tirgen").splitlines()
    assert heading == "raw: 1 trajectories"
    assert line.split() == ["sum/0", "correct", "1", "call", *made.problem.question.split()]
    evaluated = evaluation_run(tmp_path / "eval", problems=1)
    assert keys(evaluated, repaired="yes") == ["p-0/3"]
    text = shown(evaluated, "p-0/3")
    assert "discarded attempt 1 of 1" in text
    assert "graded correct: made up for a test" in text


def test_folders_without_trajectories_get_a_sentence_that_fits(trained: Path, tmp_path: Path) -> None:
    sft, empty = tmp_path / "sft", tmp_path / "empty"
    empty.mkdir()
    Journal(sft / "metrics.jsonl").add("1", {"step": 1, "loss": 0.5})
    (sft / "run.json").write_text(json.dumps({"command": "thor sft", "options": {"data": "runs/tirgen/dataset.jsonl"}}))
    with pytest.raises(UsageError, match=r"a cold start, which samples nothing; .* is in runs/tirgen/dataset.jsonl"):
        shown(sft)
    with pytest.raises(UsageError, match="holds no trajectories; give the folder of a run of tirgen, rl, eval"):
        shown(empty)
    with pytest.raises(UsageError, match="there is no folder"):
        shown(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"no trajectory in .* is as asked for"):
        shown(trained, outcome="unscored")


def test_a_transcript_that_stands_alone_shows_its_own_repairs(tmp_path: Path) -> None:
    write_lines(tmp_path / "trajectories.jsonl", [stored(1, stage="RL round 1", outcome=Outcome.WRONG, failed=True)])
    text = shown(tmp_path, "p1/0")
    assert "repair 1 of 1, reward 1" in text
    assert "Import it first." in text
