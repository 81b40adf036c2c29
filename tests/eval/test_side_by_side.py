"""Evaluations side by side: the first is what the others are compared with."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scripted_agent import program
from scripted_benchmark import TOOLS_SPEC, play, right, scripted_run, set_of, wrong
from thor_tir.app.stages.evaluate import results_of
from thor_tir.commands.evaluation import EvalTable
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.side_by_side import TABLES, rows, side_by_side
from thor_tir.inference.self_correction import SelfCorrectionConfig
from thor_tir.problem import Problem

SUMS = [Problem(id=f"sum/{i}", question=f"What is {i} plus {i}?", answer=str(2 * i), source="mine") for i in (11, 12)]
FAILING = "We compute the sum of both.\n" + program("boom")


def failing_then_right(problem: Problem) -> list[str]:
    """Both attempts fail at first; one retry writes the same program again, the next one runs."""
    return [FAILING, "So.\n" + program("boom"), "So.\n" + program("print(1)"), right(problem)[0]] * 2


def failing_then_wrong(problem: Problem) -> list[str]:
    return [FAILING, "So.\n" + program("print(1)"), wrong(problem)[0]] * 2


def evaluated(folder: Path, replies, correction: SelfCorrectionConfig | None) -> EvalFolder:
    spec = replace(TOOLS_SPEC, correction=correction)
    play(run := scripted_run(folder, [set_of(*SUMS)], spec=spec), replies)
    return run.folder


def test_each_run_is_set_against_the_first_in_accuracy_calls_and_cost(tmp_path: Path) -> None:
    none = evaluated(tmp_path / "none", failing_then_wrong, None)
    repaired = evaluated(tmp_path / "replan", failing_then_right, SelfCorrectionConfig(scope="replan"))
    base, line = side_by_side([(folder, results_of(folder)) for folder in (none, repaired)])
    assert base["minus_first"] is None
    # two problems, both wrong in every attempt of the first run and right in every attempt of the second
    assert line["minus_first"]["accuracy"]["value"] == 1.0
    # four attempts: one failed call each, repaired by the second of two retries, of which the first repeats the program
    assert line["result"]["correction"] == {
        "failed": 4,
        "repaired": 4,
        "recovered": 0,
        "dropped": 0,
        "retries": 8,
        "repeats": 4,
        "discarded_calls": 8,
        "discarded_s": 0.0,
    }
    assert (line["result"]["calls_succeeded"], line["result"]["calls_failed"]) == (4, 0)
    # without repairs the error stays, and the call after it succeeds
    assert base["result"]["correction"]["recovered"] == 4
    assert (base["result"]["calls_succeeded"], base["result"]["calls_failed"]) == (4, 4)
    paid = line["result"]["tokens_kept"] + line["result"]["tokens_discarded"]
    before = base["result"]["tokens_kept"] + base["result"]["tokens_discarded"]
    assert line["minus_first"]["tokens"]["value"] == pytest.approx(paid - before)
    assert [len({*map(len, (head, *found))}) for head, found in (rows([base, line], title) for title in TABLES)] == [
        1
    ] * 3


def test_the_command_prints_the_tables_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [evaluated(tmp_path / name, replies, None).path for name, replies in (("a", right), ("b", wrong))]
    EvalTable(folders=tuple(folders), output=tmp_path / "table").run()
    shown = capsys.readouterr().out
    assert all(title in shown for title in TABLES)
    assert "| b | 0.0 (0.0-84.2) | -100.0 (" in (tmp_path / "table" / "table.md").read_text()
    assert [line["name"] for line in json.loads((tmp_path / "table" / "table.json").read_text())] == ["a", "b"]


def test_one_run_alone_and_other_problems_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        EvalTable(folders=(tmp_path,)).run()
    play(first := scripted_run(tmp_path / "a", [set_of(*SUMS)]), right)
    play(second := scripted_run(tmp_path / "b", [set_of(SUMS[0])]), right)
    with pytest.raises(UsageError, match="1 differ, for example sum/12"):
        EvalTable(folders=(first.folder.path, second.folder.path)).run()
