"""Formulas that shape the advantages of one group's trajectories by where and how often they called.

Both leave the sign of a right answer's advantage alone: what is shaped away never outweighs the answer.
"""

from collections.abc import Sequence
from math import pi, sin
from statistics import fmean


def early_calls(
    advantages: Sequence[float],
    positions: Sequence[int | None],
    lengths: Sequence[int],
    *,
    delta: float = -2.0,
    k: float = 0.7,
) -> list[float]:
    """A_i + clip(delta (p_i - mean p) / mean L, -k |A_i|, k |A_i|) for right answers with code, A_i for all others.

    p_i is the place of the first call in the response and L_i its length, in tokens; None stands for a member that is
    wrong or has no call; both means are over the others. A negative delta favours early calls. ASPO, arXiv 2508.19201;
    the formula is from memory of it, its text could not be read here.
    """
    placed = [(p, length) for p, length in zip(positions, lengths, strict=True) if p is not None]
    if not placed:
        return list(advantages)
    mean_place, mean_length = fmean(p for p, _ in placed), fmean(length for _, length in placed)

    def shaped(advantage: float, place: int | None) -> float:
        if place is None:
            return advantage
        return advantage + _clipped(delta * (place - mean_place) / mean_length, k * abs(advantage))

    return [shaped(advantage, place) for advantage, place in zip(advantages, positions, strict=True)]


def few_calls(
    advantages: Sequence[float],
    is_right: Sequence[bool],
    calls: Sequence[int],
    *,
    penalty: float = 0.5,
    hard: float = 0.5,
    most: int = 5,
    k: float = 0.7,
) -> list[float]:
    """A_i + clip(e_i - mean e, -k |A_i|, k |A_i|) for right answers, e_i = -penalty sin(pi/2 N_i / most).

    N_i is the number of calls, the mean is over right answers, and nothing is shaped where the share of wrong answers
    is `hard` or more. Clipped advantage shaping (CAS) of AdaTIR, arXiv 2601.14696: difficulty and the sine are its
    own, from a review of it; the clip could not be read, its form is that of ASPO.
    """
    rights = [number for number, right in enumerate(is_right) if right]
    if not rights or 1 - len(rights) / len(is_right) >= hard:
        return list(advantages)
    earned = {number: -penalty * sin(pi / 2 * min(1.0, calls[number] / most)) for number in rights}
    mean = fmean(earned.values())
    return [
        advantage + _clipped(earned[number] - mean, k * abs(advantage)) if number in earned else advantage
        for number, advantage in enumerate(advantages)
    ]


def _clipped(value: float, bound: float) -> float:
    return max(-bound, min(bound, value))
