"""Which replica a prompt is asked of."""

from thor_tir.engines.vllm.families import SLACK, Families

SYSTEM = list(range(100))
"""The beginning of every prompt."""
IDLE = {"a": 0, "b": 0}


def test_a_group_its_later_turns_and_its_repairs_stay_with_one_replica_and_other_problems_go_elsewhere() -> None:
    families = Families()
    one, other = [*SYSTEM, 1, 2, 3], [*SYSTEM, 4, 5]
    assert families.choose(one, IDLE) == "a"
    assert families.choose(other, {"a": 1, "b": 0}) == "b"
    for member in (one, [*one, 7, 8, 9], [*one, 7, 6]):
        assert families.choose(member, {"a": 5, "b": 0}) == "a"
    assert families.choose([*other, 1], {"a": 0, "b": 9}) == "b"


def test_what_all_prompts_begin_with_ties_no_prompt_to_a_replica() -> None:
    families = Families()
    homes = [families.choose([*SYSTEM, 200 + n], {"a": n % 2, "b": (n + 1) % 2}) for n in range(6)]
    assert homes == ["a", "b"] * 3


def test_a_replica_that_is_far_busier_is_passed_by_and_keeps_its_family() -> None:
    families = Families()
    families.choose([1, 2], IDLE)
    assert families.choose([1, 2], {"a": SLACK + 1, "b": 0}) == "b"
    assert families.choose([1, 2], {"a": SLACK, "b": 0}) == "a"


def test_a_family_whose_replica_is_away_or_lost_its_cache_gets_another_home() -> None:
    families = Families()
    families.choose([1, 2], IDLE)
    assert families.choose([1, 2], {"b": 3}) == "b"
    assert families.choose([1, 2, 3], {"a": 0, "b": 3}) == "b"
    families.forget("b")
    assert families.choose([1, 2, 3], {"a": 0, "b": 3}) == "a"


def test_families_are_forgotten_oldest_first(monkeypatch) -> None:
    monkeypatch.setattr("thor_tir.engines.vllm.families.MOST", 2)
    families = Families()
    for n in range(3):
        families.choose([n, n], {"a": 0})
    assert families.choose([0, 0], {"a": 1, "b": 0}) == "b"
    assert families.choose([2, 2], {"a": 1, "b": 0}) == "a"
