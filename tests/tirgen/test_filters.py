"""Each rule of the filter with what it lets through and what it stops, and the account of all stages together."""

from dataclasses import replace
from itertools import pairwise

import pytest

from thor_tir.execution import ExecutionResult, Status
from thor_tir.tirgen.filters import (
    Candidate,
    FilterConfig,
    bad_format,
    computes,
    easy_in_words,
    failed_calls,
    has_import_or_control_flow,
    repetition,
    sieve,
    trivial_code,
    wrong_answer,
)
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

MODEL = Span(token_ids=(2,), author=Author.MODEL)
OUTPUT = Span(token_ids=(3,), author=Author.ENVIRONMENT)
CORRECT = Verdict(outcome=Outcome.CORRECT, extracted="77", reason="")


def call(code: str, status: Status) -> Step:
    return Step(
        thought=Thought(text="We compute.\n", span=MODEL),
        action=Action(code=code, span=MODEL),
        observation=Observation(text="77", span=OUTPUT, result=ExecutionResult(status=status, stdout="77\n")),
    )


def candidate(
    *codes: str,
    question: str = "q",
    number: int = 0,
    status: Status = Status.OK,
    answer: str = "So \\boxed{77}.",
    finish: Finish = Finish.ENDED,
    verdict: Verdict = CORRECT,
    rate: float | None = 0.0,
) -> Candidate:
    """A sample that passes every rule unless told otherwise."""
    steps = [call(code, status) for code in codes or ("print(20 + 57)",)]
    trajectory = Trajectory(
        id=f"{question}/{number}",
        problem_id=question,
        prompt=Span(token_ids=(1,), author=Author.PROMPT),
        steps=(*steps, Step(thought=Thought(text=answer, span=MODEL))),
        finish=finish,
    )
    return Candidate(trajectory=trajectory, verdict=verdict, words_pass_rate=rate)


def without_calls() -> Candidate:
    whole = candidate()
    return replace(whole, trajectory=replace(whole.trajectory, steps=whole.trajectory.steps[-1:]))


def ids(candidates: list[Candidate]) -> list[str]:
    return [c.trajectory.id for c in candidates]


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.CORRECT, None), (Outcome.WRONG, "answer wrong"), (Outcome.UNSCORED, "answer unscored")],
)
def test_only_an_answer_that_was_accepted_teaches(outcome, reason):
    assert wrong_answer(candidate(verdict=replace(CORRECT, outcome=outcome))) == reason


@pytest.mark.parametrize("status", [s for s in Status if s not in (Status.OK, Status.OK_NO_OUTPUT)])
def test_a_failed_call_of_any_kind_rejects_the_sample(status):
    assert failed_calls(candidate(status=status)) == "failed call"


def test_a_sample_needs_a_call_and_one_bad_call_among_good_ones_is_enough_to_reject_it():
    assert failed_calls(candidate()) is None
    assert failed_calls(without_calls()) == "no call"
    mixed = candidate("print(20 + 57)", "print(x)")
    good, _, last = mixed.trajectory.steps
    steps = (good, call("print(x)", Status.RUNTIME), last)
    assert failed_calls(replace(mixed, trajectory=replace(mixed.trajectory, steps=steps))) == "failed call"


@pytest.mark.parametrize("finish", [f for f in Finish if f is not Finish.ENDED])
def test_a_turn_that_the_model_did_not_end_is_bad_format(finish):
    assert bad_format(candidate(finish=finish)) == f"finish: {finish}"


def test_a_fence_left_in_the_words_is_bad_format():
    assert bad_format(candidate()) is None
    assert bad_format(candidate(answer="```python\nprint(1)\nSo \\boxed{77}.")) == "stray fence"


@pytest.mark.parametrize("extracted", ["", "  ", None])
def test_an_empty_box_is_rejected_even_if_a_grader_accepts_it(extracted):
    assert bad_format(candidate(verdict=replace(CORRECT, extracted=extracted))) == "empty box"


def test_a_single_trivial_program_is_rejected():
    """The released filter lets it pass: it allows ceil(0.4 * 1) = 1 bad block of one."""
    assert trivial_code(candidate("print(77)"), FilterConfig()) == "trivial code"
    assert trivial_code(candidate("print(20 + 57)"), FilterConfig()) is None


def test_a_share_of_trivial_programs_can_be_allowed():
    half = candidate("print(77)", "print(20 + 57)")
    assert trivial_code(half, FilterConfig()) == "trivial code"
    assert trivial_code(half, FilterConfig(max_trivial_share=0.5)) is None
    assert trivial_code(half, FilterConfig(max_trivial_share=0.49)) == "trivial code"


@pytest.mark.parametrize(
    "code", ["print(20 + 57)", "import math\nprint(math.gcd(4, 6))", "print([i for i in (1, 2)])", "print(2 > 1)"]
)
def test_a_program_that_computes_something_is_no_trivial_one(code):
    assert computes(code)


@pytest.mark.parametrize(
    "code", ["print(77)", "print('20 + 57')", "x = 77\nprint(str(x))", "print(20 +", "", "# 1 + 1"]
)
def test_printing_what_is_known_or_what_does_not_parse_computes_nothing(code):
    assert not computes(code)


