"""Results, failures and cost of a run, from its files and, while there are none, from its journals."""

import json
from pathlib import Path

from thor_tir.view.outcomes import outcomes
from thor_tir.view.run import ViewedRun, open_runs
from viewed_runs import evaluation_run, training_run


def opened(folder: Path) -> ViewedRun:
    (run,) = open_runs([folder])
    run.refresh(10)
    return run


def test_journals_tell_what_is_known_before_there_are_results(tmp_path: Path) -> None:
    found = outcomes(opened(training_run(tmp_path / "run", rounds=3)))
    assert (found["results"], found["summary"], found["funnels"]) == ([], {}, [])
    (stage,) = found["stages"]
    assert (stage["trajectories"], stage["right"], stage["repairs"], stage["repairs_ran"]) == (12, 0.5, 12, 0.5)
    assert (stage["calls"], stage["succeeded"]) == (12, 0.75)  # of each round's four calls one fails


def test_failures_of_the_first_and_the_last_round_stand_side_by_side(tmp_path: Path) -> None:
    first, last = outcomes(opened(training_run(tmp_path / "run", rounds=3)))["failures"]
    assert (first["name"], last["name"]) == ("rl/rollouts, round 1", "rl/rollouts, round 3")
    assert (first["classes"], first["calls"]) == ({"NameError": 1}, 4)


def test_results_are_those_of_the_whole_run_or_else_of_each_evaluation(tmp_path: Path) -> None:
    entry = {"title": "toy", "avg": {"value": 0.5, "ci95": [0.4, 0.6]}, "unknown": 1}
    folder = training_run(tmp_path / "run", rounds=1)
    single = {"name": "single", "model": "m", "sets": [entry]}
    for name in ("one", "two"):
        (folder / "eval" / name).mkdir(parents=True)
        (folder / "eval" / name / "results.json").write_text(json.dumps(single))
    assert [row["name"] for row in outcomes(opened(folder))["results"]] == ["single", "single"]
    (folder / "results.json").write_text(json.dumps({"runs": [{**single, "name": "whole"}]}))
    (row,) = outcomes(opened(folder))["results"]
    assert (row["name"], row["set"], row["avg"]) == ("whole", "toy", entry["avg"])
    assert "unknown" not in row


def test_versions_that_were_cut_away_are_counted(tmp_path: Path) -> None:
    (stage,) = outcomes(opened(evaluation_run(tmp_path / "run")))["stages"]
    assert (stage["corrected"], stage["trajectories"], stage["right"]) == (3, 12, 0.75)


def test_damaged_files_and_numbers_that_json_does_not_know_are_left_out(tmp_path: Path) -> None:
    folder = training_run(tmp_path / "run", rounds=1)
    (folder / "results.json").write_text('{"runs": [{"sets": [{"avg": NaN}]}, 3], ')
    (folder / "summary.json").write_text('{"seed": 1, "chi_squared": {"p": Infinity}}')
    found = outcomes(opened(folder))
    assert found["results"] == []
    assert found["summary"] == {"seed": 1, "chi_squared": {"p": None}}
    json.dumps(found, allow_nan=False)
