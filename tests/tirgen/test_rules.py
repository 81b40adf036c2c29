"""Each rule on a single trajectory, with what it lets through and what it stops."""

from dataclasses import replace

import pytest

from thor_tir.dialect.dialect import Thinking
from thor_tir.execution import Status
from thor_tir.tirgen.rules import (
    bad_format,
    bad_length,
    easy_without_tools,
    failed_calls,
    repetition,
    trivial_code,
    wrong_answer,
)
from thor_tir.trajectory import Finish
from thor_tir.verdict import Outcome
from tirgen_samples import CORRECT, candidate, without_calls


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [(Outcome.CORRECT, None), (Outcome.WRONG, "answer wrong"), (Outcome.UNSCORED, "answer unscored")],
)
def test_only_an_answer_that_was_accepted_teaches(outcome, reason):
    assert wrong_answer(candidate(verdict=replace(CORRECT, outcome=outcome))) == reason


@pytest.mark.parametrize(
    ("status", "reason"),
    [(Status.OK, None), (Status.OK_NO_OUTPUT, None), (Status.RUNTIME, "failed call"), (Status.TIMEOUT, "failed call")],
)
def test_a_sample_with_a_call_that_failed_is_rejected(status, reason):
    assert failed_calls(candidate("print(20 + 57)", "print(1 + 1)", status=status)) == reason


def test_a_sample_without_a_call_is_rejected():
    assert failed_calls(without_calls()) == "no call"


@pytest.mark.parametrize("finish", [f for f in Finish if f is not Finish.ENDED])
def test_a_turn_that_was_cut_off_is_rejected(finish):
    assert bad_format(candidate(finish=finish)) == f"finish: {finish}"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("So \\boxed{77}.", None),
        ("So \\fbox{77}.", None),
        ("So $x = \\boxed{77}$ and \\$5 more.", None),  # one pair, and an escaped sign that is a currency
        ("$$x$$ is \\boxed{77}", None),
        ("```python\nprint(1)\nSo \\boxed{77}.", "stray fence"),  # never closed
        ("```\nSo \\boxed{77}.", "stray fence"),
        ("So $x = \\boxed{77}.", "unbalanced $"),
        ("$a$, $b: \\boxed{77}", "unbalanced $"),
        ("\\\\$x: \\boxed{77}", "unbalanced $"),  # the backslash is escaped, the dollar is not
        ("So 77.", "no box"),
        ("So \\boxed{}.", "empty box"),  # what the released filter's expression can never find
        ("So \\boxed{ }.", "empty box"),
        ("So \\boxed{77.", "empty box"),  # never closed, so that it holds nothing
        ("<think>So</think> \\boxed{77}.", "think tags"),  # a model that was not asked to think
    ],
)
def test_an_answer_stands_in_a_box_among_paired_fences_and_dollars(answer, reason):
    assert bad_format(candidate(answer=answer)) == reason


@pytest.mark.parametrize("extracted", [None, "", "  "])
def test_a_box_that_the_grader_found_empty_is_rejected_though_a_scorer_accepted_the_text(extracted):
    assert bad_format(candidate(verdict=replace(CORRECT, extracted=extracted))) == "empty box"


@pytest.mark.parametrize(
    ("text", "own", "opened"),
    [
        ("<think>We compute.</think> \\boxed{77}", True, False),
        ("We compute.</think> \\boxed{77}", False, True),
        ("We compute. \\boxed{77}", False, False),  # no thinking turn where one was asked for
        ("<think>We compute. \\boxed{77}", False, False),
        ("<think>a</think> <think>b</think> \\boxed{77}", False, False),
        ("<think>a</think> b</think> \\boxed{77}", False, False),
        ("<think> \n</think> \\boxed{77}", False, False),  # nothing was thought
        ("First <think>a</think> \\boxed{77}", False, False),  # words before the turn
        ("</think><think>a \\boxed{77}", False, False),
    ],
)
def test_a_thinking_turn_is_one_pair_of_tags_around_something_at_the_head(text, own, opened):
    def judged(thinking):
        whole = candidate(answer=text, thinking=thinking)
        return bad_format(replace(whole, trajectory=replace(whole.trajectory, steps=whole.trajectory.steps[-1:])))

    assert judged(Thinking.OWN) == (None if own else "think tags")
    assert judged(Thinking.OPENED) == (None if opened else "think tags")


def test_programs_may_stand_within_the_thinking_turn():
    whole = candidate(answer="</think> So \\boxed{77}.", thinking=Thinking.OPENED)
    assert bad_format(whole) is None  # the thought before the call is part of the turn


@pytest.mark.parametrize(
    ("codes", "max_share", "reason"),
    [
        (["print(77)"], 0, "prints what is known"),  # a single trivial block: the released filter keeps it
        (["print(20 + 57)"], 0, None),
        (["print(20 + 57)", "print(77)"], 0, "prints what is known"),
        (["print(20 + 57)", "print(77)"], 0.5, None),
        (["print(77)", "print(77)"], 0.5, "prints what is known"),
        (["print(77"], 0, "code does not parse"),
    ],
)
def test_no_larger_share_of_programs_than_allowed_may_be_trivial(codes, max_share, reason):
    found = trivial_code(candidate(*codes), max_share=max_share, needs_import_or_control_flow=False)
    assert found == reason


def test_prose_that_goes_round_in_circles_is_rejected_and_indentation_is_not():
    circle = "and then again we say "  # 22 characters: each of its windows occurs once a round
    assert repetition(candidate(answer=circle * 20), max_repeats=20) is None
    assert repetition(candidate(answer=circle * 22), max_repeats=20) == "repetition"
    assert repetition(candidate(answer=" " * 500 + "x" + "\n" * 500), max_repeats=20) is None
    indented = "".join(" " * 24 + f"{n}\n" for n in range(100, 140))  # forty windows of blanks, one line each
    assert repetition(candidate(answer=indented), max_repeats=20) is None


def test_a_program_may_repeat_itself_since_only_prose_is_compared():
    assert repetition(candidate("x = 0\n" + "x = (x * 31 + 7) % 1000003\n" * 40), max_repeats=20) is None


@pytest.mark.parametrize(
    ("low", "high", "reason"),
    [(4, 4, None), (5, None, "too short"), (1, 3, "too long"), (1, None, None)],
)
def test_lengths_are_bounded_in_tokens_of_the_response_outputs_included(low, high, reason):
    # thought, action, output and the answer are one token each; the prompt does not count
    assert bad_length(candidate(), min_tokens=low, max_tokens=high) == reason


@pytest.mark.parametrize(
    ("rate", "threshold", "reason"),
    [
        (1.0, 1.0, "solved without tools"),
        (0.5, 1.0, None),
        (0.5, 0.5, "solved without tools"),
        (1.0, 1.1, None),
        (None, 0.0, None),
    ],
)
def test_questions_that_words_alone_solve_often_enough_are_left_out(rate, threshold, reason):
    assert easy_without_tools(candidate(rate=rate), threshold) == reason
