"""Every row exactly once, whatever the lengths and the budget."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.learner.batch import collate, num_inputs, plan, totals
from thor_tir.learner.objective import Objective, sequence_mean
from thor_tir.learner.sample import Term, TrainingSample
from tiny_rows import NAN, episode_terms, random_row, step_terms

SFT = (Term(name="sft", formula="nll"),)


@given(seeds=st.lists(st.integers(0, 10**6), max_size=30, unique=True), budget=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_every_row_is_in_exactly_one_group_and_the_padded_size_is_within_the_budget(seeds, budget):
    rows = [random_row(seed, SFT) for seed in seeds]
    groups = plan(rows, micro_batch_tokens=budget)
    assert sorted(row.id for group in groups for row in group) == sorted(row.id for row in rows)
    assert all(len(g) == 1 or len(g) * max(map(num_inputs, g)) <= budget for g in groups)


def test_padding_is_never_trained_and_the_shift_pairs_each_trained_token_with_what_precedes_it():
    short = TrainingSample(
        id="short",
        token_ids=(5, 6, 7, 8),
        trained=(False, True, True, False),
        old_logprobs=(NAN, -1.0, -2.0, NAN),
        terms=episode_terms(1.0),
    )
    long = dataclasses.replace(
        short,
        id="long",
        token_ids=(1, 2, 3, 4),
        trained=(False, False, False, True),
        old_logprobs=(NAN, NAN, NAN, -0.5),
    )
    batch = collate([short, long])
    # `short` ends with its last trained token, 7: it reads 5 6 and one padding token
    assert batch.input_ids_BT[:, :2].tolist() == [[5, 6], [1, 2]]
    assert batch.trained_N.tolist() == [0, 1, 5]
    assert (batch.row_N.tolist(), batch.num_trained_B.tolist()) == ([0, 0, 1], [2.0, 1.0])
    assert batch.target_ids_BT.flatten()[batch.trained_N].tolist() == [6, 7, 4]
    assert batch.old_logp_N.tolist() == [-1.0, -2.0, -0.5]
    assert batch.num_tokens == 2 + 3


def test_normalisers_count_the_trained_tokens_of_every_row_that_carries_the_component():
    zero_advantage = random_row(1, episode_terms(0.0))
    positive = random_row(2, episode_terms(1.0))
    silent_step = random_row(3, [Term(name="step", formula="surrogate", advantage=1.0, weight=0.0)])
    found = totals([zero_advantage, positive, silent_step], Objective())
    assert {name: total.num_tokens for name, total in found.items()} == {
        "episode": zero_advantage.num_trained + positive.num_trained,
        "episode_nll": positive.num_trained,
        "step": silent_step.num_trained,
    }
    assert found["episode"].num_rows == 2


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        (episode_terms(1.0), True),
        (episode_terms(-1.0), True),
        (episode_terms(0.0), False),
        (step_terms(1.0, weight=0.0, nll_weight=0.0), False),
        (step_terms(1.0, weight=0.0, nll_weight=0.01), True),
        (SFT, True),
    ],
)
def test_a_row_is_run_only_where_some_term_can_move_the_model(terms, expected):
    assert random_row(0, terms).leaves_gradient is expected


def test_a_row_without_trained_tokens_is_not_run():
    row = random_row(0, SFT)
    assert not dataclasses.replace(row, trained=(False,) * len(row.token_ids)).leaves_gradient


def test_the_denominators_of_all_rows_are_those_of_the_mean_that_each_component_has():
    rows = [random_row(1, episode_terms(1.0)), random_row(2, episode_terms(-1.0))]
    by_sequence = totals(rows, Objective(mean=sequence_mean()))
    expected = {"episode": 2.0, "episode_nll": float(rows[0].num_trained)}
    assert {name: total.mass for name, total in by_sequence.items()} == expected
    by_token = totals(rows, Objective()).values()
    assert [total.mass for total in by_token] == [total.num_tokens for total in by_token]


def test_what_a_row_carries_for_each_token_is_laid_beside_its_trained_tokens():
    bare = random_row(1, episode_terms(1.0))
    length = len(bare.token_ids)
    full = dataclasses.replace(bare, correction=tuple(range(length)), reference_logprobs=tuple(range(-length, 0)))
    batch = collate([bare, full])
    places = [t for t, is_trained in enumerate(bare.trained) if is_trained]
    assert batch.correction_N.tolist() == [*[1.0] * len(places), *places]
    assert batch.reference_logp_N[: len(places)].isnan().all()
    assert batch.reference_logp_N[len(places) :].tolist() == [t - length for t in places]


def test_two_terms_of_one_name_in_one_row_are_refused():
    with pytest.raises(ValueError, match="row-0 has two terms"):
        random_row(0, [*SFT, *SFT])


def test_shares_of_rows_that_do_not_carry_a_component_have_no_weight():
    batch = collate([random_row(0, episode_terms(0.5)), random_row(1, step_terms(-2.0))], dtype=torch.float64)
    episode, step = batch.shares["episode"], batch.shares["step"]
    first, second = map(int, batch.num_trained_B.tolist())
    assert (episode.weight_B.tolist(), episode.adv_N.tolist()) == ([1.0, 0.0], [0.5] * first + [0.0] * second)
    assert (step.weight_B.tolist(), step.adv_N.tolist()) == ([0.0, 1.0], [0.0] * first + [-2.0] * second)
    assert batch.shares["episode_nll"].is_carried_B.tolist() == [True, False]


def test_an_advantage_for_each_token_is_laid_beside_its_trained_tokens():
    bare = random_row(1, episode_terms(1.0))
    given = tuple(float(t) for t in range(len(bare.token_ids)))
    row = dataclasses.replace(bare, terms=(Term(name="value", formula="surrogate", token_advantages=given),))
    assert collate([row]).shares["value"].adv_N.tolist() == [
        t for t, is_trained in enumerate(row.trained) if is_trained
    ]
    assert row.leaves_gradient


def test_one_name_has_one_formula_and_an_unknown_formula_is_named():
    with pytest.raises(ValueError, match="another formula"):
        totals([random_row(0, SFT), random_row(1, [Term(name="sft", formula="surrogate")])], Objective())
    with pytest.raises(ValueError, match="unknown formula 'entropi'; known: surrogate, nll, kl"):
        random_row(0, [Term(name="bonus", formula="entropi")])
