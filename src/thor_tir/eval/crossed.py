"""Intervals of a mean where both seeds and problems could have been others: every seed was asked every problem.

The model is value = mean + seed + problem + rest, all drawn at random. With S seeds and P problems the variance of the
grand mean is estimated without bias by (M_S + M_P - M_R) / (S P) from the mean squares of the two-way table, and never
taken for less than either factor alone gives. Its degrees of freedom are Satterthwaite's, so that five seeds are
counted as five and not as many; the interval is Student's. With one seed it is over problems alone, which says nothing
of another run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from thor_tir.eval.statistics import Array, unseen


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossed:
    """A mean over seeds and problems."""

    mean: float
    """The mean."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval."""
    p: float
    """Two-sided chance of a mean so far from 0 where it is 0."""


def crossed(values_SP: Array, *, lowest: float = -1.0, highest: float = 1.0) -> Crossed:
    """Mean of a table of seeds by problems, with its interval.

    Where nothing varies the ends are those of `unseen`, for values between `lowest` and `highest`. Raises ValueError
    for an empty table.
    """
    if not values_SP.size:
        raise ValueError("no seeds or no problems: the mean of nothing has no interval")
    seeds, problems = values_SP.shape
    mean = float(values_SP.mean())
    of_seeds = values_SP.mean(axis=1) - mean
    of_problems = values_SP.mean(axis=0) - mean
    rest = values_SP - mean - of_seeds[:, None] - of_problems[None, :]
    terms = [
        (float(problems * (of_seeds**2).sum()), seeds - 1, 1),
        (float(seeds * (of_problems**2).sum()), problems - 1, 1),
        (float((rest**2).sum()), (seeds - 1) * (problems - 1), -1),
    ]
    squares = [(total / freedom, freedom, sign) for total, freedom, sign in terms if freedom]
    size = seeds * problems
    variance = sum(sign * square for square, _, sign in squares) / size
    freedom = _satterthwaite(squares)
    for square, own, sign in squares:
        if sign > 0 and square / size > variance:
            variance, freedom = square / size, float(own)
    if variance <= 1e-18:
        end = unseen(mean, problems, lowest=lowest, highest=highest)
        return Crossed(mean=mean, low=end.low, high=end.high, p=1.0)
    error = variance**0.5
    half = float(stats.t.ppf(0.975, freedom)) * error
    return Crossed(mean=mean, low=mean - half, high=mean + half, p=float(2 * stats.t.sf(abs(mean) / error, freedom)))


def _satterthwaite(squares: Sequence[tuple[float, int, int]]) -> float:
    """Degrees of freedom of a sum of mean squares: (sum s M)² / sum M² / df, at least 1."""
    below = sum(square**2 / freedom for square, freedom, _ in squares)
    above = sum(sign * square for square, _, sign in squares) ** 2
    return max(1.0, above / below) if below else 1.0


def share_residuals(part_SP: Array, whole_SP: Array) -> Array:
    """A table whose mean is sum(part) / sum(whole) and whose spread is that of this ratio, to first order.

    r + (part - r whole) / mean(whole), the linear form of a ratio of sums. Raises ValueError where the whole is 0.
    """
    total = float(whole_SP.sum())
    if not total:
        raise ValueError("a share of nothing")
    ratio = float(part_SP.sum()) / total
    table: Array = ratio + (part_SP - ratio * whole_SP) / (total / whole_SP.size)
    return table


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number m (Holm, 1979): the largest (m - rank) p so far by size, at most 1."""
    order = np.argsort(p_values, kind="stable")
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected
