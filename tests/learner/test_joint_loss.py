"""The loss of a whole step against sums written out row by row, under every objective and any way to lay rows out."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.objective import Clip, Objective, constant_mean, sequence_mean, sequence_ratio
from thor_tir.learner.sample import TrainingSample
from tiny_models import tiny_model
from tiny_rows import NAMES, mixed_rows

OBJECTIVES: dict[str, tuple[Objective, Callable[[int], float], Callable[[int], float]]] = {
    # with the weight of each token and the mass of a row, as functions of its trained length
    "token mean": (Objective(), lambda n: 1, lambda n: n),
    "sequence mean": (Objective(mean=sequence_mean()), lambda n: 1 / n, lambda n: 1),
    "dr. grpo": (Objective(mean=constant_mean(40)), lambda n: 1 / 40, lambda n: 1),
    "gspo": (
        Objective(ratio=sequence_ratio, clip=Clip(low=0.1, high=0.15), mean=sequence_mean()),
        lambda n: 1 / n,
        lambda n: 1,
    ),
}


@cache
def model() -> Any:
    return tiny_model(sharpness=1.0).double()


@cache
def logprobs(tokens: tuple[int, ...]) -> list[float]:
    """Of every token but the first, from the full logits of the row read alone."""
    with torch.no_grad():
        logp_TV = model()(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return [logp_TV[t, token].item() for t, token in enumerate(tokens[1:])]


@cache
def rows() -> tuple[TrainingSample, ...]:
    """Rows of all components whose old and reference policies are near the present one, in and out of the clips."""
    rng, found = random.Random(0), []
    for row in mixed_rows():
        now = [math.nan, *logprobs(row.token_ids)]
        near = tuple(lp - rng.uniform(-0.6, 0.6) if m else math.nan for lp, m in zip(now, row.trained, strict=True))
        far = tuple(lp - rng.uniform(-1.5, 1.5) for lp in now) if row.reference_logprobs else ()
        found.append(replace(row, old_logprobs=near, reference_logprobs=far))
    return tuple(found)


def by_hand(row: TrainingSample, formula: str, advantage: float, objective: Objective) -> list[float]:
    """The loss of each trained token."""
    places = [t for t, is_trained in enumerate(row.trained) if is_trained]
    now = {t: logprobs(row.token_ids)[t - 1] for t in places}
    if formula == "nll":
        return [-now[t] for t in places]
    if formula == "kl":
        back = [row.reference_logprobs[t] - now[t] for t in places]
        return [math.exp(b) - 1 - b for b in back]
    ratios = [math.exp(now[t] - row.old_logprobs[t]) for t in places]
    if objective.ratio is sequence_ratio:
        ratios = [math.prod(ratios) ** (1 / len(ratios))] * len(ratios)
    clip = objective.clip
    losses = [max(-advantage * r, -advantage * min(max(r, 1 - clip.low), 1 + clip.high)) for r in ratios]
    if advantage < 0:
        losses = [min(loss, -clip.dual * advantage) for loss in losses]
    factors = [row.correction[t] if row.correction else 1.0 for t in places]
    return [f * loss for f, loss in zip(factors, losses, strict=True)]


def term_loss(chosen: list[TrainingSample], term_name: str, name: str) -> float:
    objective, weight, mass = OBJECTIVES[name]
    carried = [(row, term) for row in chosen for term in row.terms if term.name == term_name]
    if any(term.formula == "nll" for _, term in carried):
        weight, mass = OBJECTIVES["token mean"][1:]
    total = sum(
        term.weight * weight(row.num_trained) * sum(by_hand(row, term.formula, term.advantage, objective))
        for row, term in carried
    )
    return total / sum(mass(row.num_trained) for row, _ in carried) if carried else 0.0


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(OBJECTIVES)),
    order=st.permutations(range(len(mixed_rows()))),
    count=st.integers(1, len(mixed_rows())),
    micro_batch_tokens=st.sampled_from([1, 30, 64, 10_000]),
)
def test_the_joint_loss_is_the_sum_of_its_components_however_rows_are_laid_out(name, order, count, micro_batch_tokens):
    chosen = [rows()[place] for place in order[:count]]
    config = LearnerConfig(objective=OBJECTIVES[name][0], micro_batch_tokens=micro_batch_tokens)
    gathered = Learner(model(), config).accumulate(chosen)
    expected = {term: term_loss(chosen, term, name) for term in NAMES}
    assert gathered.loss == pytest.approx(sum(expected.values()), abs=1e-6)
    measured = {component: metrics.loss for component, metrics in gathered.terms.items()}
    assert measured == pytest.approx({c: expected[c] for c in measured}, abs=1e-6)
    assert {component for component, loss in expected.items() if loss} <= set(measured)


def test_the_rows_of_this_file_reach_every_component_and_both_sides_of_the_clips():
    assert {term.name for row in rows() for term in row.terms} == set(NAMES)
    ratios = [
        math.exp(now - old)
        for row in rows()
        for now, old in zip(logprobs(row.token_ids), row.old_logprobs[1:], strict=True)
        if not math.isnan(old)
    ]
    assert min(ratios) < 0.8
    assert max(ratios) > 1.28
