"""The statistics of an evaluation: pure functions of counts and of accuracies per problem.

The unit of sampling is the problem, never the attempt: attempts at one problem agree with each other more than chance,
so every interval over several attempts is taken over the problems' means.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

Z95 = NormalDist().inv_cdf(0.975)
"""1.95996...: the standard normal's two-sided 95 % point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """How strongly two yes-or-no properties go together."""

    chi_squared: float
    """Pearson's, one degree of freedom, without continuity correction."""
    p_value: float
    phi: float
    """Correlation of the two properties, from -1 to 1."""
    odds_ratio: float
    """Infinite where only the table's other diagonal is empty; NaN where a whole row or column is."""


def wilson(successes: int, trials: int) -> Interval:
    """A proportion with Wilson's score interval (JASA 22, 1927): inside [0, 1], and right for small counts.

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n). Raises ValueError unless 0 <= successes <= trials, trials > 0.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is not a proportion")
    proportion = successes / trials
    shrink = 1 + Z95**2 / trials
    centre = (proportion + Z95**2 / (2 * trials)) / shrink
    half = Z95 * math.sqrt(proportion * (1 - proportion) / trials + (Z95 / (2 * trials)) ** 2) / shrink
    # Rounding alone could push the ends past 0 or 1, or past the proportion itself where that is 0 or 1.
    return Interval(
        mean=proportion, low=min(max(0.0, centre - half), proportion), high=max(min(1.0, centre + half), proportion)
    )


def average_at_k(correct_PK: Sequence[Sequence[float]]) -> Interval:
    """Avg@k: the mean over problems P of the mean over a problem's own attempts K, in [0, 1] (paper, section 3.1).

    The interval is mean ± t sd / sqrt(P) over the problems' means, with Student's t for P - 1 degrees of freedom. One
    problem alone has no spread to judge by: its interval is everything. Raises ValueError without problems or attempts.
    """
    return _mean_interval([_mean(correct_K) for correct_K in correct_PK])


def paired_difference(ours_P: Sequence[float], theirs_P: Sequence[float]) -> Interval:
    """Mean of `ours - theirs` over the same problems in the same order, in [-1, 1] for accuracies.

    The paired t interval, d ± t sd(d) / sqrt(P) with d the difference per problem: pairing takes the difficulty of the
    problems out. Raises ValueError when the lengths differ or are 0.
    """
    return _mean_interval([ours - theirs for ours, theirs in zip(ours_P, theirs_P, strict=True)])


def pass_at_k(num_attempts: int, num_correct: int, k: int) -> float:
    """Unbiased chance that at least one of k attempts is correct: 1 - C(n - c, k) / C(n, k) (arXiv 2107.03374, eq. 1).

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= num_correct <= num_attempts or not 1 <= k <= num_attempts:
        raise ValueError(f"pass@{k} cannot be told from {num_correct} correct of {num_attempts} attempts")
    return 1 - math.comb(num_attempts - num_correct, k) / math.comb(num_attempts, k)


def association(table: Sequence[Sequence[int]]) -> Association:
    """Association in a 2x2 table of counts [[a, b], [c, d]] (paper, Table 4: right or wrong by code ran or failed).

    phi = (ad - bc) / sqrt((a+b)(c+d)(a+c)(b+d)), chi² = n phi², p = erfc(sqrt(chi²/2)), odds ratio = ad / bc. A table
    with an empty row or column shows nothing: phi = chi² = 0 and p = 1. Raises ValueError unless it is 2x2 counts.
    """
    (a, b), (c, d) = table
    if min(a, b, c, d) < 0:
        raise ValueError(f"{table} holds a negative count")
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    phi = (a * d - b * c) / math.sqrt(margins) if margins else 0.0
    chi_squared = (a + b + c + d) * phi**2
    odds_ratio = a * d / (b * c) if b * c else math.inf if a * d else math.nan
    return Association(
        chi_squared=chi_squared, p_value=math.erfc(math.sqrt(chi_squared / 2)), phi=phi, odds_ratio=odds_ratio
    )


def _mean(values: Sequence[float]) -> float:
    if not len(values):
        raise ValueError("no attempts: the mean of nothing is not 0")
    return math.fsum(values) / len(values)


def _mean_interval(values: Sequence[float]) -> Interval:
    mean = _mean(values)
    num = len(values)
    if num == 1:
        return Interval(mean=mean, low=-math.inf, high=math.inf)
    half = student_t_95(num - 1) * float(np.std(values, ddof=1)) / math.sqrt(num)
    return Interval(mean=mean, low=mean - half, high=mean + half)


def student_t_95(freedom: int) -> float:
    """Two-sided 95 % point of Student's t: where 2 P(T > t) = 0.05, by bisection of the distribution function."""
    low, high = Z95, 13.0  # t of one degree of freedom is 12.706, and it falls towards the normal's
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _two_sided_tail(middle, freedom) > 0.05 else (low, middle)
    return (low + high) / 2


def _two_sided_tail(t: float, freedom: int) -> float:
    """P(|T| > t), from the finite series in theta = atan(t / sqrt(nu)) (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    theta = math.atan(t / math.sqrt(freedom))
    cosine_squared = math.cos(theta) ** 2
    is_odd = freedom % 2
    term = math.cos(theta) if is_odd else 1.0
    total = 0.0
    for power in range(2 + is_odd, freedom + 1, 2):
        total += term
        term *= cosine_squared * (power - 1) / power
    inside = math.sin(theta) * total
    return 1 - (2 / math.pi * (theta + inside) if is_odd else inside)
