"""The account of all stages together: what is kept, and a stage and a reason for every other sample."""

from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.tirgen.rules import Candidate
from thor_tir.tirgen.selection import STAGES, FilterConfig, choose_samples, examine_candidate, sieve, solved_shares
from thor_tir.trajectory import Finish
from thor_tir.verdict import Outcome
from tirgen_samples import CORRECT, WRONG, candidate, without_calls

CIRCLE = "and then again we say " * 30
TWO_CALLS = ("print(1 + 1)", "print(2 + 2)")


def ids(candidates: list[Candidate]) -> list[str]:
    return [c.trajectory.id for c in candidates]


def pool_of_every_fault() -> list[Candidate]:
    return [
        candidate(question="a", verdict=WRONG),
        candidate(question="b", status=Status.TIMEOUT),
        replace(without_calls(), question="x"),
        candidate(question="c", finish=Finish.TOKEN_LIMIT),
        candidate("print(77)", question="d"),
        candidate(question="e", answer=CIRCLE + "\\boxed{77}"),
        candidate(question="f", rate=1.0),
        *(candidate(question="g", number=n) for n in range(3)),
        *(candidate(question=f"h{n}") for n in range(3)),
        candidate(*TWO_CALLS, question="i"),
    ]


def test_the_counts_of_all_stages_add_up_and_name_each_reason():
    kept, stages = sieve(pool_of_every_fault(), FilterConfig(min_kept=0))
    assert [(s.name, s.kept, dict(s.rejected)) for s in stages] == [
        ("generated", 14, {}),
        ("answer", 13, {"answer wrong": 1}),
        ("calls", 11, {"failed call": 1, "no call": 1}),
        ("format", 10, {"finish: token_limit": 1}),
        ("code", 9, {"prints what is known": 1}),
        ("repetition", 8, {"repetition": 1}),
        ("length", 8, {}),
        ("no-tools", 7, {"solved without tools": 1}),
        ("overlap", 7, {}),
        ("question", 5, {"another sample of the question": 2}),  # g keeps one of three
        ("balance", 2, {"too many of its number of calls": 3}),  # one of two calls leaves room for one of a single call
    ]
    assert len(kept) == 2
    for before, after in pairwise(stages):
        assert before.kept - sum(after.rejected.values()) == after.kept


def test_every_sample_is_either_kept_or_named_with_its_stage_and_reason():
    pool = pool_of_every_fault()
    selection = choose_samples([examine_candidate(c, FilterConfig()) for c in pool], FilterConfig())
    assert sorted([*selection.kept, *(r.id for r in selection.rejected)]) == sorted(ids(pool))
    told = {r.id: (r.stage, r.reason) for r in selection.rejected}
    assert told["a/0"] == ("answer", "answer wrong")
    assert told["d/0"] == ("code", "prints what is known")
    assert [r.stage for r in selection.rejected] == sorted((r.stage for r in selection.rejected), key=STAGES.index)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_skipped_rejects_nothing_and_has_no_count(stage):
    benchmark = [Problem(id="bench/1", question="What is asked in h0?", answer="", source="")]
    with_it, without = FilterConfig(min_tokens=4, per_question=1), FilterConfig(min_tokens=4, skip=(stage,))
    short = candidate(question="j")
    short = replace(short, trajectory=replace(short.trajectory, steps=short.trajectory.steps[:1]), question="y")
    pool = [*pool_of_every_fault(), replace(short, verdict=CORRECT)]
    both = [
        choose_samples([examine_candidate(c, config) for c in pool], config, benchmark=benchmark)
        for config in (with_it, without)
    ]
    assert stage in {s.name for s in both[0].stages} - {s.name for s in both[1].stages}
    assert stage not in {r.stage for r in both[1].rejected}


def test_a_question_of_a_benchmark_is_left_out_whether_it_equals_one_or_shares_a_long_run_with_it():
    asked = "A farmer has three fields of wheat and sells two of them to buy a cow and a plough"
    equal = replace(candidate(question="same"), question="What is  ASKED, in it?")
    copied = replace(candidate(question="copied"), question=f"Some time ago: {asked}. How many fields are left?")
    pool = [equal, copied, candidate(question="other")]
    benchmark = [
        Problem(id="bench/1", question="what is asked in it", answer="", source=""),
        Problem(id="bench/2", question=f"{asked}, and what then?", answer="", source=""),
    ]
    selection = choose_samples(
        [examine_candidate(c, FilterConfig()) for c in pool], FilterConfig(), benchmark=benchmark
    )
    assert selection.kept == ("other/0",)
    assert {r.id: r.reason for r in selection.rejected} == {
        "same/0": "equals bench/1",
        "copied/0": "shares words with bench/2",
    }
    longer = FilterConfig(ngram=30)
    assert len(choose_samples([examine_candidate(c, longer) for c in pool], longer, benchmark=benchmark).kept) == 2


def test_samples_of_one_question_are_found_wherever_they_stand_in_the_set():
    spread = [candidate(question=q, number=n) for n in range(3) for q in "abc"]  # a b c a b c a b c
    kept, _ = sieve(spread, FilterConfig(max_share=1))
    assert sorted(c.trajectory.problem_id for c in kept) == ["a", "b", "c"]
    kept, _ = sieve(spread, FilterConfig(max_share=1, per_question=2))
    assert sorted(c.trajectory.problem_id for c in kept) == ["a", "a", "b", "b", "c", "c"]


@given(st.randoms(use_true_random=False), st.integers(0, 3))
def test_neither_the_order_of_the_samples_nor_a_second_look_changes_the_selection(random: Random, seed: int):
    pool = [candidate(question=f"q{i // 3}", number=i % 3) for i in range(12)]
    pool += [candidate(*TWO_CALLS, question=f"d{i}") for i in range(3)]
    config = FilterConfig(min_kept=0)
    kept, _ = sieve(pool, config, seed=seed)
    assert ids(sieve(random.sample(pool, len(pool)), config, seed=seed)[0]) == ids(kept)
    assert ids(sieve(kept, config, seed=seed)[0]) == ids(kept)


def test_the_seed_alone_decides_what_is_sampled():
    pool = [candidate(question=f"q{i // 3}", number=i % 3) for i in range(60)]
    pool += [candidate(*TWO_CALLS, question=f"d{i}") for i in range(5)]
    selections = [ids(sieve(pool, FilterConfig(min_kept=0), seed=seed)[0]) for seed in (0, 0, 1)]
    assert selections[0] == selections[1]
    assert set(selections[0]) != set(selections[2])
    assert len(selections[0]) == len(selections[2]) == 10


def test_a_question_is_as_hard_as_its_attempts_with_and_without_tools_say():
    pool = [candidate(question="a", number=0), candidate(question="a", number=1, verdict=WRONG)]
    pool += [candidate(question="b", verdict=replace(CORRECT, outcome=Outcome.UNSCORED))]
    examined = [examine_candidate(c, FilterConfig()) for c in pool]
    # a: right, wrong, and without tools wrong twice: 1 of 4. b could not be graded: nothing is known of it.
    assert solved_shares(examined, {"a": [False, False], "c": [True]}) == {"a": 0.25, "c": 1.0}


def test_an_empty_set_stays_empty_in_every_stage():
    kept, stages = sieve([], FilterConfig())
    assert kept == []
    assert [stage.kept for stage in stages] == [0] * 11


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"per_question": 0}, "per_question and ngram are at least 1, found 0 and 13"),
        ({"max_share": 1.5}, "lie between 0 and 1, found 0.0, 0.0, 1.5, 0.5"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        FilterConfig(**options)
