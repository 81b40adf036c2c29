"""Best-of-N: one attempt among N without self-correction is chosen, in the paper by its successful calls (3.3).

The paper leaves three things open, settled here: a candidate that made no call has pass rate 0, since nothing it claims
was computed; among equal pass rates one with an answer wins; what is still equal is drawn from a seed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType

from thor_tir.execution import CallSuccess
from thor_tir.grading.voting import candidates_of
from thor_tir.hooks import hook_fault, load_hook, number_of, spelling_of
from thor_tir.rollout.sample_many import Attempt

Score = Callable[[Attempt, Sequence[Attempt]], tuple[float, ...]]
"""Score of an attempt among all candidates: larger is better, compared from left to right."""


def call_pass_rate(attempt: Attempt, rule: CallSuccess = "printed") -> float:
    """Successful calls over all calls; 0 without any."""
    calls = attempt.trajectory.calls
    return sum(step.succeeds(rule) for step in calls) / len(calls) if calls else 0.0


def has_answer(attempt: Attempt) -> bool:
    """True if an answer was found in the attempt."""
    return bool((attempt.verdict.extracted or "").strip())


def ballots(attempts: Sequence[Attempt]) -> list[int | None]:
    """The candidate that each attempt votes for, by the grader's equivalence of answers; None where it abstains."""
    return candidates_of(attempt.verdict.extracted for attempt in attempts)


def vote_share(attempt: Attempt, candidates: Sequence[Attempt]) -> float:
    """Share of the candidates that give the same answer; 0 without an answer."""
    *votes, own = ballots([*candidates, attempt])
    return 0.0 if own is None else votes.count(own) / len(candidates)


def self_rewarded(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """The paper's score, by execution pass rate."""
    return call_pass_rate(attempt), float(has_answer(attempt))


def clean_runs(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """The paper's score with another rule of success: calls that ran, whether or not they printed anything."""
    return call_pass_rate(attempt, "ran"), float(has_answer(attempt))


def self_consistent(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """Majority vote, for comparison."""
    return (vote_share(attempt, candidates),)


def hybrid(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
    """Pass rate first, the vote among equals: not in the paper, and usually better than either."""
    return *self_rewarded(attempt, candidates), vote_share(attempt, candidates)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One rule by which an attempt is chosen among N."""

    title: str
    """Name in tables of results, with `{}` where N stands."""
    score: Score
    """Function that ranks the candidates."""


SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "pass-rate": Selector(title="best of {}", score=self_rewarded),
        "ran-rate": Selector(title="most runs of {}", score=clean_runs),
        "vote": Selector(title="vote of {}", score=self_consistent),
        "pass-rate-then-vote": Selector(title="best then vote of {}", score=hybrid),
    }
)
"""All selectors by the name that options take; `pass-rate` is the paper's. A new one is a line here;
one of the user's own is named as file.py:function."""

COMPARED = ("pass-rate", "vote", "pass-rate-then-vote")
"""Selectors that the quickstart compares."""


def selector(name: str) -> Selector:
    """The selector of that name, or one of the user's own. Raises UsageError for one that cannot be had."""
    if name in SELECTORS:
        return SELECTORS[name]
    score = _own_score(name)
    return Selector(title=f"{name.replace('{', '{{').replace('}', '}}')} of {{}}", score=score)


def _own_score(name: str) -> Score:
    """The score of a function of the user's own, which returns a number or several that are compared in order."""
    spelled = spelling_of(name)
    function = load_hook("selector", spelled.name, known=SELECTORS, parameters=spelled.parameters)

    def score(attempt: Attempt, candidates: Sequence[Attempt]) -> tuple[float, ...]:
        try:
            value = function(attempt, candidates)
        except Exception as error:
            raise hook_fault(f"the selector {name}", error) from error
        return tuple(number_of(v, f"the selector {name}") for v in (value if isinstance(value, tuple) else (value,)))

    return score


def select(candidates: Sequence[Attempt], score: Score, *, seed: int) -> Attempt:
    """The best candidate; ties are drawn from the seed. Raises ValueError without candidates."""
    if not candidates:
        raise ValueError("best of N needs at least one candidate")
    scores = [score(candidate, candidates) for candidate in candidates]
    best = max(scores)
    return Random(seed).choice([c for c, s in zip(candidates, scores, strict=True) if s == best])
