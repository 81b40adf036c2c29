"""Intervals by resampling problems, and the interval of an average over several sets."""

import math
from collections.abc import Sequence

import numpy as np

from thor_tir.eval.statistics import Interval

NUM_RESAMPLES = 10_000
"""Enough that the ends of a 95 % interval move by less than a hundredth of its width from seed to seed."""
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_CHUNK = 1 << 22
"""Numbers drawn at once, so that memory stays small whatever the number of problems."""


def bootstrap(values_P: Sequence[float], *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Mean over problems P with its percentile bootstrap interval, 95 %, for values in [0, 1].

    Problems are drawn with replacement, each with all its attempts (its value is their mean), so attempts at one
    problem are never taken for independent ones. Equal values all through: see `unseen`. Raises ValueError without
    problems.
    """
    if not len(values_P):
        raise ValueError("no problems: the mean of nothing has no interval")
    if min(values_P) == max(values_P):
        return unseen(values_P[0], len(values_P), lowest=0.0, highest=1.0)
    return _interval(_resampled(np.asarray(values_P), seed, num_resamples), math.fsum(values_P) / len(values_P))


def unseen(value: float, num: int, *, lowest: float, highest: float) -> Interval:
    """The 95 % interval of a mean where all of `num` problems have one value, so that no resample shows anything.

    With chance 1 - s, s = 0.025^(1/num), a problem may have another value without one having been met: at worst
    `lowest`, or `highest`. The ends are s value + (1 - s) times either. Between 0 and 1 that is at 0 and at 1 the exact
    binomial interval (Clopper and Pearson, 1934): 1 - s above 0, s below 1.
    """
    s = 0.025 ** (1 / num)
    return Interval(mean=value, low=s * value + (1 - s) * lowest, high=s * value + (1 - s) * highest)


def bootstrap_share(counts_P: Sequence[tuple[int, int]], *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Share of successes among all trials of all problems P, where a problem has (successes, trials).

    The bootstrap draws problems, each with all its trials, and divides the sums. Equal shares all through: see
    `unseen`. Raises ValueError for a problem without trials.
    """
    if not counts_P or min(trials for _, trials in counts_P) < 1:
        raise ValueError("every problem must have a trial, and there must be one")
    shares = {successes / trials for successes, trials in counts_P}
    if len(shares) == 1:
        return unseen(shares.pop(), len(counts_P), lowest=0.0, highest=1.0)
    counts = np.asarray(counts_P, dtype=np.float64)
    drawn = _resampled(counts, seed, num_resamples)
    return _interval(drawn[:, 0] / drawn[:, 1], float(counts[:, 0].sum() / counts[:, 1].sum()))


def bootstrap_difference(
    ours_P: Sequence[float], theirs_P: Sequence[float], *, seed: int, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Mean of `ours - theirs` over the same problems in the same order, with its percentile bootstrap interval.

    Both sides of a problem are drawn together: the pairing takes the difficulty of the problems out. Equal differences
    all through: see `unseen`. Raises ValueError when the lengths differ or are 0.
    """
    gaps = [a - b for a, b in zip(ours_P, theirs_P, strict=True)]
    if not gaps:
        raise ValueError("no problems: the mean of nothing has no interval")
    if min(gaps) == max(gaps):
        return unseen(gaps[0], len(gaps), lowest=-1.0, highest=1.0)
    return _interval(_resampled(np.asarray(gaps), seed, num_resamples), math.fsum(gaps) / len(gaps))


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


def _interval(means: Array, mean: float) -> Interval:
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(mean=mean, low=min(float(low), mean), high=max(float(high), mean))


def _resampled(values: Array, seed: int, times: int) -> Array:
    """Means over problems, the first axis, of so many samples drawn with replacement."""
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK // len(values))
    means = []
    for start in range(0, times, rows):
        drawn = rng.integers(len(values), size=(min(rows, times - start), len(values)))
        means.append(values[drawn].mean(axis=1))
    return np.concatenate(means)
