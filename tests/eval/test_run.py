"""From attempts to a row of the results: every number counted by hand."""

from dataclasses import replace
from typing import Any

import pytest

from fake_trajectory import CORRECTED, FAILED
from thor_tir.eval.folder import Evaluation, best_of
from thor_tir.eval.metrics import failure_classes, paired, set_result, tool_success_table
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemSet
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Step, Trajectory
from thor_tir.verdict import Outcome, Verdict

SUM = Problem(id="sum", question="3+4?", answer="7", source="reasoning_gym/sums")
OTHER = Problem(id="other", question="4+3?", answer="7", source="reasoning_gym/others")

BROKEN = replace(CORRECTED, steps=(FAILED, CORRECTED.steps[1]))
"""One call, and it failed."""
WORDS_ONLY = replace(CORRECTED, steps=CORRECTED.steps[1:])


def attempt(trajectory: Trajectory, outcome: Outcome, problem: Problem = SUM) -> Attempt:
    verdict = Verdict(outcome=outcome, extracted="7", reason="")
    return Attempt(problem=problem, trajectory=trajectory, verdict=verdict)


RIGHT, WRONG = attempt(CORRECTED, Outcome.CORRECT), attempt(BROKEN, Outcome.WRONG)
LOST = attempt(WORDS_ONLY, Outcome.UNSCORED, OTHER)
MIXED = Evaluation(name="mixed", groups=((RIGHT, WRONG), (LOST, attempt(WORDS_ONLY, Outcome.CORRECT, OTHER))))


def row_of(paid: Evaluation, chosen: Evaluation | None = None, *, samples: int = 2) -> dict[str, Any]:
    problems = tuple(group[0].problem for group in paid.groups)
    asked = ProblemSet(name="gym", title="gym", problems=problems, sha256="")
    return set_result(asked, paid, chosen or paid, [], samples=samples, seed=0)


def test_a_row_counts_calls_tokens_and_repairs_per_attempt() -> None:
    row = row_of(MIXED)
    # Problem means: 1/2, and 1 of the one scored attempt; two problems weigh the same.
    assert (row["avg"]["value"], row["n_scored"], row["ends"]["unscored"]) == (0.75, 2, 1)
    # Two calls stand in four attempts, one of them ran; two of the four attempts use code.
    assert (row["call_success"]["value"], row["calls"], row["code_ratio"]) == (0.5, 0.5, 0.5)
    # Model tokens: thought 1 + action 3 + answer 1 = 5; the corrected one also paid 2 discarded versions of 4.
    assert row["tokens_kept"] + row["tokens_discarded"] == ((5 + 8) + 5 + 1 + 1) / 4
    assert row["repairs"] == 2 / 4


def test_without_any_call_there_is_no_call_success_rather_than_none_that_succeeded() -> None:
    row = row_of(Evaluation(name="words", groups=((attempt(WORDS_ONLY, Outcome.CORRECT),),)))
    assert (row["call_success"], row["calls"]) == (None, 0)


def test_a_choice_among_many_pays_for_all_of_them() -> None:
    paid = Evaluation(name="all", groups=((RIGHT, WRONG),))
    row = row_of(paid, best_of(paid, "pass-rate", seed=0))
    assert row["avg"] == {"value": 1.0, "ci95": [pytest.approx(0.025), 1.0], "n": 1}  # Clopper and Pearson, 1 of 1
    assert (row["calls"], row["tokens_kept"] + row["tokens_discarded"]) == (2, 13 + 5)
    assert row["pass_at"]["1"]["value"] == 0.5  # of all attempts, whichever is chosen
    assert row["ends"] == {
        "correct": 1,
        "wrong": 0,
        "truncated": 0,
        "no_room": 0,
        "no_answer": 0,
        "unscored": 0,
        "dropped": 0,
    }


def test_accuracy_is_told_per_family_and_unscored_problems_are_left_out() -> None:
    assert {name: each["value"] for name, each in row_of(MIXED)["by_source"].items()} == {"others": 1.0, "sums": 0.5}
    assert row_of(Evaluation(name="lost", groups=((LOST,),)))["by_source"] == {}


def test_a_paired_difference_takes_the_problems_that_both_have_scored() -> None:
    ours = Evaluation(name="ours", groups=((RIGHT,), (RIGHT,), (LOST,)))
    theirs = Evaluation(name="theirs", groups=((WRONG,), (RIGHT,), (RIGHT,)))
    assert paired(ours, theirs, seed=0).mean == 0.5  # of 1 - 0 and 1 - 1; the third pair has no score on our side


def test_the_table_of_tool_success_has_calls_in_rows_and_answers_in_columns() -> None:
    right_by_luck = attempt(BROKEN, Outcome.CORRECT)
    attempts = [RIGHT, RIGHT, WRONG, right_by_luck, LOST, attempt(WORDS_ONLY, Outcome.WRONG)]
    assert tool_success_table(attempts) == [[2, 0], [1, 1]]  # the last two made no call


@pytest.mark.parametrize(
    ("status", "error", "name"),
    [
        (Status.RUNTIME, "NameError", "NameError"),
        (Status.SYNTAX, "SyntaxError", "SyntaxError"),
        (Status.RUNTIME, None, "runtime"),
        (Status.TIMEOUT, None, "timeout"),
    ],
)
def test_a_failed_call_is_classed_by_its_exception_or_else_by_its_status(
    status: Status, error: str | None, name: str
) -> None:
    assert FAILED.observation is not None
    result = replace(FAILED.observation.result, status=status, error=error)
    step: Step = replace(FAILED, observation=replace(FAILED.observation, result=result))
    assert failure_classes([RIGHT, attempt(replace(BROKEN, steps=(step, step)), Outcome.WRONG)]) == {name: 2}
