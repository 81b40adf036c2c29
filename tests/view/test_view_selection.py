"""Filters, orders, pages and the search over a run's journals, while it grows."""

from pathlib import Path
from time import perf_counter

import pytest

from thor_tir.errors import UsageError
from thor_tir.view.run import ViewedRun, open_runs
from thor_tir.view.selection import PAGE_ROWS, Selection, choose, facets, listed
from viewed_runs import add_round, evaluation_run, many_trajectories, training_run


def keys(run: ViewedRun, **asked: str) -> list[str]:
    return [entry.key for _, entry in choose(run, Selection.of(asked)).rows]


def opened(folder: Path) -> ViewedRun:
    (run,) = open_runs([folder])
    run.refresh(10)
    return run


@pytest.fixture
def trained(tmp_path: Path) -> ViewedRun:
    return opened(training_run(tmp_path / "run", rounds=3))


@pytest.mark.parametrize(
    ("asked", "ends"),
    [
        ({"round": "last"}, ["3/0/3", "3/0/2", "3/0/1", "3/0/0"]),
        ({"round": "1", "call": "failed"}, ["1/0/3"]),
        ({"round": "2", "outcome": "correct"}, ["2/0/1", "2/0/0"]),
        ({"round": "last", "outcome": "wrong", "call": "ran"}, ["3/0/2"]),
        ({"repaired": "yes"}, ["3/0/3", "2/0/3", "1/0/3"]),
        ({"repaired": "no", "round": "1"}, ["1/0/2", "1/0/1", "1/0/0"]),
        ({"failure": "NameError", "round": "2"}, ["2/0/3"]),
        ({"failure": "SyntaxError"}, []),
        ({"level": "repairs", "failure": "SyntaxError", "round": "1"}, ["1/0/3/step0/repair3", "1/0/3/step0/repair2"]),
        ({"family": "lcm"}, []),
        ({"problem": "gcd-1", "sort": "shortest", "call": "failed"}, ["2/0/3"]),
        ({"text": "NAMEERROR: name 'GCD'", "round": "3"}, ["3/0/3"]),
        ({"text": "\\boxed{48}", "round": "1"}, ["1/0/2"]),
        ({"text": "author"}, []),  # a word of the journal, not of the trajectory
        ({"text": "round2/0/2"}, ["2/0/2"]),
        ({"min_tokens": "100000"}, []),
    ],
)
def test_filters_find_what_they_name(trained: ViewedRun, asked: dict[str, str], ends: list[str]) -> None:
    assert keys(trained, **asked) == [f"round{end}" for end in ends]


def test_lengths_and_orders(trained: ViewedRun) -> None:
    rows = choose(trained, Selection.of({"sort": "longest", "round": "1"})).rows
    lengths = [entry.tokens for _, entry in rows]
    assert lengths == sorted(lengths, reverse=True)
    middle = str(lengths[0])
    assert {entry.tokens for _, entry in choose(trained, Selection.of({"min_tokens": middle})).rows} == {lengths[0]}
    assert lengths[0] not in {
        e.tokens for _, e in choose(trained, Selection.of({"max_tokens": str(lengths[0] - 1)})).rows
    }


@pytest.mark.parametrize("asked", [{"sort": "best"}, {"page": "-1"}, {"min_tokens": "many"}, {"page": "9" * 20}])
def test_an_address_that_asks_for_nothing_sensible_is_a_sentence(asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=next(iter(asked)) if "sort" not in asked else "best"):
        Selection.of(asked)


def test_facets_count_what_there_is(trained: ViewedRun) -> None:
    found = facets(trained, "")
    assert found["outcomes"] == {"correct": 6, "wrong": 6}
    assert (found["failures"], found["families"]) == ({"NameError": 3}, {"gcd": 12})
    assert (found["rounds"], found["repairs"], found["files"]) == ([1, 2, 3], 12, {"rl/rollouts": 24})


def test_a_list_names_question_failures_and_repairs(trained: ViewedRun) -> None:
    (row,) = listed(trained, choose(trained, Selection.of({"call": "failed", "round": "last"})))
    assert (row["failures"], row["repairs"], row["outcome"], row["round"]) == (["NameError"], 4, "wrong", 3)


def test_a_run_that_grows_shows_its_newest_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thor_tir.view.run.LOOK_EVERY_S", 0.0)
    folder = training_run(tmp_path / "run", rounds=1)
    run = opened(folder)
    before = run.version
    run.refresh(1)
    assert run.version == before
    add_round(folder, 1)
    with (folder / "rl" / "rollouts.jsonl").open("a") as file:
        file.write('{"key": "round2/0/9", "traj')  # what a kill would leave
    run.refresh(1)
    assert run.version > before
    assert keys(run, round="last")[0] == "round2/0/3"
    assert sum(file.damaged for file in run.files) == 0


def test_an_evaluation_has_questions_from_its_problems_and_shards_are_one_journal(tmp_path: Path) -> None:
    folder = evaluation_run(tmp_path / "run")
    attempts = folder / "attempts"
    lines = (attempts / "toy.jsonl").read_text().splitlines(keepends=True)
    (attempts / "toy.jsonl").unlink()
    (attempts / "toy.1-of-2.jsonl").write_text("".join(lines[:6]))
    (attempts / "toy.2-of-2.jsonl").write_text("".join(lines[6:]))
    run = opened(folder)
    assert facets(run, "")["files"] == {"attempts/toy": 12}
    assert len(keys(run, file="attempts/toy", repaired="yes")) == 3
    assert listed(run, choose(run, Selection()))[0]["question"].startswith("Find the Greatest")


def test_ten_thousand_trajectories_open_in_under_two_seconds(tmp_path: Path) -> None:
    many_trajectories(tmp_path / "run" / "rl" / "rollouts.jsonl", 10_000)
    began = perf_counter()
    (run,) = open_runs([tmp_path / "run"])
    run.refresh(0.6)  # as the server does
    page = choose(run, Selection.of({"call": "failed", "round": "last"}))
    assert perf_counter() - began < 2
    assert page.rows[0][1].key == "round10/998/0"
    assert len(page.rows) == PAGE_ROWS
    run.refresh(60)
    assert choose(run, Selection()).total == 10_000
    last = choose(run, Selection.of({"page": "199"}))
    assert [entry.key for _, entry in last.rows][-1] == "round1/0/0"


def test_a_folder_that_is_none_is_a_sentence_and_equal_names_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        open_runs([tmp_path / "nowhere"])
    (tmp_path / "a" / "rl").mkdir(parents=True)
    (tmp_path / "b" / "rl").mkdir(parents=True)
    assert [run.name for run in open_runs([tmp_path / "a" / "rl", tmp_path / "b" / "rl"])] == ["rl", "rl (2)"]
