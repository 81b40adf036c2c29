"""Intervals by resampling problems, and the interval of an average over several sets."""

import math
from collections.abc import Sequence

import numpy as np

from thor_tir.eval.estimators import Interval

NUM_RESAMPLES = 10_000
"""Enough that the ends of a 95 % interval move by less than a hundredth of its width from seed to seed."""
_CHUNK = 1 << 22
"""Numbers drawn at once, so that memory stays small whatever the number of problems."""


def bootstrap(values_P: Sequence[float], *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Mean over problems P with its percentile bootstrap interval, 95 %, for values in [0, 1].

    Problems are drawn with replacement, each with all its attempts (its value is their mean), so attempts at one
    problem are never taken for independent ones. Where all values are 0, or all are 1, no resample differs from the
    sample; the other end is then the exact binomial one (Clopper and Pearson, 1934): 1 - 0.025^(1/P) above 0,
    0.025^(1/P) below 1.
    Raises ValueError without problems.
    """
    values = np.asarray(values_P, dtype=np.float64)
    num = len(values)
    if num == 0:
        raise ValueError("no problems: the mean of nothing has no interval")
    mean = math.fsum(values_P) / num
    exact = 0.025 ** (1 / num)
    if not values.any():
        return Interval(mean=0.0, low=0.0, high=1 - exact)
    if (values == 1).all():
        return Interval(mean=1.0, low=exact, high=1.0)
    low, high = np.quantile(_resampled_means(values, seed, num_resamples), [0.025, 0.975])
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean))


def bootstrap_difference(
    ours_P: Sequence[float], theirs_P: Sequence[float], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Mean of `ours - theirs` over the same problems in the same order, with its percentile bootstrap interval.

    Both sides of a problem are drawn together: the pairing takes the difficulty of the problems out. Raises ValueError
    when the lengths differ or are 0.
    """
    gaps = [a - b for a, b in zip(ours_P, theirs_P, strict=True)]
    if not gaps:
        raise ValueError("no problems: the mean of nothing has no interval")
    low, high = np.quantile(_resampled_means(np.asarray(gaps), seed, num_resamples), [0.025, 0.975])
    mean = math.fsum(gaps) / len(gaps)
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean))


def average_of_sets(sets: Sequence[Interval]) -> Interval:
    """Unweighted mean over independent sets with an interval recovered from theirs (MOVER; Zou and Donner, 2008).

    mean - sqrt(sum (m_s - l_s)²) / S and mean + sqrt(sum (u_s - m_s)²) / S: for symmetric intervals the usual rule for
    sums of independent estimates, and it keeps the ends of skewed ones apart. Raises ValueError without sets.
    """
    if not sets:
        raise ValueError("no sets: the mean of nothing has no interval")
    num = len(sets)
    mean = math.fsum(s.mean for s in sets) / num
    below = math.sqrt(math.fsum((s.mean - s.low) ** 2 for s in sets)) / num
    above = math.sqrt(math.fsum((s.high - s.mean) ** 2 for s in sets)) / num
    return Interval(mean=mean, low=mean - below, high=mean + above)


def _resampled_means(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", seed: int, times: int) -> list[float]:
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    means: list[float] = []
    for start in range(0, times, rows):
        drawn = rng.integers(len(values), size=(min(rows, times - start), len(values)))
        means += values[drawn].mean(axis=1).tolist()
    return means
