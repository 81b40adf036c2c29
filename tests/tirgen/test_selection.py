"""How samples are weighed against each other: by question, by number of calls, by difficulty."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thor_tir.tirgen.selection import SampleEntry, balance, fair_cap, levelled, per_question, tally

sizes_st = st.lists(st.integers(1, 60), min_size=1, max_size=5)


def entries(*strata: tuple[int, int], solved: float = 0.0) -> list[SampleEntry]:
    """So many samples with so many calls each, every one of a question of its own."""
    return [
        SampleEntry(id=f"c{calls}-{n}-{solved}/0", problem_id=f"c{calls}-{n}-{solved}", num_calls=calls, solved=solved)
        for calls, number in strata
        for n in range(number)
    ]


def by_calls(pool: list[SampleEntry], chosen: set[str]) -> dict[int, int]:
    return dict(Counter(e.calls for e in pool if e.id in chosen))


@pytest.mark.parametrize(
    ("sizes", "share", "cap"),
    [
        ([12, 3], 0.5, 3),
        ([12, 3], 0.75, 9),  # 9 of 12 is three quarters
        ([12, 3], 0.25, 3),  # impossible for two: as even as can be
        ([5, 5], 0.5, None),
        ([12], 0.5, None),  # alone it is always the whole
        ([], 0.5, None),
        ([10, 4, 4], 0.5, 8),
        ([27141, 1736, 280, 60], 0.5, 2076),  # the paper's short data: 1736 + 280 + 60
    ],
)
def test_the_cap_is_the_largest_that_lets_no_stratum_exceed_its_share(sizes, share, cap):
    assert fair_cap(sizes, share) == cap


@given(sizes_st, st.sampled_from([0.3, 0.5, 0.6, 0.9]))
def test_after_the_cut_no_stratum_is_too_large_and_one_more_would_be(sizes, share):
    cap = fair_cap(sizes, share)
    if cap is None:
        assert len(sizes) == 1 or max(sizes) <= share * sum(sizes)
        return
    cut = [min(size, cap) for size in sizes]
    assert max(cut) <= share * sum(cut) or cap == min(sizes)
    more = [min(size, cap + 1) for size in sizes]
    assert max(more) > share * sum(more)


@given(sizes_st, st.integers(0, 200))
def test_a_room_is_filled_evenly(sizes, room):
    allowed = levelled(sizes, room)
    assert sum(allowed) == min(room, sum(sizes))
    cut = [a for a, size in zip(allowed, sizes, strict=True) if a < size]
    assert not cut or max(allowed) - min(cut) <= 1  # nobody has more than one above a cell that gave something up


def test_a_number_of_calls_that_prevails_is_sampled_down_and_rarer_ones_are_kept_whole():
    pool = entries((1, 12), (2, 3), (5, 2))
    # 3 + 2 with several calls leave room for 5 of one call
    assert by_calls(pool, balance(pool, max_share=0.5, min_kept=0, seed=0)) == {1: 5, 2: 3, 4: 2}
    assert by_calls(pool, balance(pool, max_share=1, min_kept=0, seed=0)) == {1: 12, 2: 3, 4: 2}


def test_down_sampling_is_moderate():
    pool = entries((1, 100), (2, 3))
    assert by_calls(pool, balance(pool, max_share=0.5, min_kept=0.5, seed=0)) == {1: 50, 2: 3}
    assert by_calls(pool, balance(pool, max_share=0.5, min_kept=0.995, seed=0)) == {1: 100, 2: 3}


def test_within_a_number_of_calls_the_commonest_difficulty_gives_first():
    pool = entries((1, 20), solved=1.0) + entries((1, 4), solved=0.0) + entries((2, 12), solved=0.5)
    chosen = balance(pool, max_share=0.5, min_kept=0, seed=0)
    assert tally(e for e in pool if e.id in chosen) == {(1, 3): 8, (1, 0): 4, (2, 2): 12}


def test_difficulty_is_a_quarter_of_the_share_of_attempts_that_solved_the_question():
    found = [e.difficulty for share in (0, 0.24, 0.25, 0.5, 0.74, 0.75, 1) for e in entries((1, 1), solved=share)]
    assert found == [0, 0, 1, 2, 2, 3, 3]


pool_st = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 3), st.integers(1, 5), st.sampled_from([0, 0.3, 1])),
    unique_by=lambda t: t[:2],
    max_size=40,
).map(lambda rows: [SampleEntry(id=f"q{q}/{n}", problem_id=f"q{q}", num_calls=c, solved=s) for q, n, c, s in rows])


@given(pool_st, st.randoms(use_true_random=False), st.integers(1, 3))
def test_the_order_of_the_samples_decides_nothing(pool: list[SampleEntry], random: Random, most: int):
    mixed = random.sample(pool, len(pool))
    assert per_question(pool, most, seed=1) == per_question(mixed, most, seed=1)
    kept = {"max_share": 0.5, "min_kept": 0.2, "seed": 1}
    assert balance(pool, **kept) == balance(mixed, **kept)


@given(pool_st, st.integers(1, 3))
def test_choosing_again_from_what_was_chosen_changes_nothing(pool: list[SampleEntry], most: int):
    once = [e for e in pool if e.id in per_question(pool, most, seed=1)]
    assert per_question(once, most, seed=1) == {e.id for e in once}
    even = [e for e in pool if e.id in balance(pool, max_share=0.5, min_kept=0, seed=1)]
    assert balance(even, max_share=0.5, min_kept=0, seed=1) == {e.id for e in even}


@given(pool_st, st.integers(1, 3))
def test_every_question_gives_as_many_samples_as_it_has_and_may(pool: list[SampleEntry], most: int):
    chosen = per_question(pool, most, seed=1)
    had = Counter(e.problem_id for e in pool)
    assert Counter(e.problem_id for e in pool if e.id in chosen) == {q: min(n, most) for q, n in had.items()}


def test_another_seed_chooses_others():
    pool = entries((1, 60), (2, 10))
    assert balance(pool, max_share=0.5, min_kept=0, seed=0) != balance(pool, max_share=0.5, min_kept=0, seed=1)
