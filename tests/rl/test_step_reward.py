"""What repairs earn under each reward; none pays for a call that was not executed."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_steps import called, said
from thor_tir.execution import Status
from thor_tir.rl.step import StepConfig, StepPrompt, StepSample, step_rows
from thor_tir.rl.step_reward import REWARDS, agrees, runs, substantial
from thor_tir.trajectory import Author, Prefix, Span

FAILED = called(status=Status.RUNTIME, stdout="4\n")
SILENT = called(stdout="", status=Status.OK_NO_OUTPUT)


def is_sum(code: str) -> bool:
    return "+" in code


def test_a_repair_that_runs_earns_one_silent_or_not():
    assert runs([called(), SILENT, FAILED, said("4")], is_sum) == [1, 1, 0, 0]


def test_a_substantial_repair_runs_and_computes():
    repairs = [called(code="print(2 + 2)"), called(code="print(4)"), called(code="2 + 2", status=Status.TIMEOUT)]
    assert substantial([*repairs, said("2 + 2")], is_sum) == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("outputs", "rewards"),
    [
        (["4\n", "4", "5"], [1, 1, 0]),  # blanks around an output tell nothing
        (["4", "5"], [0, 0]),  # alone, an output agrees with nobody
        (["4", "4", "5", "5", "6"], [1, 1, 1, 1, 0]),  # no majority: both are taken
        (["", "", "4"], [0, 0, 0]),
    ],
)
def test_agreement_is_with_the_most_frequent_output_of_the_group(outputs, rewards):
    assert agrees([called(stdout=output) for output in outputs], is_sum) == rewards


def test_what_a_failed_call_printed_is_no_vote():
    assert agrees([FAILED, FAILED, called(stdout="5"), called(stdout="5")], is_sum) == [0, 0, 1, 1]


@given(st.lists(st.sampled_from([called(), called(stdout="5"), SILENT, FAILED, said("4")]), max_size=8))
def test_every_reward_is_0_or_1_and_at_most_that_of_running(repairs):
    ran = runs(repairs, is_sum)
    for reward in REWARDS.values():
        earned = reward(repairs, is_sum)
        assert set(earned) <= {0.0, 1.0}
        assert all(mine <= bound for mine, bound in zip(earned, ran, strict=True))


@pytest.mark.parametrize(("reward", "positive"), [("runs", {"q/0", "q/1"}), ("substantial", {"q/0"})])
def test_the_rows_of_a_query_are_rewarded_as_the_run_asks(reward, positive):
    prefix = Prefix(spans=(Span(token_ids=(1,), author=Author.PROMPT),), parent="t", call=0)
    repairs = [
        StepSample(id=f"q/{number}", step=step)
        for number, step in enumerate([called("a", code="print(2 + 2)"), called("b", code="print(4)"), FAILED])
    ]
    group = (StepPrompt(id="q", prefix=prefix), repairs)
    rows = step_rows([group], StepConfig(reward=reward), Counter(), is_substantial=is_sum)
    assert {row.id for row in rows if row.terms[0].advantage > 0} == positive
