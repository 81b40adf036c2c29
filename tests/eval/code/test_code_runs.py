"""Benchmarks of programs through `thor eval`: what counts as the answer, and scores from end to end."""

from dataclasses import replace
from pathlib import Path

import pytest

from scripted_benchmark import TOOLS_SPEC, Quiet, play, scripted_run
from thor_tir.app.stages.evaluate import limited, write_results
from thor_tir.dialect.prompts import NO_TOOLS
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.problems.code_tasks import AssertTests, CodeTask, ExampleTests
from thor_tir.problems.sets import load_set, problem_of

DATA = Path(__file__).parents[4] / "shared" / "data" / "bench"
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark files are not beside this checkout")
WORDS_CONTESTANT = replace(TOOLS_SPEC, name="words", style=NO_TOOLS)
WITH_REFERENCES = ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus")


def task(id: str, *, entry: str = "double", tests: AssertTests | ExampleTests | None = None) -> CodeTask:
    check = AssertTests(text="def check(f):\n    assert f(2) == 4 and f(3) == 6\n", checks=True)
    return CodeTask(
        id=id,
        benchmark="mbpp",
        prompt=f"Double a number ({id}).",
        entry_point=entry,
        reference="def double(n):\n    return 2 * n\n",
        tests=tests or check,
        timeout_s=5.0,
        fingerprint=id,
        level="easy",
    )


def set_of(*tasks: CodeTask) -> ProblemSet:
    return ProblemSet(
        name="mine",
        title="Mine",
        problems=tuple(map(problem_of, tasks)),
        sha256="",
        kind=ProblemKind.CODE,
        tasks={each.id: each for each in tasks},
    )


def block(code: str) -> str:
    return f"So:\n```python\n{code.strip()}\n```\n"


GOOD, BAD = block("def double(n):\n    return n + n"), block("def double(n):\n    return n * n")


def test_with_tools_the_last_program_that_was_tried_and_stood_is_the_answer(tmp_path: Path) -> None:
    asked = set_of(task("a"), task("b"), task("c"))
    scripts = {"a": [BAD, GOOD, "That is it."], "b": [GOOD, BAD, "That is it."], "c": ["I do not know."]}
    run = scripted_run(tmp_path, [asked], samples=1)
    play(run, lambda problem: scripts[problem.id])
    results = write_results(run.folder, Quiet())
    assert results is not None
    (entry,) = results["sets"]
    assert {p.id: rate for p, rate in zip(asked.problems, run.folder.evaluation(asked).accuracy_P, strict=True)} == {
        "a": 1.0,
        "b": 0.0,
        "c": 0.0,
    }
    assert (entry["ends"]["wrong"], entry["ends"]["no_answer"], entry["calls"]) == (1, 1, 4 / 3)
    assert (entry["kind"], entry["maj_at"], entry["by_level"]["easy"]["n"]) == ("code", {}, 3)
    assert results["code_average"]["avg"] == {key: entry["avg"][key] for key in ("value", "ci95")}
    assert results["average"] is None


def test_in_words_a_fence_ends_nothing_and_is_not_run(tmp_path: Path) -> None:
    reading = task("r", entry="", tests=ExampleTests(pairs=(("3\n", "6\n"),), is_stdin=True))
    run = scripted_run(tmp_path, [set_of(task("a"), reading)], samples=1, spec=WORDS_CONTESTANT)
    answers = {"a": BAD + "No:\n" + GOOD + "Done.", "r": block("print(2 * int(input()))")}
    asked = play(run, lambda problem: [answers[problem.id]])
    assert len(asked) == 2  # one request each: nothing stopped at the first program
    results = write_results(run.folder, Quiet())
    assert results is not None
    (entry,) = results["sets"]
    assert (entry["avg"]["value"], entry["calls"], entry["ends"]["correct"]) == (1.0, 0.0, 2)


def test_the_record_tells_the_prompt_of_each_kind(tmp_path: Path) -> None:
    run = scripted_run(tmp_path, [set_of(task("a"))], samples=1, spec=WORDS_CONTESTANT)
    play(run, lambda problem: [GOOD])
    assert run.folder.manifest["prompts"]["code"]["system"] == "You are a careful programmer."
    (kept,) = run.folder.sets
    assert (kept.kind, kept.problems[0].extra["entry_point"]) == (ProblemKind.CODE, "double")


def programs_of(asked: ProblemSet, *, broken: bool):
    def replies(problem: Problem) -> list[str]:
        reference = asked.tasks[problem.id].reference
        name = asked.tasks[problem.id].entry_point
        tail = f"\ndef {name}(*args, **kwargs):\n    raise ArithmeticError\n" if broken else ""
        return [block(reference + tail)] * 2

    return replies


@needs_data
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_references_score_100_percent_and_broken_ones_0_on_real_tasks(name: str, tmp_path: Path) -> None:
    asked = limited(load_set(name, DATA), 8)
    for broken in (False, True):
        run = scripted_run(tmp_path / f"{broken}", [asked], samples=1, spec=WORDS_CONTESTANT)
        play(run, programs_of(asked, broken=broken))
        results = write_results(run.folder, Quiet())
        assert results is not None
        assert results["sets"][0]["avg"]["value"] == (not broken)


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_REFERENCES)
def test_every_reference_of_every_code_set_is_right_and_broken_it_is_wrong(name: str, tmp_path: Path) -> None:
    asked = load_set(name, DATA)
    for broken in (False, True):
        run = scripted_run(tmp_path / f"{broken}", [asked], samples=1, spec=WORDS_CONTESTANT)
        play(run, programs_of(asked, broken=broken))
        results = write_results(run.folder, Quiet())
        assert results is not None
        missed = [a.problem.id for a in run.folder.evaluation(run.folder.sets[0]).attempts if a.is_correct is broken]
        assert missed == []
