"""Seeds of a run's parts."""

from typing import get_args

from thor_tir.seeds import OFFSETS, SplitName, seed_for, seed_of


def test_each_split_of_a_run_has_a_seed_of_its_own_at_a_fixed_distance() -> None:
    assert [seed_for(split, 7) for split in ("tirgen", "rl", "validation", "test")] == [8, 9, 10, 11]
    assert set(OFFSETS) == set(get_args(SplitName))


def test_a_seed_from_parts_depends_on_each_and_on_where_one_ends() -> None:
    assert len({seed_of("a", "b"), seed_of("ab"), seed_of("b", "a"), seed_of("a", "b", 0)}) == 4
    assert 0 <= seed_of("a") < 2**63
    assert seed_of("a", 1) == seed_of("a", "1")  # numbers count as they print
