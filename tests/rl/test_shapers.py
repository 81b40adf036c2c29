"""Packaged shapers of advantages, and resampling on correct, by hand."""

from collections import Counter
from dataclasses import replace

import pytest

from rl_steps import attempt_with, called, said
from thor_tir.errors import UsageError
from thor_tir.execution import Status
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.resampling import failed_share, resampled
from thor_tir.rl.shapers import early_calls, few_calls
from thor_tir.rl.shaping import load_shape
from thor_tir.rollout.sample_many import Attempt
from thor_tir.verdict import Outcome

BROKE = Status.RUNTIME


def test_early_calls_are_favoured_among_right_answers_alone():
    # places 0 and 4, mean 2; lengths 10 and 30, mean 20; -1 * (0 - 2) / 20 = 0.1
    assert early_calls([1.0, 1.0, -1.0], [0, 4, None], [10, 30, 99], delta=-1.0, k=0.5) == pytest.approx([1.1, 0.9, -1])
    assert early_calls([1.0, -1.0], [None, None], [5, 5]) == [1.0, -1.0]


def test_a_place_never_outweighs_the_answer():
    assert early_calls([1.0, 1.0], [0, 100], [1, 1], delta=-9.0, k=0.5) == pytest.approx([1.5, 0.5])


def test_few_calls_are_favoured_where_most_answers_are_right():
    # sin(pi/2 * 1/1) = 1 and sin(0) = 0: -0.2 and 0, mean -0.1
    shaped = few_calls([0.5, 0.5, -1.0], [True, True, False], [1, 0, 9], penalty=0.2, most=1, k=0.9)
    assert shaped == pytest.approx([0.4, 0.6, -1.0])
    clipped = few_calls([0.5, 0.5, -1.0], [True, True, False], [1, 0, 9], penalty=9.0, most=1, k=0.5)
    assert clipped == pytest.approx([0.25, 0.75, -1.0])
    assert few_calls([1.0, -1.0], [True, False], [5, 0], hard=0.5) == [1.0, -1.0]  # a hard problem may cost calls
    assert few_calls([0.0], [False], [1]) == [0.0]


def named(id: str, attempt: Attempt) -> Attempt:
    return replace(attempt, trajectory=replace(attempt.trajectory, id=id))


RIGHT = Outcome.CORRECT
EARLY = named("early", attempt_with(called("a"), said("b"), outcome=RIGHT))  # 1 token before the call, 4 in all
LATE = named("late", attempt_with(called("abc"), said("b"), outcome=RIGHT))  # 3 and 6
WRONG = named("wrong", attempt_with(called("a"), said("b")))


@pytest.mark.parametrize(
    ("spec", "gain"),
    [("aspo,delta=-0.5,k=0.9", 0.1), ("cas,penalty=1", 0.0)],  # 0.5 * 1 / 5; as many calls each
)
def test_a_run_names_packaged_shapers_with_their_parameters(spec, gain):
    rows = episode_rows([[EARLY, LATE, WRONG]], EpisodeConfig(), Counter(), shape=load_shape(spec))
    # rewards 1 1 0: mean 2/3, deviation 0.57735
    expected = [0.57735 + gain, 0.57735 - gain, -1.15470]
    assert [row.terms[0].advantage for row in rows] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("spec", "said"), [("aspo=2", "has no weight"), ("aspo,q=2", "q"), ("aspx", "aspo, cas")])
def test_a_shaper_that_cannot_be_had_is_refused(spec, said):
    with pytest.raises(UsageError, match=said):
        load_shape(spec)


# resampling on correct


def test_a_trajectory_without_calls_counts_as_half_failed():
    shares = [attempt_with(called()), attempt_with(called(), called(status=BROKE)), attempt_with(said("a"))]
    assert [failed_share(attempt.trajectory) for attempt in shares] == [0.0, 0.5, 0.5]


def group_of(*kinds: str) -> list[Attempt]:
    """`c` right and clean, `f` right after a failed call, `n` right without calls, `w` wrong, `u` without a reward."""
    kinds_of = {
        "c": attempt_with(called(), said("x"), outcome=RIGHT),
        "f": attempt_with(called(status=BROKE), called(status=BROKE), called(), said("x"), outcome=RIGHT),
        "n": attempt_with(said("x"), outcome=RIGHT),
        "w": attempt_with(called(), said("x")),
        "u": attempt_with(said("x"), outcome=Outcome.UNSCORED),
    }
    return [named(f"{kind}{number}", kinds_of[kind]) for number, kind in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "kept"),
    [
        ("fcnw", "c1 w3"),  # three right and one wrong make 1.5 rounded to 2, and one place is for the wrong one
        ("wwwwwwwf", "w0 w1 w2 f7"),  # a lone right one stays
        ("ffcnwwww", "c2 n3 w4 w5"),
        ("cccc", "c0 c1"),
        ("wwww", "w0 w1"),
        ("cw", "c0 w1"),
        ("cuwwf", "c0 u1 w2"),
    ],
)
def test_wrong_ones_keep_their_share_and_right_ones_are_the_cleanest(kinds, kept):
    keep = 4 if len(kinds) == 8 else 2
    assert " ".join(attempt.trajectory.id for attempt in resampled(group_of(*kinds), keep)) == kept


def test_what_is_resampled_away_is_counted_and_in_no_baseline():
    dropped: Counter[str] = Counter()
    config = EpisodeConfig(num_generations=2, oversample=2, filters=())
    rows = episode_rows([group_of(*"fcww")], config, dropped)
    assert [row.id for row in rows] == ["c1", "w2"]
    assert [row.terms[0].advantage for row in rows] == pytest.approx([0.70711, -0.70711], rel=1e-4)
    assert dropped == {"episode: resampled away": 2}
    assert config.num_sampled == 4
