"""Groups that grow as trees: where they branch, what a branch reads, and how its members are compared."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from test_step_methods import ANSWER, GOOD, PROBLEM, WRONG, attempt_of, sampled_ids, setup_of, toy_config, toy_run

from rl_steps import attempt_with, called, said
from thor_tir.rl.algorithms import group_advantages
from thor_tir.rl.config import EpisodeConfig
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.growth import Grown, branches_at, entropy_places, grow, in_trees, surprise, tree_places
from thor_tir.rl.step_methods.branches import after
from thor_tir.rollout.sample_many import AttemptRequest
from thor_tir.storage.journal import Journal
from thor_tir.trajectory import Step
from thor_tir.verdict import Outcome


def test_a_chain_branches_where_the_model_is_less_sure_than_at_first():
    # u - gain / 2 is compared with 1/2
    assert [branches_at(u, 0.0) for u in (0.0, 0.5, 0.51)] == [True, True, False]
    assert [branches_at(u, 1.0) for u in (0.9, 1.0)] == [True, True]
    assert [branches_at(u, -0.6) for u in (0.19, 0.21)] == [True, False]


def test_the_surprise_of_a_turn_is_that_of_its_first_ten_tokens():
    assert surprise(called("a" * 30)) == 1.0  # every token was given e^-1
    sure = said("abcdefghijkl")
    span = replace(sure.thought.span, logprobs=(-2.0,) * 5 + (0.0,) * 7)
    assert surprise(Step(thought=replace(sure.thought, span=span))) == 1.0
    assert surprise(said("")) == 0.0


TWO_TURNS = attempt_of(f"Add.\n{GOOD}", WRONG).trajectory


def test_places_lie_behind_observations_and_what_is_not_placed_is_sampled_whole():
    chains = [TWO_TURNS, attempt_of(ANSWER, id="round1/0/1").trajectory]
    found = [entropy_places(chains, 2, seed=str(seed)) for seed in range(20)]
    placed = [[None if place is None else place.id for place in places] for places in found]
    assert {tuple(ids) for ids in placed} == {("round1/0/0/after1", None), (None, None)}
    assert placed == [[p and p.id for p in entropy_places(chains, 2, seed=str(seed))] for seed in range(20)]


def test_trees_expand_turns_that_are_not_the_last_and_take_turns():
    long = attempt_of(f"Add.\n{GOOD}", f"Add.\n{GOOD}", ANSWER, id="long").trajectory
    flat = attempt_of(ANSWER, id="flat").trajectory
    ids = {tuple(place.id for place in tree_places([long, flat], 3, seed=str(seed))) for seed in range(30)}
    assert ids == {(f"long/after{a}", "flat/after0", f"long/after{b}") for a in (1, 2) for b in (1, 2)}
    assert tree_places([], 2, seed="") == [None, None]


def grown_group(folder: Path, replies: list[str], **config) -> tuple[Grown, object]:
    setup = setup_of(replies)
    requests = [[AttemptRequest(id=f"round1/0/{n}", problem=PROBLEM, seed=n) for n in range(3)]]
    journal = Journal(folder / "rollouts.jsonl")
    return asyncio.run(grow(requests, setup, journal, EpisodeConfig(num_generations=3, **config))), setup


def test_a_branch_reads_its_chain_up_to_the_place_and_is_a_member_like_any_other(tmp_path):
    replies = [f"Add.\n{GOOD}", WRONG, ANSWER, WRONG]
    found, setup = grown_group(tmp_path, replies, grouping="tree", first_chains=1)
    (group,) = found.groups
    prefix = after(group[0].trajectory, 1)
    assert sampled_ids(setup, 2) == sampled_ids(setup, 3) == prefix.prefix.token_ids
    assert [attempt.reward for attempt in group] == [0.0, 1.0, 0.0]
    begun = [[span.token_ids for span in attempt.trajectory.steps[0].spans] for attempt in group]
    assert begun == begun[:1] * 3
    assert found.roots == dict.fromkeys(("round1/0/0", "round1/0/1", "round1/0/2"), "round1/0/0")
    assert found.num_shared == 2 * group[0].trajectory.steps[0].num_sampled
    again, setup = grown_group(tmp_path, [], grouping="tree", first_chains=1)
    assert again == found
    row = episode_rows(found.groups, EpisodeConfig(filters=()), Counter())[1]
    assert row.token_ids == tuple(token for span in group[1].trajectory.spans for token in span.token_ids)


def test_members_are_compared_in_their_tree_and_among_all():
    members = [
        replace(a, trajectory=replace(a.trajectory, id=id))
        for id, a in zip("abcd", [attempt_with(said("x"), outcome=Outcome.CORRECT)] * 4, strict=True)
    ]
    credits = in_trees(members, [1.0, 0.0, 0.0, 0.0], {"a": "a", "b": "a", "c": "c", "d": "d"}, group_advantages)
    # among all: mean 1/4, deviation 1/2; in the tree of a and b: +-0.5/0.70711; trees of one add nothing
    assert credits == pytest.approx([1.5 + 0.70711, -0.5 - 0.70711, -0.5, -0.5], rel=1e-4)


@pytest.mark.parametrize("grouping", ["entropy", "tree"])
def test_a_run_of_trees_counts_shared_tokens_once(tmp_path, grouping):
    config = toy_config(method="none")
    config = replace(config, episode=replace(config.episode, grouping=grouping, first_chains=2))
    _, (row,) = toy_run(tmp_path, config)
    _, (plain,) = toy_run(tmp_path / "plain", toy_config(method="none"))
    assert 0 < row["sampled_tokens"] < row["response_tokens"] * 12
    assert plain["sampled_tokens"] == pytest.approx(plain["response_tokens"] * 12)


def test_first_chains_belong_to_groups_that_grow():
    assert EpisodeConfig(num_generations=5, grouping="tree").num_chains == 3
    with pytest.raises(ValueError, match="first_chains"):
        EpisodeConfig(first_chains=2)
