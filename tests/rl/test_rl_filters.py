"""Each rule by what it lets through and what it names."""

from collections import Counter

import pytest

from rl_steps import attempt_with, called, said, spell
from thor_tir.execution import Status
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.episode import (
    episode_rows,
    failed_call,
    no_box,
    no_room,
    rules_of,
    too_short,
    truncated,
    unscored,
    void_turn,
)
from thor_tir.trajectory import Finish
from thor_tir.verdict import Outcome


def test_a_failed_call_anywhere_is_named_and_successes_are_not():
    fine, failed = called(), called(status=Status.RUNTIME)
    assert failed_call(attempt_with(fine, fine, said("4"))) is None
    assert failed_call(attempt_with(fine, failed, fine, said("4"))) == "failed call"


def test_a_response_as_long_as_the_limit_is_too_short_and_one_token_more_is_not():
    # the prompt's 50 tokens do not count; thought 3, program 1, output 1, answer 2
    response = attempt_with(called("abc"), said("de"))
    assert too_short(response, 7) == "too short"
    assert too_short(response, 6) is None


@pytest.mark.parametrize(
    ("text", "window", "cause"),
    [
        (r"So \boxed{4}.", 100, None),
        (r"So \boxed{}.", 100, "no box"),
        ("So 4.", 100, "no box"),
        (r"So \boxed{4}." + "x" * 100, 100, "no box"),  # before the last hundred tokens
        (r"So \boxed{4}." + "x" * 90, 100, None),
    ],
)
def test_the_answer_must_stand_in_a_box_within_the_last_tokens(text, window, cause):
    assert no_box(attempt_with(called(), said(text)), window, spell) == cause


def test_a_box_that_a_tool_printed_is_no_answer():
    assert no_box(attempt_with(called(stdout=r"\boxed{4}"), said("So.")), 100, spell) == "no box"


@pytest.mark.parametrize(
    ("steps", "cause"),
    [
        ((called(), said(r"So \boxed{4}.")), None),
        ((called(), said("Hm, so")), "void turn"),
        ((said("```python\nprint("),), "void turn"),  # a program that never ends is none
        ((called(), called()), None),  # its last turn ran a program
        ((), "void turn"),
    ],
)
def test_a_last_turn_without_program_and_answer_is_void(steps, cause):
    assert void_turn(attempt_with(*steps)) == cause


def test_only_the_limit_of_tokens_truncates():
    endings = {finish: truncated(attempt_with(said("4"), finish=finish)) for finish in Finish}
    assert {finish for finish, cause in endings.items() if cause} == {Finish.TOKEN_LIMIT}


def test_a_trajectory_without_a_verdict_leaves_whatever_filters_are_chosen():
    rules = rules_of((), min_tokens=0, box_window=1, decode=None)
    assert rules == [no_room, unscored]
    assert unscored(attempt_with(said("4"), outcome=Outcome.UNSCORED)) == "unscored"


def test_the_filters_of_a_run_are_applied_in_their_order_and_counted_by_the_first_cause():
    group = [
        attempt_with(called(status=Status.RUNTIME), said("x")),  # failed, void and short: the first is named
        attempt_with(called(), said("x" * 20)),
        attempt_with(called(), said(r"\boxed{4}" + "x" * 20), outcome=Outcome.CORRECT),
        attempt_with(said(r"\boxed{4}")),
        attempt_with(called(), said(r"\boxed{5}" + "x" * 20)),
    ]
    config = EpisodeConfig(filters=("failed-call", "void-turn", "too-short"), min_tokens=15)
    dropped: Counter[str] = Counter()
    assert len(episode_rows([group], config, dropped)) == 2
    assert dropped == {"episode: failed call": 1, "episode: void turn": 1, "episode: too short": 1}
    assert len(episode_rows([group], EpisodeConfig(filters=()), Counter())) == 5


def test_the_box_filter_needs_a_tokenizer_and_says_so():
    with pytest.raises(ValueError, match="hand in `decode`"):
        episode_rows([[attempt_with(said("4"))]], EpisodeConfig(filters=("no-box",)), Counter())


@pytest.mark.parametrize(("survivors", "is_kept"), [(7, False), (8, True)])
def test_the_released_quota_drops_groups_of_which_less_than_half_is_left(survivors, is_kept):
    right, wrong = (attempt_with(said("4"), outcome=outcome) for outcome in (Outcome.CORRECT, Outcome.WRONG))
    failed = attempt_with(called(status=Status.RUNTIME))
    group = [right, *[wrong] * (survivors - 1), *[failed] * (16 - survivors)]
    dropped: Counter[str] = Counter()
    rows = episode_rows([group], EpisodeConfig(min_share=0.5), dropped)
    assert len(rows) == (survivors if is_kept else 0)
    assert dropped["episode: too few survivors"] == (0 if is_kept else 7)


@pytest.mark.parametrize("field", [{"min_share": 1.5}, {"min_tokens": -1}, {"box_window": 0}])
def test_impossible_filters_are_refused(field):
    with pytest.raises(ValueError, match="min_share is a share"):
        EpisodeConfig(**field)
