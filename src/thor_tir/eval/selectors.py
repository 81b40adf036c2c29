"""Selectors compared on one set of samples: accuracy, paired differences, growth with the candidates, and cost."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from random import Random

from thor_tir.eval.folder import EvalFolder, Evaluation
from thor_tir.eval.metrics import as_json, over, scored_groups
from thor_tir.eval.results import Asked, Estimate, SelectorResult
from thor_tir.eval.statistics import best_at_k, bootstrap, bootstrap_difference
from thor_tir.inference.best_of_n import Opinions, Selector, selector
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet
from thor_tir.rollout.sample_many import DROPPED, Attempt
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject

FIRST = "pass-rate"
"""Selector that the others are compared with: the paper's."""
MAX_SUBSETS = 256
"""Subsets of one size that are looked at; of more, so many are drawn by the seed."""


def selector_results(folder: EvalFolder, asked: ProblemSet, paid: Evaluation) -> dict[str, SelectorResult]:
    """All selectors that an evaluation compares, on the attempts at one set.

    Where several candidates share the best score their mean counts, which is what a draw among them gives on average:
    the luck of one draw would hide small differences. Selectors that compare answers are left out for programs, no two
    of which are spelled alike.
    """
    seed, groups = folder.manifest["seed"], scored_groups(paid)
    found = {name: selector(name) for name in folder.selectors}
    if asked.kind is ProblemKind.CODE:
        found = {name: each for name, each in found.items() if each.is_absolute}
    if not groups:
        return {}
    one = [_accuracy(group) for group in groups]
    first = _values(groups, selector(FIRST), {}, seed=seed)
    results: dict[str, SelectorResult] = {}
    for name, by in found.items():
        opinions = folder.opinions(name, asked)
        values = _values(groups, by, opinions, seed=seed)
        results[name] = {
            "is_bound": by.is_bound,
            "accuracy": {**as_json(bootstrap(values, seed=seed)), "n": len(values)},
            "against_pass_rate": None if name == FIRST else as_json(bootstrap_difference(values, first, seed=seed)),
            "against_one": as_json(bootstrap_difference(values, one, seed=seed)),
            "by_n": {} if by.is_joint else growth(groups, by, opinions, seed=seed),
            "asked": asked_cost(folder.opinion_rows(by.asks, asked)) if by.asks else None,
        }
    return results


def _values(groups: Sequence[Sequence[Attempt]], by: Selector, opinions: Opinions, *, seed: int) -> list[float]:
    """For each problem the accuracy of what a selector takes from all its attempts."""
    return [accuracy_at_k(group, by, opinions, len(group), seed=seed) for group in groups]


def growth(
    groups: Sequence[Sequence[Attempt]], by: Selector, opinions: Opinions, *, seed: int
) -> dict[str, Estimate | None]:
    """Accuracy by the number of candidates: each problem's mean over all subsets of that size, ties shared evenly."""

    def at(k: int) -> Estimate | None:
        return over(groups, lambda group: accuracy_at_k(group, by, opinions, k, seed=seed), k, seed)

    return {str(k): at(k) for k in range(1, max(map(len, groups)) + 1)}


def accuracy_at_k(group: Sequence[Attempt], by: Selector, opinions: Opinions, k: int, *, seed: int) -> float:
    """Expected accuracy of what a selector takes from k of a problem's attempts."""
    correct = [attempt.is_correct for attempt in group]
    if by.is_absolute:
        return best_at_k(by.rank(group, opinions), correct, k)
    if len(set(correct)) == 1:
        return float(correct[0])
    subsets = _subsets(len(group), k, seed=seed_of(seed, group[0].problem.id, k))
    return math.fsum(
        _taken(by.rank([group[i] for i in subset], opinions), [correct[i] for i in subset]) for subset in subsets
    ) / len(subsets)


def _taken(scores: Sequence[tuple[float, ...]], correct: Sequence[bool]) -> float:
    """Share of the right ones among those that share the best score."""
    best = max(scores)
    tied = [is_right for score, is_right in zip(scores, correct, strict=True) if score == best]
    return sum(tied) / len(tied)


def _subsets(num: int, k: int, *, seed: int) -> Sequence[Sequence[int]]:
    if math.comb(num, k) <= MAX_SUBSETS:
        return list(combinations(range(num), k))
    draw = Random(seed)
    return [draw.sample(range(num), k) for _ in range(MAX_SUBSETS)]


def asked_cost(rows: Mapping[str, JsonObject]) -> Asked:
    """The sum of what was asked, per problem."""
    made = [row for row in rows.values() if DROPPED not in row]
    num = max(1, len(made))
    return {
        "problems": len(made),
        "calls": sum(row["calls"] for row in made) / num,
        "read_tokens": sum(row["read_tokens"] for row in made) / num,
        "tokens": sum(row["tokens"] for row in made) / num,
        "seconds": sum(row["seconds"] for row in made) / num,
        "requests": sum(row["calls"] for row in made),
        "fallbacks": sum(row["fallbacks"] for row in made),
        "lost": len(rows) - len(made),
    }


def _accuracy(group: Sequence[Attempt]) -> float:
    return sum(attempt.is_correct for attempt in group) / len(group)
