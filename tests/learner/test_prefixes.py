"""Prefixes that are read once: the same gradient as of rows read whole, and fewer tokens to read."""

import random
from dataclasses import replace

import pytest
import torch

from thor_tir.learner.batch import collate, plan, plans
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.prefixes import can_share, common_prefix, families
from thor_tir.learner.sample import TrainingSample
from tiny_models import tiny_model
from tiny_rows import NAN, VOCABULARY, episode_terms, mixed_rows, step_terms


def repairs(group: str, *, prefix: int, own: list[int], seed: int = 0) -> list[TrainingSample]:
    """Step rows of one failed call: a prefix and regenerated tokens of given lengths, the second token untrained."""
    rng = random.Random(seed)
    shared = tuple(rng.randrange(VOCABULARY) for _ in range(prefix))
    rows = []
    for number, length in enumerate(own):
        trained = (False,) * prefix + tuple(place != 1 for place in range(length))
        ids = shared + tuple(rng.randrange(VOCABULARY) for _ in range(length))
        rows.append(
            TrainingSample(
                id=f"{group}/{number}",
                token_ids=ids,
                trained=trained,
                old_logprobs=tuple(-3.0 + rng.uniform(-0.5, 0.5) if t else NAN for t in trained),
                terms=step_terms(1.0 if number % 2 else -0.8),
                group=group,
            )
        )
    return rows


def all_rows() -> list[TrainingSample]:
    """Two families of unequal prefixes, one whose rows have little in common, and rows of no group."""
    alike = repairs("a", prefix=30, own=[5, 9, 3, 7]) + repairs("b", prefix=17, own=[4, 4, 6], seed=1)
    unlike = [replace(row, group="c", terms=episode_terms(0.5)) for row in mixed_rows()[:3]]
    return [*alike, *unlike, *mixed_rows()[3:]]


def gradient(rows: list[TrainingSample], kind: str, **config) -> tuple[torch.Tensor, int]:
    learner = Learner(tiny_model(kind).double(), LearnerConfig(**config))
    for module in learner.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokens = learner.accumulate(rows).num_tokens
    return torch.cat([p.grad.flatten() for p in learner.model.parameters()]), tokens


@pytest.mark.parametrize("kind", ["qwen3", "qwen2", "llama", "gpt2"])
@pytest.mark.parametrize("budget", [10_000, 60, 40])  # all at once; families together or apart; families in parts
def test_the_gradient_is_that_of_rows_read_whole(kind, budget):
    whole, read_whole = gradient(all_rows(), kind, shares_prefixes=False)
    shared, read_shared = gradient(all_rows(), kind, micro_batch_tokens=budget)
    torch.testing.assert_close(shared, whole, atol=1e-7, rtol=1e-7)
    if budget == 10_000:
        # the last token of a prefix is each row's own, since it stands before a trained one
        assert read_whole - read_shared == 29 * 3 + 16 * 2
    else:
        assert read_shared < read_whole


def test_a_prefix_ends_before_the_token_that_stands_in_front_of_a_trained_one():
    rows = repairs("a", prefix=6, own=[3, 2])
    assert common_prefix(rows) == 5
    other = replace(rows[1], token_ids=(*rows[1].token_ids[:3], 22, *rows[1].token_ids[4:]))
    assert common_prefix([replace(rows[0], token_ids=(*rows[0].token_ids[:3], 21, *rows[0].token_ids[4:])), other]) == 3


def test_a_family_is_read_apart_only_where_seven_tenths_of_the_tokens_or_less_are_left_to_read():
    # a row of 20 + n has 20 + n - 1 inputs, of which 19 are the prefix and n its own
    level, uneven = repairs("a", prefix=20, own=[10, 10]), repairs("b", prefix=20, own=[20, 2])
    assert families(level)[0][0].prefix == 19  # 19 + 2 * 10 = 39 of 58 are left: 0.67
    assert families(uneven) == ([], uneven)  # 19 + 2 * 20 = 59 of 60 are left, padding included
    assert families([replace(row, group="") for row in level])[0] == []


def test_every_row_is_planned_once_and_parts_of_a_family_stay_within_the_budget():
    rows = repairs("a", prefix=30, own=[9, 3, 8, 5, 7, 5]) + mixed_rows()
    groups = plan(rows, micro_batch_tokens=60, shares_prefixes=True)
    assert sorted(row.id for group in groups for row in group) == sorted(row.id for row in rows)
    batches = [collate(group, shares_prefixes=True) for group in groups]
    assert max(batch.num_padded for batch in batches) <= 60
    assert sum(batch.shared is not None for batch in batches) >= 2


def test_families_are_dealt_whole_where_the_process_with_most_to_read_has_less_of_it_then():
    four = [row for n in range(4) for row in repairs(f"g{n}", prefix=20, own=[4, 5, 4, 5], seed=n)]
    hands = plans(four, 2, micro_batch_tokens=60, shares_prefixes=True)
    groups = [{row.group for part in hand for row in part} for hand in hands]
    assert [len(found) for found in groups] == [2, 2]
    assert not groups[0] & groups[1]
    one = repairs("g", prefix=3, own=[20, 20, 20, 20])  # a single family is not left to one process
    assert all(plans(one, 2, micro_batch_tokens=60, shares_prefixes=True))
    assert plans(four, 1, micro_batch_tokens=60) == [plan(four, micro_batch_tokens=60)]


def test_models_that_remember_otherwise_or_compute_layers_again_read_rows_whole():
    assert can_share(tiny_model("gpt2"))
    assert not can_share(tiny_model("gemma2"))  # every other layer sees a window
    checkpointed = tiny_model()
    checkpointed.gradient_checkpointing_enable()
    assert not can_share(checkpointed)
