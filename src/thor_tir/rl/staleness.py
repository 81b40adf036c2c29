"""The age of rows: optimiser steps between the weights that sampled a token and those that its round begins with."""

from collections import Counter
from collections.abc import Iterator, Sequence

from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.figures import Staleness

TOO_OLD = "too old"
"""Cause under which rows beyond the limit are counted."""


def ages(row: TrainingSample, version: int) -> Iterator[int]:
    """The age of each trained token of a row whose round begins with the weights of `version`."""
    return (version - v for v, is_trained in zip(row.versions, row.trained, strict=False) if is_trained)


def young(rows: Sequence[TrainingSample], *, version: int, most: int, dropped: Counter[str]) -> list[TrainingSample]:
    """The rows none of whose trained tokens is older than `most`; the others are counted in `dropped`."""
    kept = [row for row in rows if max(ages(row, version), default=0) <= most]
    dropped[TOO_OLD] += len(rows) - len(kept)
    return kept


def staleness_of(rows: Sequence[TrainingSample], *, version: int, last: int, oldest: int, cap: float) -> Staleness:
    """Figures of a round that began with the weights of `version` and ended with the learner's step `last`.

    `rows` are those that were trained, with their corrections, which are at most `cap`; `oldest` is the version of the
    oldest sample, trained or not.
    """
    counts = Counter(age for row in rows for age in ages(row, version))
    total = max(1, counts.total())
    corrections = [c for row in rows for c, is_trained in zip(row.correction, row.trained, strict=False) if is_trained]
    return {
        "max": last - 1 - oldest,
        "mean": sum(age * count for age, count in counts.items()) / total,
        "tokens": {str(age): count for age, count in sorted(counts.items())},
        "stale_share": 1 - counts[0] / total if counts else 0.0,
        "truncated_share": sum(c >= cap for c in corrections) / len(corrections) if corrections else 0.0,
    }
