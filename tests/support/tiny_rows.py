"""Rows for the tests of the learner."""

import random
from collections.abc import Sequence
from dataclasses import replace

from thor_tir.learner.sample import Term, TrainingSample

VOCABULARY = 23
"""Ids of the rows: fewer than any tiny model knows."""
NAN = float("nan")
NAMES = ("episode", "episode_nll", "step", "step_nll", "episode_kl", "step_kl", "sft")
"""Terms of the rows of `mixed_rows`."""


def episode_terms(advantage: float, nll_weight: float = 0.01) -> tuple[Term, ...]:
    credit = Term(name="episode", formula="surrogate", advantage=advantage)
    return (credit, Term(name="episode_nll", formula="nll", weight=nll_weight)) if advantage > 0 else (credit,)


def step_terms(advantage: float, weight: float = 1.0, nll_weight: float = 0.01) -> tuple[Term, ...]:
    credit = Term(name="step", formula="surrogate", advantage=advantage, weight=weight)
    return (credit, Term(name="step_nll", formula="nll", weight=nll_weight)) if advantage > 0 else (credit,)


def random_row(seed: int, terms: Sequence[Term], *, old_logprob: float = -3.0) -> TrainingSample:
    """8 to 20 random tokens: a prompt, model tokens, an observation of two tokens, model tokens, an observation."""
    rng = random.Random(seed)
    length = rng.randint(8, 20)
    middle = length // 2
    trained = tuple(2 <= t < length - 1 and t not in (middle, middle + 1) for t in range(length))
    return TrainingSample(
        id=f"row-{seed}",
        token_ids=tuple(rng.randrange(VOCABULARY) for _ in range(length)),
        trained=trained,
        old_logprobs=tuple(old_logprob + rng.uniform(-0.5, 0.5) if is_trained else NAN for is_trained in trained),
        terms=tuple(terms),
    )


def with_reference(row: TrainingSample, name: str, *, weight: float = 0.1) -> TrainingSample:
    """The row with a KL term, a far reference policy's log-probabilities, and factors for its surrogate."""
    rng = random.Random(row.id)
    return replace(
        row,
        terms=(*row.terms, Term(name=name, formula="kl", weight=weight)),
        reference_logprobs=tuple(lp - rng.uniform(15, 18) for lp in row.old_logprobs),
        correction=tuple(rng.uniform(0.5, 2) for _ in row.token_ids),
    )


def mixed_rows() -> list[TrainingSample]:
    """Four episode rows, three step rows and one SFT row, of different lengths and with both signs of advantage.

    Half of them carry a KL too, so that every term of `NAMES` is there.
    """
    episodes = [random_row(seed, episode_terms(a)) for seed, a in enumerate((1.5, -0.5, 0.7, -1.2))]
    episodes[2:] = [with_reference(row, "episode_kl") for row in episodes[2:]]
    steps = [random_row(10 + seed, step_terms(a)) for seed, a in enumerate((0.9, -1.1, 0.4))]
    steps[1:] = [with_reference(row, "step_kl") for row in steps[1:]]
    return [*episodes, *steps, random_row(20, [Term(name="sft", formula="nll")])]
