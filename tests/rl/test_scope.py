"""Which failed calls are repaired, and from where."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_steps import attempt_with, called, said
from thor_tir.execution import Status
from thor_tir.rl.config import StepConfig
from thor_tir.rl.step import any_one, every_one, queries, the_first

MIXED = attempt_with(
    called("fine"),
    called("a slip in the program", status=Status.SYNTAX),
    called("fine"),
    called("a wrong name", status=Status.RUNTIME),
    said("So."),
)


@given(st.lists(st.integers(0, 9), min_size=1, unique=True).map(sorted), st.integers(0, 99))
def test_each_choice_takes_some_failed_calls_in_their_order(failed, seed):
    assert list(the_first(failed, Random(seed))) == failed[:1]
    (chosen,) = any_one(failed, Random(seed))
    assert chosen in failed
    assert list(every_one(failed, Random(seed))) == failed


def test_any_call_may_be_the_one_and_the_seed_decides():
    def chosen(seed: int) -> list[str]:
        return [query.id for query in queries([MIXED], StepConfig(which="any"), max_queries=9, seed=seed)]

    assert chosen(0) == chosen(0)
    assert {id for seed in range(20) for id in chosen(seed)} == {"t/step1", "t/step3"}


@pytest.mark.parametrize(("which", "ids"), [("first", ["t/step1"]), ("all", ["t/step1", "t/step3"])])
def test_the_queries_of_a_trajectory_are_the_chosen_calls(which, ids):
    assert [query.id for query in queries([MIXED], StepConfig(which=which), max_queries=9, seed=0)] == ids


def test_the_cut_of_a_query_follows_the_error():
    config = StepConfig(which="all", cut="by-error", suffix_tokens=6)
    slip, name = queries([MIXED], config, max_queries=9, seed=0)
    assert slip.prefix.spans[-1].token_ids == MIXED.trajectory.steps[1].thought.span.token_ids
    assert name.prefix.spans[-1].token_ids == MIXED.trajectory.steps[3].thought.span.token_ids[:-6]
