"""Which training problems also occur in a benchmark. It compares text alone: a paraphrase passes."""

import re
from collections.abc import Iterable, Iterator

from thor_tir.problem import Problem
from thor_tir.problems.sources import normalised

NGRAM = 13
"""Tokens in a row that count as copying, the length customary since GPT-3 (arXiv 2005.14165, appendix C)."""


def overlapping_ids(train: Iterable[Problem], benchmark: Iterable[Problem], *, ngram: int = NGRAM) -> set[str]:
    """Ids of the training problems whose question equals a benchmark's or shares `ngram` tokens in a row with one.

    A token is a word, a number or a single sign, so `2 + 2` and `2 - 2` differ. Questions that a generator fills into a
    long template all share its words: between the splits of `sources.py`, which are disjoint by construction, only
    the exact comparison has a meaning.
    """
    exact: set[str] = set()
    runs: set[tuple[str, ...]] = set()
    for problem in benchmark:
        exact.add(normalised(problem.question))
        runs.update(_runs(problem.question, ngram))
    return {
        problem.id
        for problem in train
        if normalised(problem.question) in exact or not runs.isdisjoint(_runs(problem.question, ngram))
    }


def _runs(text: str, length: int) -> Iterator[tuple[str, ...]]:
    tokens = re.findall(r"\w+|[^\w\s]", text.casefold())
    return (tuple(tokens[start : start + length]) for start in range(len(tokens) - length + 1))
