"""What repairs earn under each reward; none pays for a call that was not executed."""

from collections import Counter
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_steps import called, said
from thor_tir.app.stages.rl import repairs_by_parent
from thor_tir.execution import Status
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import StepConfig
from thor_tir.rl.metrics import record_of
from thor_tir.rl.step import StepPrompt, rewarded, step_rows
from thor_tir.rl.step_reward import REWARDS, REWARDS_HELP, RewardName, agrees, prints, runs, substantial
from thor_tir.trajectory import Author, Prefix, Span

FAILED = called(status=Status.RUNTIME, stdout="4\n")
SILENT = called(stdout="", status=Status.OK_NO_OUTPUT)


def is_sum(code: str) -> bool:
    return "+" in code


def test_by_option_a_repair_that_runs_earns_one_silent_or_not():
    assert runs([called(), SILENT, FAILED, said("4")], is_sum) == [1, 1, 0, 0]


@pytest.mark.parametrize("blanks", ["", "\n", "  \t\n", "\u00a0\n", "\u200b\n", "\x00", "\ufeff"])
def test_a_repair_that_shows_nothing_earns_nothing(blanks):
    assert prints([called(), called(stdout=blanks), SILENT, FAILED, said("4")], is_sum) == [1, 0, 0, 0, 0]
    assert substantial([called(code="1 + 1", stdout=blanks)], is_sum) == [0]


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
    steps = [called("a", code="print(2 + 2)"), called("b", code="print(4)"), FAILED]
    repairs = rewarded({f"q/{number}": step for number, step in enumerate(steps)}, reward, is_sum)
    rows = step_rows([(StepPrompt(id="q", prefix=prefix), repairs)], StepConfig(reward=(reward,)), Counter())
    assert {row.id for row in rows if row.terms[0].advantage > 0} == positive


@pytest.mark.parametrize(
    ("reward", "earned"), [("agrees", [1, 1, 0, 0]), ("runs", [1, 1, 1, 1]), ("substantial", [0, 0, 0, 0])]
)
def test_rows_metrics_and_transcripts_know_one_reward(reward, earned):
    # four repairs that print 1, 1, 2, 3, none of which computes
    prompt = StepPrompt(id="q", prefix=Prefix(spans=(Span(token_ids=(1,), author=Author.PROMPT),), parent="t", call=0))
    steps = {
        prompt.repair_id(n): called(stdout=f"{said}\n", code=f"print({said})") for n, said in enumerate((1, 1, 2, 3))
    }
    repairs = rewarded(steps, reward, is_sum)
    assert [repair.reward for repair in repairs] == earned

    dropped: Counter[str] = Counter()
    rows = step_rows([(prompt, repairs)], StepConfig(reward=(reward,)), dropped)
    is_mixed = len(set(earned)) > 1  # equal rewards teach nothing
    assert [row.terms[0].advantage > 0 for row in rows] == ([bool(r) for r in earned] if is_mixed else [])

    times = {"rollout_s": 0.0, "repair_s": 0.0, "grade_s": 0.0}
    samples = RoundSamples(groups=[], repairs=[(prompt, repairs)], num_lost=0, **times)
    line = record_of(0, samples, rows, dropped, [], sampled=rows, num_steps=1, train_s=0.0)
    assert (line["step_reward"], line["levels"]["step"]["reward"]) == (sum(earned) / 4, sum(earned) / 4)
    assert line["levels"]["step"]["pass_rate"] == float(any(earned))

    shown = repairs_by_parent(samples.repairs, lambda ids: "")["t"]
    assert [repair.reward for repair in shown] == earned


def test_the_name_of_every_reward_is_a_choice_and_stands_in_the_help():
    assert set(REWARDS) == set(get_args(RewardName))
    assert all(f"{name}: " in REWARDS_HELP for name in REWARDS)
