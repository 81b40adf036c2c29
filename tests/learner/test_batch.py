"""Every row exactly once, whatever the lengths and the budget."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.learner.batch import collate, leaves_gradient, masses, num_inputs, plan, row_counts, token_counts
from thor_tir.learner.objective import Mean, sequence_mean, token_mean
from thor_tir.learner.sample import Component, Term, TrainingSample
from tiny_rows import NAN, episode_terms, random_row, step_terms

SFT = (Term(component=Component.SFT),)


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
    silent_step = random_row(3, [Term(component=Component.STEP, advantage=1.0, weight=0.0)])
    counts = token_counts([zero_advantage, positive, silent_step])
    assert counts == {
        Component.EPISODE: zero_advantage.num_trained + positive.num_trained,
        Component.EPISODE_NLL: positive.num_trained,
        Component.STEP: silent_step.num_trained,
    }
    assert row_counts([zero_advantage, positive, silent_step])[Component.EPISODE] == 2


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
    assert leaves_gradient(random_row(0, terms)) is expected


def test_a_row_without_trained_tokens_is_not_run():
    row = random_row(0, SFT)
    assert not leaves_gradient(dataclasses.replace(row, trained=(False,) * len(row.token_ids)))


def test_the_denominators_of_all_rows_are_those_of_the_mean_that_each_component_has():
    rows = [random_row(1, episode_terms(1.0)), random_row(2, episode_terms(-1.0))]

    def mean_of(component: Component) -> Mean:
        return token_mean() if component is Component.EPISODE_NLL else sequence_mean()

    assert masses(rows, mean_of) == {Component.EPISODE: 2.0, Component.EPISODE_NLL: float(rows[0].num_trained)}
    assert masses(rows, lambda _component: token_mean()) == dict(token_counts(rows))


def test_what_a_row_carries_for_each_token_is_laid_beside_its_trained_tokens():
    bare = random_row(1, episode_terms(1.0))
    length = len(bare.token_ids)
    full = dataclasses.replace(bare, correction=tuple(range(length)), reference_logprobs=tuple(range(-length, 0)))
    batch = collate([bare, full])
    places = [t for t, is_trained in enumerate(bare.trained) if is_trained]
    assert batch.correction_N.tolist() == [*[1.0] * len(places), *places]
    assert batch.reference_logp_N[: len(places)].isnan().all()
    assert batch.reference_logp_N[len(places) :].tolist() == [t - length for t in places]


def test_two_terms_of_one_row_in_one_component_are_refused():
    with pytest.raises(ValueError, match="row-0 has two terms"):
        token_counts([random_row(0, [*SFT, *SFT])])


def test_shares_of_rows_that_do_not_carry_a_component_have_no_weight():
    batch = collate([random_row(0, episode_terms(0.5)), random_row(1, step_terms(-2.0))], dtype=torch.float64)
    episode, step = batch.shares[Component.EPISODE], batch.shares[Component.STEP]
    assert (episode.weight_B.tolist(), episode.adv_B.tolist()) == ([1.0, 0.0], [0.5, 0.0])
    assert (step.weight_B.tolist(), step.adv_B.tolist()) == ([0.0, 1.0], [0.0, -2.0])
    assert batch.shares[Component.EPISODE_NLL].is_carried_B.tolist() == [True, False]
