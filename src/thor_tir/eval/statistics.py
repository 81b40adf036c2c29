"""The statistics of an evaluation: pure functions of counts. Tests and their distributions are scipy's.

The unit of sampling is the problem, never the attempt: attempts at one problem agree with each other more than chance,
so every interval over several attempts is taken over the problems' means, by resampling problems.
"""

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Table = Sequence[Sequence[int]]
"""2x2 counts [[a, b], [c, d]]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with its 95 % confidence interval."""

    mean: float
    """The estimate."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """Strength of the association of two yes-or-no properties."""

    chi_squared: float
    """Pearson's, one degree of freedom, without continuity correction."""
    p_value: float
    """Chance of so large a chi-squared without an association."""
    phi: float
    """Correlation of the two properties, from -1 to 1."""
    odds_ratio: float
    """Infinite where only the table's other diagonal is empty; NaN where a whole row or column is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratified:
    """An association with the differences between the strata taken out."""

    chi_squared: float
    """Mantel-Haenszel's, one degree of freedom, without continuity correction."""
    p_value: float
    """Chance of so large a chi-squared without an association."""
    odds_ratio: float
    """Common to all strata; infinite or NaN where one or both of its sums are empty."""
    low: float
    """Lower end of the 95 % interval of the odds ratio; NaN where that is not a positive number."""
    high: float
    """Upper end of the odds ratio; NaN where the odds ratio is not a positive number."""
    informative: int
    """Strata in which both properties vary: only they say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """A paired comparison of yes and no."""

    only_first: int
    """Pairs in which only the first is true."""
    only_second: int
    """Pairs in which only the second is true."""
    p_value: float
    """Two-sided and exact."""


def pass_at_k(num_attempts: int, num_correct: int, k: int) -> float:
    """Unbiased chance that at least one of k attempts is correct: 1 - C(n - c, k) / C(n, k) (arXiv 2107.03374, eq. 1).

    Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    if not 0 <= num_correct <= num_attempts or not 1 <= k <= num_attempts:
        raise ValueError(f"pass@{k} cannot be computed from {num_correct} correct of {num_attempts} attempts")
    return 1 - math.comb(num_attempts - num_correct, k) / math.comb(num_attempts, k)


def best_at_k(scores: Sequence[tuple[float, ...]], correct: Sequence[bool], k: int) -> float:
    """Chance that the best of k attempts is correct, over all C(n, k) subsets of n attempts and even draws among ties.

    For scores that do not depend on the other attempts. With a level the attempts of one score, h those that score
    higher, m its own and c the share of its own that are correct,

        best@k = sum over levels of  c * (C(n - h, k) - C(n - h - m, k)) / C(n, k)

    since the best of a subset lies in the level if the subset holds none of the h and one of the m. With scores that
    are all equal it is the accuracy, with the verdicts as scores it is pass@k. Raises ValueError unless both sequences
    have n >= k >= 1 entries.
    """
    num = len(scores)
    if len(correct) != num or not 1 <= k <= num:
        raise ValueError(f"best@{k} cannot be computed from {num} scores with {len(correct)} verdicts")
    chance, higher = 0.0, 0
    for level in sorted(set(scores), reverse=True):
        own = [is_right for score, is_right in zip(scores, correct, strict=True) if score == level]
        ways = math.comb(num - higher, k) - math.comb(num - higher - len(own), k)
        chance += sum(own) / len(own) * ways
        higher += len(own)
    return chance / math.comb(num, k)