@pytest.mark.parametrize(
    ("code", "is_good"),
    [
        ("print(20 + 57)", False),
        ("import math\nprint(20 + 57)", False),  # imported, not used
        ("import math\nprint(math.pi)", True),
        ("import numpy as np\nprint(np.pi)", True),
        ("from math import gcd\nprint(gcd(4, 6))", True),
        ("import os.path\nprint(os.path.sep)", True),
        ("for i in (1, 2):\n    print(i)", True),
        ("if True:\n    print(1)", True),
        ("print(*(i for i in (1, 2)))", True),
        ("def f():\n    return 1\nprint(f())", True),
        ("import math\nprint(math.pi", False),  # does not parse
    ],
)
def test_the_papers_rule_asks_for_a_library_that_is_used_or_for_control_flow(code, is_good):
    assert has_import_or_control_flow(code) is is_good
    rejection = trivial_code(candidate(code), FilterConfig(needs_import_or_control_flow=True))
    assert rejection == (None if is_good else "trivial code")


def test_prose_that_goes_round_in_circles_is_rejected_and_indentation_is_not():
    circle = "and then again we say "  # 22 characters: each of its windows occurs once a round
    assert repetition(candidate(answer=circle * 20), max_repeats=20) is None
    assert repetition(candidate(answer=circle * 22), max_repeats=20) == "repetition"
    assert repetition(candidate(answer=" " * 500 + "x" + "\n" * 500), max_repeats=20) is None


@pytest.mark.parametrize(
    ("rate", "threshold", "reason"),
    [
        (1.0, 1.0, "solved in words"),
        (0.5, 1.0, None),
        (0.5, 0.5, "solved in words"),
        (1.0, 1.1, None),
        (None, 0.0, None),
    ],
)
def test_questions_that_words_alone_solve_often_enough_are_left_out(rate, threshold, reason):
    assert easy_in_words(candidate(rate=rate), threshold) == reason


def test_samples_of_one_question_are_found_wherever_they_stand_in_the_set():
    spread = [candidate(question=q, number=n) for n in range(3) for q in "abc"]  # a b c a b c a b c
    kept, _ = sieve(spread, FilterConfig(one_call_share=1))
    assert sorted(c.trajectory.problem_id for c in kept) == ["a", "b", "c"]
    kept, _ = sieve(spread, FilterConfig(one_call_share=1, per_question=2))
    assert sorted(c.trajectory.problem_id for c in kept) == ["a", "a", "b", "b", "c", "c"]


def test_single_calls_are_sampled_down_to_their_share_and_others_are_all_kept():
    singles = [candidate(question=f"s{i}") for i in range(12)]
    doubles = [candidate("print(1 + 1)", "print(2 + 2)", question=f"d{i}") for i in range(3)]
    # 3 with several calls leave room for 3 * 0.5 / 0.5 = 3 and for int(3 * 0.25 / 0.75) = 1 with one
    for share, room in ((0.5, 3), (0.25, 1), (0.0, 0), (1.0, 12)):
        kept, _ = sieve([*singles, *doubles], FilterConfig(one_call_share=share))
        assert ids(kept)[-3:] == ["d0/0", "d1/0", "d2/0"]
        assert len(kept) == 3 + room


def test_without_any_sample_of_several_calls_there_is_nothing_to_balance():
    kept, _ = sieve([candidate(question=f"s{i}") for i in range(4)], FilterConfig(one_call_share=0.5))
    assert len(kept) == 4


def test_the_seed_alone_decides_what_is_sampled():
    pool = [candidate(question=f"q{i // 3}", number=i % 3) for i in range(60)]
    pool += [candidate("print(1 + 1)", "print(2 + 2)", question=f"d{i}") for i in range(5)]
    selections = [ids(sieve(pool, FilterConfig(seed=seed))[0]) for seed in (0, 0, 1)]
    assert selections[0] == selections[1]
    assert selections[0] != selections[2]
    assert len(selections[0]) == len(selections[2]) == 10


def test_the_counts_of_all_stages_add_up_and_name_each_reason():
    wrong = replace(CORRECT, outcome=Outcome.WRONG)
    pool = [
        candidate(question="a", verdict=wrong),
        candidate(question="b", status=Status.TIMEOUT),
        without_calls(),
        candidate(question="c", finish=Finish.TOKEN_LIMIT),
        candidate("print(77)", question="d"),
        candidate(question="e", answer="and then again we say " * 30),
        candidate(question="f", rate=1.0),
        *(candidate(question="g", number=n) for n in range(3)),
        *(candidate(question=f"h{n}") for n in range(3)),
        candidate("print(1 + 1)", "print(2 + 2)", question="i"),
    ]
    kept, stages = sieve(pool, FilterConfig())
    assert [(s.name, s.kept, dict(s.rejected)) for s in stages] == [
        ("generated", 14, {}),
        ("correct answer", 13, {"answer wrong": 1}),
        ("calls", 11, {"failed call": 1, "no call": 1}),
        ("format", 10, {"finish: token_limit": 1}),
        ("code quality", 9, {"trivial code": 1}),
        ("repetition", 8, {"repetition": 1}),
        ("needs a tool", 7, {"solved in words": 1}),
        ("one per question", 5, {"one per question": 2}),  # g keeps one of three
        ("balance", 2, {"balance": 3}),  # one of several calls leaves room for one of a single call
    ]
    assert len(kept) == 2
    for before, after in pairwise(stages):
        assert before.kept - sum(after.rejected.values()) == after.kept


def test_an_empty_set_stays_empty_in_every_stage():
    kept, stages = sieve([], FilterConfig())
    assert kept == []
    assert [stage.kept for stage in stages] == [0] * 9
