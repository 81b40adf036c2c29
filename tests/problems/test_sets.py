"""Benchmarks by name: programs beside mathematics, what a model is asked, and windows of time."""

from dataclasses import replace
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.problems.code_sources import BENCHMARKS, known_name
from thor_tir.problems.code_tasks import AssertTests, CodeTask, ExampleTests
from thor_tir.problems.sets import load_set, problem_of, question_of, within

DATA = Path(__file__).parents[3] / "shared" / "data" / "bench"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark files are not beside this checkout")

TASK = CodeTask(
    id="t/1",
    benchmark="mbpp",
    prompt="Double a number.",
    entry_point="double",
    reference="",
    tests=AssertTests(text="assert double(2) == 4", checks=False),
    timeout_s=5.0,
    fingerprint="",
    shown="assert double(2) == 4",
)


@needs_data
@pytest.mark.parametrize("name", [name for name, known in BENCHMARKS.items() if known.read is not None])
def test_each_code_set_at_hand_is_the_known_one_and_asks_without_its_tests(name: str) -> None:
    found = load_set(name, DATA)
    assert (len(found.problems), found.notes, found.kind) == (BENCHMARKS[name].num_tasks, (), ProblemKind.CODE)
    assert found.tasks.keys() == {problem.id for problem in found.problems}
    assert all(len(problem.question) < 9000 for problem in found.problems)  # the tests are megabytes


@needs_data
def test_one_changed_test_is_refused_unless_it_is_accepted(tmp_path: Path) -> None:
    text = (DATA / "humaneval.jsonl").read_text(encoding="utf-8")
    assert "candidate([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3) == True" in text
    (tmp_path / "humaneval.jsonl").write_text(text.replace("2.2], 0.3) == True", "2.2], 0.3) == False", 1))
    with pytest.raises(UsageError, match=r"SHA-256 of its tasks is 617daa23f937.*: not the known humaneval; --accept"):
        load_set("humaneval", tmp_path)
    assert "SHA-256" in load_set("humaneval", tmp_path, accept_modified=True).notes[0]


@pytest.mark.parametrize("spelled", ["humaneval_plus", "humanevalplus", "HumanEval+", "human-eval-plus"])
def test_names_are_known_however_they_are_spelled(spelled: str) -> None:
    assert known_name(spelled) == "humaneval_plus"


def test_an_unknown_name_lists_those_of_mathematics_and_those_of_code() -> None:
    with pytest.raises(
        UsageError,
        match=r"'apps'; known: math500, .*svamp, humaneval, .*_v6; or give the path",
    ):
        load_set("apps")


def test_a_task_is_asked_with_what_its_benchmark_shows() -> None:
    assert question_of(TASK) == (
        "Double a number.\nThe function is called `double` and must satisfy\n\nassert double(2) == 4"
    )
    head = replace(TASK, benchmark="humaneval", prompt="def double(n):\n")
    assert question_of(head) == "Complete this function:\n\n```\ndef double(n):\n```"
    reading = replace(TASK, entry_point="", shown="", tests=ExampleTests(pairs=(("1", "2"),), is_stdin=True))
    assert "reads standard input" in question_of(reading)
    method = replace(reading, shown="class Solution:", tests=ExampleTests(pairs=(("1", "2"),), is_stdin=False))
    assert question_of(method).endswith("beginning so:\n\n```\nclass Solution:\n```")


def contests(*dates: str) -> ProblemSet:
    problems = tuple(problem_of(replace(TASK, id=f"t/{n}", date=date)) for n, date in enumerate(dates))
    return ProblemSet(name="live", title="live", problems=problems, sha256="")


def test_a_window_keeps_both_of_its_days_and_is_told() -> None:
    asked = contests("2024-07-31", "2024-08-01", "2025-05-31", "2025-06-01")
    found = within(asked, "2024-08-01..2025-05-31")
    assert [problem.id for problem in found.problems] == ["t/1", "t/2"]
    assert found.notes == ("live: the 2 of 4 problems of 2024-08-01..2025-05-31",)
    assert [problem.id for problem in within(asked, "2025-05-31..").problems] == ["t/2", "t/3"]
    assert [problem.id for problem in within(asked, "..2024-07-31").problems] == ["t/0"]


def test_a_window_that_is_none_holds_nothing_or_meets_no_dates_is_refused() -> None:
    for window in ("2024", "..", "2024-08..2025-01", "2024-08-01..soon"):
        with pytest.raises(UsageError, match="--window is like"):
            within(contests("2024-07-31"), window)
    with pytest.raises(UsageError, match=r"no problem of live is of 2025-01-01\.\.; its days are 2024-07-31 to"):
        within(contests("2024-07-31"), "2025-01-01..")
    with pytest.raises(UsageError, match="--window needs dates, which live has not"):
        within(contests(""), "2025-01-01..")