def majority_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Expected credit of a plurality vote over all C(n, k) subsets of a problem's n attempts, in [0, 1].

    Attempts with equal `answers` vote for the same candidate, whether right or wrong: no reference joins them. None
    abstains. In a subset the most frequent candidate wins; t candidates that share the first place have 1/t of a chance
    each, and a subset without any vote earns 0. The credit of a candidate is the share of its attempts that are right,
    which is 0 or 1 unless the grader judged equal answers differently. For k = 1 this is the accuracy of the attempts
    that answer, for k = n the vote of all attempts.

    Computed exactly. For a candidate with m votes and credit c, and v_1, v_2, ... votes for the others,

        its share of maj@k = c * sum over w = 1..k and j >= 0 of  C(m, w) * T_w(k - w, j) / ((1 + j) C(n, k))

    where T_w(s, j) counts the ways to take s attempts of the others (abstentions included) so that j of them have w
    votes and none has more. Raises ValueError unless both sequences have n >= k >= 1 entries.
    """
    num = len(answers)
    if len(correct) != num or not 1 <= k <= num:
        raise ValueError(f"maj@{k} cannot be computed from {num} answers with {len(correct)} verdicts")
    sizes = Counter(answer for answer in answers if answer is not None)
    right = Counter(answer for answer, is_right in zip(answers, correct, strict=True) if is_right)
    abstentions = num - sizes.total()
    won = 0.0
    for candidate, size in sizes.items():
        if not right[candidate]:
            continue
        rivals = [votes for other, votes in sizes.items() if other != candidate]
        for votes in range(1, min(k, size) + 1):
            ties = _ways(rivals, abstentions, k - votes, votes)
            share = sum(ways / (1 + tied) for tied, ways in ties.items())
            won += right[candidate] / size * math.comb(size, votes) * share
    return won / math.comb(num, k)


def _ways(rivals: Sequence[int], abstentions: int, size: int, most: int) -> dict[int, int]:
    """Ways to take `size` attempts so that no rival has more than `most`, by how many rivals have exactly that."""
    table: Counter[tuple[int, int]] = Counter({(taken, 0): math.comb(abstentions, taken) for taken in range(size + 1)})
    for votes in rivals:
        grown: Counter[tuple[int, int]] = Counter()
        for (taken, tied), ways in table.items():
            for more in range(min(votes, most, size - taken) + 1):
                grown[taken + more, tied + (more == most)] += ways * math.comb(votes, more)
        table = grown
    found: Counter[int] = Counter()
    for (taken, tied), ways in table.items():
        if taken == size:
            found[tied] += ways
    return dict(found)


def association(table: Table) -> Association:
    """Association in a 2x2 table of counts [[a, b], [c, d]] (paper, Table 4: right or wrong by code ran or failed).

    Pearson's chi², phi = (ad - bc) / sqrt((a+b)(c+d)(a+c)(b+d)), odds ratio = ad / bc. A table with an empty row or
    column shows nothing: phi = chi² = 0 and p = 1. Raises ValueError for a negative count.
    """
    (a, b), (c, d) = table
    if min(a, b, c, d) < 0:
        raise ValueError(f"{table} holds a negative count")
    chi_squared, p_value, phi = 0.0, 1.0, 0.0
    if margins := (a + b) * (c + d) * (a + c) * (b + d):
        test = stats.chi2_contingency(np.asarray(table), correction=False)
        chi_squared, p_value = float(test.statistic), float(test.pvalue)
        phi = (a * d - b * c) / math.sqrt(margins)
    odds_ratio = a * d / (b * c) if b * c else math.inf if a * d else math.nan
    return Association(chi_squared=chi_squared, p_value=p_value, phi=phi, odds_ratio=odds_ratio)


def mantel_haenszel(tables: Sequence[Table]) -> Stratified:
    """Association common to many 2x2 tables, one a stratum (Mantel and Haenszel, JNCI 22, 1959).

    With n the total of a table, r1 and r2 its rows, c1 and c2 its columns,

        chi² = (sum (a - r1 c1 / n))² / sum (r1 r2 c1 c2 / (n² (n - 1))),  p of one degree of freedom,
        odds ratio = sum (ad / n) / sum (bc / n),

    with the interval of Robins, Breslow and Greenland (Biometrics 42, 1986). A table with an empty row or column adds
    nothing. scipy has no such test. Raises ValueError for a negative count.
    """
    excess = variance = 0.0
    kept: list[tuple[int, int, int, int]] = []
    for (a, b), (c, d) in tables:
        if min(a, b, c, d) < 0:
            raise ValueError(f"[[{a}, {b}], [{c}, {d}]] holds a negative count")
        num, margins = a + b + c + d, (a + b) * (c + d) * (a + c) * (b + d)
        if margins:
            kept.append((a, b, c, d))
            excess += a - (a + b) * (a + c) / num
            variance += margins / (num**2 * (num - 1))
    chi_squared = excess**2 / variance if kept else 0.0
    ratio, low, high = _common_odds_ratio(kept)
    return Stratified(
        chi_squared=chi_squared,
        p_value=float(stats.chi2.sf(chi_squared, 1)),
        odds_ratio=ratio,
        low=low,
        high=high,
        informative=len(kept),
    )


def _common_odds_ratio(tables: Sequence[tuple[int, int, int, int]]) -> tuple[float, float, float]:
    """The odds ratio and its 95 % interval: exp(ln OR ± z se), se² = PR/2R² + (PS + QR)/2RS + QS/2S²."""
    pr = ps = qr = qs = r_sum = s_sum = 0.0
    for a, b, c, d in tables:
        num = a + b + c + d
        p, q, r, s = (a + d) / num, (b + c) / num, a * d / num, b * c / num
        r_sum, s_sum = r_sum + r, s_sum + s
        pr, ps, qr, qs = pr + p * r, ps + p * s, qr + q * r, qs + q * s
    if not r_sum or not s_sum:
        return (0.0 if s_sum else math.inf if r_sum else math.nan), math.nan, math.nan
    ratio = r_sum / s_sum
    spread = math.sqrt(pr / (2 * r_sum**2) + (ps + qr) / (2 * r_sum * s_sum) + qs / (2 * s_sum**2))
    factor = math.exp(float(stats.norm.ppf(0.975)) * spread)
    return ratio, ratio / factor, ratio * factor


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """McNemar's test in its exact form: a binomial test of the b + c pairs that differ against a fair coin, two-sided.

    Raises ValueError when the lengths differ.
    """
    pairs = list(zip(first, second, strict=True))
    b, c = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    p_value = float(stats.binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0
    return McNemar(only_first=b, only_second=c, p_value=p_value)


NUM_RESAMPLES = 10_000
"""Enough that the ends of a 95 % interval move by less than a hundredth of its width from seed to seed."""
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_CHUNK = 1 << 22
"""Numbers drawn at once, so that memory stays small whatever the number of problems."""


def bootstrap(values_P: Sequence[float], *, seed: int, num_resamples: int = NUM_RESAMPLES) -> Interval:
    """Mean over problems P with its percentile bootstrap interval, 95 %, for values in [0, 1].

    Problems are drawn with replacement, each with all its attempts (its value is their mean), so attempts at one
    problem are never taken for independent ones. Equal values all through: see `unseen`. Raises ValueError without
    problems, and for equal values outside of [0, 1], whose bounds nobody knows.
    """
    if not len(values_P):
        raise ValueError("no problems: the mean of nothing has no interval")
    if min(values_P) == max(values_P):
        if not 0 <= values_P[0] <= 1:
            raise ValueError(f"all {len(values_P)} values are {values_P[0]}: a mean without bounds has no interval")
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
