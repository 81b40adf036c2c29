"""Intervals of a mean where both seeds and problems could have been others: every seed was asked every problem.

The model is value = mean + seed + problem + rest, all drawn at random. With S seeds and P problems the variance of the
grand mean is estimated without bias by (M_S + M_P - M_R) / (S P) from the mean squares of the two-way table; its
degrees of freedom are Satterthwaite's, and the interval is Student's. Where few seeds happen to agree, that estimate is
of problems alone and its degrees of freedom are many, so the interval is never narrower than that of the S means of
seeds, nor than that of the P means of problems: two seeds count as two. With one seed it is over problems alone, which
says nothing of another run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isclose

import numpy as np
from scipy import stats
from scipy.special import expit, logit

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


def crossed(values_SP: Array, *, lowest: float = -1.0, highest: float = 1.0, num_telling: int | None = None) -> Crossed:
    """Mean of a table of seeds by problems, with its interval.

    Where nothing varies the ends are those of `unseen`, for values between `lowest` and `highest` at the `num_telling`
    problems that have a value at all, by default every one. Raises ValueError for an empty table.
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
    alone = [(square, float(freedom)) for square, freedom, sign in squares if sign > 0]
    both = (sum(sign * square for square, _, sign in squares), _satterthwaite(squares))
    largest = max((square for square, _ in alone), default=0.0)  # a sum below a part of it has no degrees of freedom
    estimates = alone if both[0] < largest else [both, *alone]
    errors = [((square / values_SP.size) ** 0.5, freedom) for square, freedom in estimates if square > 0]
    if max((error for error, _ in errors), default=0.0) <= 1e-9:
        end = unseen(mean, num_telling or problems, lowest=lowest, highest=highest)
        return Crossed(mean=mean, low=end.low, high=end.high, p=1.0)
    half = max(float(stats.t.ppf(0.975, freedom)) * error for error, freedom in errors)
    p = max(float(2 * stats.t.sf(abs(mean) / error, freedom)) for error, freedom in errors)
    return Crossed(mean=mean, low=mean - half, high=mean + half, p=p)


def on_logit_scale(found: Crossed) -> Crossed:
    """The interval of a share with its ends taken on the scale of log odds, within 0 and 1 (delta method).

    For means of many values: near 0 and 1 one as wide to both sides misses a true share one-sidedly, one time in ten
    and more. One that is not as wide to both sides, as where nothing varied, stays as it was.
    """
    above, spread = found.high - found.mean, found.mean * (1 - found.mean)
    if spread <= 0 or not isclose(above, found.mean - found.low, rel_tol=1e-6):
        return found
    half, odds = above / spread, logit(found.mean)
    low, high = (float(expit(end)) for end in (odds - half, odds + half))
    return replace(found, low=low, high=high)


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
