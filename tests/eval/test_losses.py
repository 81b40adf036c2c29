"""Nothing is dropped in silence: what was lost stands on the console, in results.json, and beside every score."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from test_benchmark_runs import SUMS, status_of

from endpoint_server import completion, says, serving
from scripted_agent import OFFLINE, program
from scripted_benchmark import Quiet, play, right, scripted_run, set_of, wrong
from thor_tir.app.stages.evaluate import check_measured, write_results
from thor_tir.commands.evaluation import finish
from thor_tir.console import ConsoleReporter
from thor_tir.errors import NothingMeasured
from thor_tir.eval.compare import compare, comparison_rows
from thor_tir.eval.metrics import remarks
from thor_tir.eval.results import Results
from thor_tir.eval.tables import latex, markdown, run_table, score_table
from thor_tir.problem import Problem
from thor_tir.view.outcomes import outcomes
from thor_tir.view.run import open_runs

GONE = [program(OFFLINE)] * 2
"""Replies of a model whose programs the sandbox cannot run."""
UNREADABLE = Problem(id="odd", question="Which?", answer="}{", source="mine")
"""Its reference is one that no rule reads."""


def results_of_replies(folder: Path, problems: Sequence[Problem], replies) -> Results:
    run = scripted_run(folder, [set_of(*problems)])
    play(run, replies)
    results = write_results(run.folder, Quiet())
    assert results is not None
    return results


def printed(folder: Path) -> str:
    from thor_tir.eval.folder import EvalFolder

    said = StringIO()
    finish(EvalFolder(path=folder), ConsoleReporter(Console(file=said, width=250)))
    return said.getvalue()


def test_attempts_lost_to_the_machine_stand_beside_the_accuracy_of_the_others(tmp_path: Path) -> None:
    results = results_of_replies(tmp_path, SUMS, lambda p: GONE if p.id == "sum/11" else right(p))
    (entry,) = results["sets"]
    assert entry["lost"] == {"asked": 12, "machine": {"SandboxUnavailable": 2}, "unscored": 0, "no_room": 0}
    assert (entry["n"], entry["n_scored"], entry["avg"]["value"]) == (6, 5, 1.0)
    lost = "mine: 2 of 12 attempts were lost to faults of the machine (2 SandboxUnavailable): they do not count"
    without = "mine: 1 of 6 problems have no graded attempt: the accuracy is over 5"
    text = printed(tmp_path)
    assert lost in text
    assert without in text
    for shown in (
        markdown(results),
        latex(results),
        text,
        *map(str, score_table(results)[1] + run_table([results])[1]),
    ):
        assert "2 of 12" in shown
    assert lost in markdown(results)
    assert without in markdown(results)
    (row,) = outcomes(*open_runs([tmp_path]))["results"]
    assert (row["lost"], row["remarks"]) == ("2 of 12", remarks(entry))


@pytest.mark.parametrize("select", ["pass-rate", "vote"])
def test_losses_are_those_of_all_attempts_where_one_of_them_is_chosen(tmp_path: Path, select: str) -> None:
    run = scripted_run(tmp_path, [set_of(*SUMS)])
    run = replace(run, spec=replace(run.spec, select=select))
    play(run, lambda p: [program(OFFLINE), right(p)[0]] if p.id == "sum/12" else right(p))
    results = write_results(run.folder, Quiet())
    assert results is not None
    assert results["sets"][0]["lost"]["machine"] == {"SandboxUnavailable": 1}
    assert results["sets"][0]["lost"]["asked"] == 12


def test_unscored_attempts_are_counted_and_the_accuracy_says_how_many_problems_it_is_over(tmp_path: Path) -> None:
    results = results_of_replies(tmp_path, [*SUMS[:3], UNREADABLE], lambda p: [r"\boxed{22}"] * 2)
    (entry,) = results["sets"]
    assert (entry["lost"]["unscored"], entry["n_scored"]) == (2, 3)
    assert remarks(entry) == [
        "mine: 2 of 8 attempts could not be graded: they do not count",
        "mine: 1 of 4 problems have no graded attempt: the accuracy is over 3",
    ]


def test_a_prompt_that_fills_the_context_is_wrong_and_said(tmp_path: Path) -> None:
    long = Problem(id="long", question="1 plus " * 4000 + "1?", answer="4001", source="mine")
    problems = tmp_path / "two.jsonl"
    problems.write_text(
        "".join(json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in (long, SUMS[0]))
    )
    assert status_of("eval", "--problems", str(problems), "--samples", "1", "--output", str(tmp_path / "run")) == 0
    entry = json.loads((tmp_path / "run" / "results.json").read_text())["sets"][0]
    assert (entry["lost"]["no_room"], entry["ends"]["no_room"], entry["n_scored"]) == (1, 1, 2)
    assert "the prompts of 1 of 2 attempts fill the model's whole context" in printed(tmp_path / "run")


@pytest.mark.parametrize(
    ("replies", "word"), [(right, "right"), (wrong, "wrong"), (lambda p: ["I pass."] * 2, "wrong")]
)
def test_scores_that_are_all_equal_are_said_once(tmp_path: Path, replies, word: str) -> None:
    results_of_replies(tmp_path, SUMS, replies)
    assert printed(tmp_path).count(f"every graded attempt (12) is {word}") == 1


def test_scores_that_differ_need_no_remark(tmp_path: Path) -> None:
    results = results_of_replies(tmp_path, SUMS, lambda p: right(p) if p.id == "sum/11" else wrong(p))
    assert remarks(results["sets"][0]) == []
    assert score_table(results)[1][0][:3] == ("mine", "6", "0")


def test_a_run_that_measured_nothing_ends_with_one_sentence(tmp_path: Path) -> None:
    results = results_of_replies(tmp_path, SUMS, lambda p: GONE)
    assert results["sets"][0]["avg"] is None
    with pytest.raises(NothingMeasured, match="of 12 attempts 12 were lost to SandboxUnavailable; lost attempts stay"):
        check_measured([results])
    (row,) = outcomes(*open_runs([tmp_path]))["results"]
    assert (row["avg"], row["lost"]) == (None, "12 of 12")
    assert run_table([results])[1][0][1:5] == ("-", "-", "0", "12 of 12")


def test_references_that_nobody_reads_end_with_one_sentence_too(tmp_path: Path) -> None:
    results = results_of_replies(tmp_path, [UNREADABLE], lambda p: [r"\boxed{22}"] * 2)
    with pytest.raises(NothingMeasured, match="2 could not be graded, so look at the references"):
        check_measured([results])


def test_the_command_ends_with_status_1_and_no_traceback_where_nothing_was_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results_of_replies(tmp_path, SUMS, lambda p: GONE)
    capsys.readouterr()
    assert status_of("eval", "merge", str(tmp_path)) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "nothing was measured: of 12 attempts 12 were lost to SandboxUnavailable" in said[0]


def test_a_comparison_counts_the_problems_that_one_run_lost(tmp_path: Path) -> None:
    for name, replies in (("a", lambda p: GONE if p.id == "sum/11" else right(p)), ("b", right)):
        results_of_replies(tmp_path / name, SUMS, replies)
    folders = [scripted_run(tmp_path / name, [set_of(*SUMS)]).folder for name in ("a", "b")]
    found = compare(*folders)
    assert (found["sets"][0]["asked"], found["sets"][0]["n"]) == (6, 5)
    head, (row,) = comparison_rows(found)
    assert dict(zip(head, row, strict=True))["lost"] == "1"


def test_a_comparison_of_runs_that_share_no_graded_problem_has_a_row_and_no_difference(tmp_path: Path) -> None:
    results_of_replies(tmp_path / "a", SUMS[:2], lambda p: GONE)
    results_of_replies(tmp_path / "b", SUMS[:2], right)
    folders = [scripted_run(tmp_path / name, [set_of(*SUMS[:2])]).folder for name in ("a", "b")]
    head, (row,) = comparison_rows(compare(*folders))
    shown = dict(zip(head, row, strict=True))
    assert (shown["n"], shown["lost"], shown["difference"]) == ("0", "2", "-")


def test_a_server_that_refuses_a_prompt_for_its_length_is_counted_the_same_way(tmp_path: Path) -> None:
    from thor_tir.app.config import EvalConfig, RunConfig
    from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate
    from thor_tir.eval.folder import EvalFolder
    from thor_tir.rollout.loop import RolloutConfig

    long = Problem(id="long", question="What is 1 plus 1, at length?", answer="2", source="mine")
    refusal = {
        "error": {"message": "This model's maximum context length is 64 tokens, you asked for 5000", "code": 400}
    }

    async def answer(asked, writer) -> None:
        is_long = "at length" in json.dumps(asked.body)
        behave = says(refusal, 400) if is_long else says(completion(right(SUMS[0])[0], stop_reason=None))
        await behave(asked, writer)

    async def work() -> None:
        async with serving() as server:
            server.usual = answer
            run = EvalRun(
                spec=EvalSpec(name="tools", model=server.address, samples=1),
                sets=(set_of(SUMS[0], long),),
                config=RunConfig(eval=EvalConfig(rollout=RolloutConfig(max_completion_length=200))),
                folder=EvalFolder(path=tmp_path / "run"),
            )
            await evaluate(run, Quiet())

    asyncio.run(work())
    results = write_results(EvalFolder(path=tmp_path / "run"), Quiet())
    assert results is not None
    (entry,) = results["sets"]
    assert (entry["lost"]["no_room"], entry["ends"]["correct"], entry["ends"]["no_room"]) == (1, 1, 1)
