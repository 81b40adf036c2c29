"""Self-rewarded best-of-N: among N attempts without self-correction take the one whose calls ran best (paper, 3.3).

The paper leaves three things open, settled here: a candidate that made no call has pass rate 0, since nothing it claims
was computed; among equal pass rates one with an answer wins; what is still equal is drawn from a seed.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from thor_tir.rollout.attempts import Attempt

Score = Callable[[Attempt, Sequence[Attempt]], tuple[float, ...]]
"""Larger is better, compared from left to right."""


def call_pass_rate(attempt: Attempt) -> float:
    """Successful calls over all calls; 0 without any."""
    calls = attempt.trajectory.calls
    return sum(step.succeeded for step in calls) / len(calls) if calls else 0.0


def vote_share(attempt: Attempt, candidates: Sequence[Attempt]) -> float:
    """How many candidates give the same answer, as text without blanks; 0 without an answer."""
    answers = Counter(_answer(c) for c in candidates)
    return answers[_answer(attempt)] / len(candidates) if _answer(attempt) else 0.0


def self_rewarded(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """The paper's score, by execution pass rate."""
    return call_pass_rate(attempt), float(bool(_answer(attempt)))


def self_consistent(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """Majority vote, for comparison."""
    return (vote_share(attempt, candidates),)


def hybrid(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """Pass rate first, the vote among equals: not in the paper, and usually better than either."""
    return *self_rewarded(attempt, candidates), vote_share(attempt, candidates)


def select(candidates: Sequence[Attempt], score: Score, *, seed: int) -> Attempt:
    """The best candidate; ties are drawn from the seed. Raises ValueError without candidates."""
    if not candidates:
        raise ValueError("best of N needs at least one candidate")
    scores = [score(candidate, candidates) for candidate in candidates]
    best = max(scores)
    return Random(seed).choice([c for c, s in zip(candidates, scores, strict=True) if s == best])


def _answer(attempt: Attempt) -> str:
    return "".join((attempt.verdict.extracted or "").split())
