"""Association between two yes-or-no properties of attempts that belong together: by problem, or in pairs of runs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

Table = Sequence[Sequence[int]]
"""2x2 counts [[a, b], [c, d]]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratified:
    """An association with the differences between the strata taken out."""

    chi_squared: float
    """Mantel-Haenszel's, one degree of freedom, without continuity correction."""
    p_value: float
    odds_ratio: float
    """Common to all strata; infinite or NaN where one or both of its sums are empty."""
    low: float
    high: float
    """95 % interval of the odds ratio; NaN where the odds ratio is not a positive number."""
    informative: int
    """Strata in which both properties vary: only they say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """A paired comparison of yes and no."""

    only_first: int
    only_second: int
    p_value: float
    """Two-sided and exact."""


def mantel_haenszel(tables: Sequence[Table]) -> Stratified:
    """Association common to many 2x2 tables, one a stratum (Mantel and Haenszel, JNCI 22, 1959).

    With n the total of a table, r1 and r2 its rows, c1 and c2 its columns,

        chi² = (sum (a - r1 c1 / n))² / sum (r1 r2 c1 c2 / (n² (n - 1))),  p = erfc(sqrt(chi²/2)),
        odds ratio = sum (ad / n) / sum (bc / n),

    with the interval of Robins, Breslow and Greenland (Biometrics 42, 1986). A table with an empty row or column adds
    nothing. Raises ValueError for a negative count.
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
        p_value=math.erfc(math.sqrt(chi_squared / 2)),
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
    factor = math.exp(NormalDist().inv_cdf(0.975) * spread)
    return ratio, ratio / factor, ratio * factor


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> McNemar:
    """McNemar's test in its exact form: of the b + c pairs that differ, is the split other than that of a fair coin?

    p = min(1, 2 P(X <= min(b, c))) with X binomial of b + c trials at 1/2. Raises ValueError when the lengths differ.
    """
    pairs = list(zip(first, second, strict=True))
    b, c = sum(x and not y for x, y in pairs), sum(y and not x for x, y in pairs)
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1))
    # Integers of any size are divided exactly to the last bit; 2.0 ** n would overflow.
    return McNemar(only_first=b, only_second=c, p_value=min(1.0, 2 * tail / 2 ** (b + c)))
