"""maj@k without chance: what a vote of k attempts would score on average over every choice of k among those made."""

import math
from collections import Counter
from collections.abc import Hashable, Sequence


def majority_at_k(answers: Sequence[Hashable | None], correct: Sequence[bool], k: int) -> float:
    """Expected credit of a plurality vote over all C(n, k) subsets of a problem's n attempts, in [0, 1].

    Attempts with equal `answers` vote for the same candidate; all correct ones do, however they are spelled, since each
    equals the reference. None abstains. In a subset the most frequent candidate wins; t candidates that share the first
    place have 1/t of a chance each, so a tie in which the correct one takes part earns 1/t, and a subset without any
    vote earns 0. For k = 1 this is the accuracy, for k = n the vote of all attempts.

    Computed exactly. With m votes for the correct candidate and v_1, v_2, ... for the others,

        maj@k = sum over w = 1..k and j >= 0 of  C(m, w) * T_w(k - w, j) / ((1 + j) C(n, k))

    where T_w(s, j) counts the ways to take s attempts of the others (abstentions included) so that j of them have w
    votes and none has more. Raises ValueError unless both sequences have n >= k >= 1 entries.
    """
    num = len(answers)
    if len(correct) != num or not 1 <= k <= num:
        raise ValueError(f"maj@{k} cannot be told from {num} answers with {len(correct)} verdicts")
    right = sum(correct)
    voters = [a for a, is_correct in zip(answers, correct, strict=True) if not is_correct]
    abstentions = sum(a is None for a in voters)
    rivals = list(Counter(a for a in voters if a is not None).values())
    won = 0.0
    for votes in range(1, min(k, right) + 1):
        ties = _ways(rivals, abstentions, k - votes, votes)
        won += math.comb(right, votes) * sum(ways / (1 + tied) for tied, ways in ties.items())
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
