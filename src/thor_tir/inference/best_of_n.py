"""Best-of-N: one attempt among N without self-correction is chosen, in the paper by its successful calls (3.3).

The paper leaves three things open, settled here: a candidate that made no call has pass rate 0, since nothing it claims
was computed; among equal pass rates one with an answer wins; what is still equal is drawn from a seed.

Everything here is a rule over what candidates hold, and over what a model said of them where a selector asks one
(`asking.py` does that).
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from statistics import fmean
from types import MappingProxyType

from thor_tir.errors import UsageError
from thor_tir.execution import CallSuccess
from thor_tir.grading.voting import candidates_of
from thor_tir.hooks import answer_now, load_spelled, number_of
from thor_tir.rollout.sample_many import Attempt

Score = tuple[float, ...]
"""Numbers that are compared from left to right: larger is better."""

Opinions = Mapping[str, Sequence[float]]
"""Numbers that a model gave to candidates, by the id of their trajectory; without those of which it said nothing."""

Rank = Callable[[Sequence[Attempt], Opinions], Sequence[Score]]
"""Scores of all candidates of one problem, in their order."""


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


def vote_shares(attempts: Sequence[Attempt], weights: Sequence[float] | None = None) -> list[float]:
    """For each attempt the share of all that give its answer, or the sum of their weights over the number of all.

    0 without an answer.
    """
    votes = ballots(attempts)
    counts: defaultdict[int | None, float] = defaultdict(float)
    for vote, weight in zip(votes, weights or [1.0] * len(votes), strict=True):
        counts[vote] += weight
    # Weights are fractions: without rounding, the order of addition would decide between equal sums.
    return [0.0 if vote is None else round(counts[vote], 9) / len(votes) for vote in votes]


def self_rewarded(attempt: Attempt) -> Score:
    """The paper's score, by execution pass rate."""
    return call_pass_rate(attempt), float(has_answer(attempt))


def clean_runs(attempt: Attempt) -> Score:
    """The paper's score with another rule of success: calls that ran, whether or not they printed anything."""
    return call_pass_rate(attempt, "ran"), float(has_answer(attempt))


def shortest(attempt: Attempt) -> Score:
    """Among those with the best pass rate, the attempt for which the model wrote the fewest tokens."""
    return *self_rewarded(attempt), -float(attempt.trajectory.num_model_tokens)


def anyone(attempt: Attempt) -> Score:
    """All alike: the draw decides."""
    return ()


def all_knowing(attempt: Attempt) -> Score:
    """The verdict itself, which no selector can know: an upper bound."""
    return (float(attempt.is_correct),)


def self_consistent(attempts: Sequence[Attempt]) -> list[Score]:
    """Majority vote, for comparison."""
    return [(share,) for share in vote_shares(attempts)]


def hybrid(attempts: Sequence[Attempt]) -> list[Score]:
    """Pass rate first, the vote among equals: not in the paper."""
    return [(*self_rewarded(a), share) for a, share in zip(attempts, vote_shares(attempts), strict=True)]


def weighted_vote(attempts: Sequence[Attempt]) -> list[Score]:
    """A vote in which each attempt weighs as much as its pass rate; where all weights are 0, a plain vote."""
    weighted = vote_shares(attempts, [call_pass_rate(attempt) for attempt in attempts])
    return list(zip(weighted, vote_shares(attempts), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """One rule by which an attempt is chosen among N."""

    title: str
    """Name in tables of results, with `{}` where N stands."""
    rank: Rank
    """Function that ranks the candidates of one problem."""
    parts: tuple[str, ...] = ()
    """Names of the numbers of a score, in their order."""
    is_absolute: bool = False
    """True where the score of a candidate does not depend on the others."""
    is_bound: bool = False
    """True where the score knows the verdicts, so that it is an upper bound and no selector."""
    asks: str = ""
    """Name of what has to be asked for opinions; empty for a rule."""
    is_joint: bool = False
    """True where an opinion is of all candidates together, so that it says nothing of fewer."""


def by_score(title: str, score: Callable[[Attempt], Score], *parts: str, is_bound: bool = False) -> Selector:
    """A selector that scores each candidate by itself."""
    return Selector(
        title=title,
        rank=lambda candidates, opinions: [score(candidate) for candidate in candidates],
        parts=parts,
        is_absolute=True,
        is_bound=is_bound,
    )


def by_group(title: str, scores: Callable[[Sequence[Attempt]], Sequence[Score]], *parts: str) -> Selector:
    """A selector that compares the candidates with each other."""
    return Selector(title=title, rank=lambda candidates, opinions: scores(candidates), parts=parts)


PASS_RATE = "pass rate", "an answer"
SELECTORS: Mapping[str, Selector] = MappingProxyType(
    {
        "pass-rate": by_score("best of {}", self_rewarded, *PASS_RATE),
        "ran-rate": by_score("most runs of {}", clean_runs, "share of calls that ran", "an answer"),
        "vote": by_group("vote of {}", self_consistent, "share of the votes"),
        "pass-rate-then-vote": by_group("best then vote of {}", hybrid, *PASS_RATE, "share of the votes"),
        "weighted-vote": by_group("weighted vote of {}", weighted_vote, "weighted share", "share of the votes"),
        "shortest": by_score("shortest of the best of {}", shortest, *PASS_RATE, "minus the tokens"),
        "random": by_score("any of {}", anyone),
        "oracle": by_score("upper bound of {}", all_knowing, "right", is_bound=True),
    }
)
"""All rules by the name that options take; `pass-rate` is the paper's. A new one is a line here;
one of the user's own is named as file.py:function."""

COMPARED = ("pass-rate", "vote", "pass-rate-then-vote")
"""Selectors that the quickstart compares."""

UNKNOWN = -math.inf
"""Score of a candidate of which a reward model said nothing."""


def by_opinion(title: str, asks: str, of: Callable[[Sequence[float]], float], *, pass_rate: bool = False) -> Selector:
    """A selector by what a reward model gave to each candidate; with `pass_rate` among equals of the paper's score."""

    def rank(candidates: Sequence[Attempt], opinions: Opinions) -> list[Score]:
        given = [opinions.get(candidate.trajectory.id, ()) for candidate in candidates]
        rewards = [of(numbers) if numbers else UNKNOWN for numbers in given]
        before = [self_rewarded(candidate) if pass_rate else () for candidate in candidates]
        return [(*first, reward) for first, reward in zip(before, rewards, strict=True)]

    parts = (*(PASS_RATE if pass_rate else ()), "reward")
    return Selector(title=title, rank=rank, parts=parts, is_absolute=True, asks=asks)


def by_verdict(title: str, asks: str, part: str) -> Selector:
    """A selector by one number for each candidate, 0 where nothing was said; the vote decides among equals."""

    def rank(candidates: Sequence[Attempt], opinions: Opinions) -> list[Score]:
        given = [sum(opinions.get(candidate.trajectory.id, ())) for candidate in candidates]
        return list(zip(given, vote_shares(candidates), strict=True))

    return Selector(title=title, rank=rank, parts=(part, "share of the votes"), asks=asks)


GEN_SELECT, TOOL_VERIFIED = "gen-select", "tool-verified"
ASKED: Mapping[str, Selector] = MappingProxyType(
    {
        GEN_SELECT: replace(by_verdict("pick of {}", GEN_SELECT, "picked"), is_joint=True),
        TOOL_VERIFIED: by_verdict("verified of {}", TOOL_VERIFIED, "verified"),
    }
)
"""Selectors that ask the model itself: to compare the candidates, or for programs that check their answers."""

REWARDS: Mapping[str, Callable[[str, str], Selector]] = MappingProxyType(
    {
        "reward": lambda title, place: by_opinion(title, f"reward:{place}", lambda numbers: numbers[-1]),
        "pass-rate-then-reward": lambda title, place: by_opinion(
            title, f"reward:{place}", lambda numbers: numbers[-1], pass_rate=True
        ),
        "process": lambda title, place: by_opinion(title, f"process:{place}", min),
        "process-mean": lambda title, place: by_opinion(title, f"process:{place}", fmean),
        "process-last": lambda title, place: by_opinion(title, f"process:{place}", lambda numbers: numbers[-1]),
    }
)
"""Selectors that ask a reward model, named with its folder or address behind a colon: of the whole response, or of its
steps, of which the smallest reward, the mean or the last one counts."""

NAMES = (*SELECTORS, *ASKED, *(f"{kind}:PLACE" for kind in REWARDS))
"""All names, as messages show them."""

RULES = tuple(name for name, each in SELECTORS.items() if not each.is_bound)
"""Rules that can choose where no reference is known."""

USABLE = (*RULES, *ASKED)
"""Selectors without a place that can choose where no reference is known."""


def expanded(names: Sequence[str]) -> tuple[str, ...]:
    """Names of selectors, each once, with `all` as those that need no place."""
    each = [one for name in names for one in ((*SELECTORS, *ASKED) if name == "all" else (name,))]
    return tuple(dict.fromkeys(each))


def selector(name: str) -> Selector:
    """The selector of that name, or one of the user's own. Raises UsageError for one that cannot be had."""
    if name in SELECTORS:
        return SELECTORS[name]
    if name in ASKED:
        return ASKED[name]
    title = f"{name.replace('{', '{{').replace('}', '}}')} of {{}}"
    kind, _, place = name.partition(":")
    if kind in REWARDS:
        if not place:
            raise UsageError(f"{name!r} names no reward model; write {kind}:FOLDER or {kind}:http://HOST:PORT")
        return REWARDS[kind](title, place)
    return Selector(title=title, rank=_own_rank(name))


def is_built_in(name: str) -> bool:
    """True for a selector of this package: none of them reads token ids or log-probabilities of candidates."""
    return name in SELECTORS or name in ASKED or name.partition(":")[0] in REWARDS


def usable(name: str) -> Selector:
    """The same where no reference is known. Raises UsageError for one that needs the verdicts too."""
    found = selector(name)
    if found.is_bound:
        raise UsageError(
            f"{name} knows which attempts are right, so it is for `thor eval` alone; take another selector"
        )
    return found


def _own_rank(name: str) -> Rank:
    """The rank of a function of the user's own, which returns a number or several that are compared in order."""
    function = load_spelled("selector", name, known=NAMES)

    def score(attempt: Attempt, candidates: Sequence[Attempt]) -> Score:
        value = answer_now(f"the selector {name}", function, attempt, candidates)
        return tuple(number_of(v, f"the selector {name}") for v in (value if isinstance(value, tuple) else (value,)))

    return lambda candidates, opinions: [score(candidate, candidates) for candidate in candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The attempt that a selector took, and why."""

    chosen: Attempt
    """Attempt that was taken."""
    place: int
    """Its place among the candidates, counted from 0."""
    scores: Sequence[Score]
    """Scores of all candidates, in their order."""
    parts: tuple[str, ...] = field(default=())
    """Names of the numbers of a score."""

    @property
    def num_best(self) -> int:
        """Candidates that share the best score."""
        return sum(score == self.scores[self.place] for score in self.scores)

    @property
    def reason(self) -> str:
        """One sentence that says why this candidate won."""
        best = self.scores[self.place]
        names = self.parts if len(self.parts) == len(best) else tuple(f"score {i + 1}" for i in range(len(best)))
        shown = ", ".join(f"{name} {value:.6g}" for name, value in zip(names, best, strict=True))
        ties = f"{self.num_best} of {len(self.scores)} are as good, and the seed drew it"
        why = ties if self.num_best > 1 else f"the best of {len(self.scores)}"
        return f"candidate {self.place + 1}: {shown}{'; ' if shown else ''}{why}"


def choose(candidates: Sequence[Attempt], by: Selector, *, seed: int, opinions: Opinions | None = None) -> Choice:
    """The best candidate; ties are drawn from the seed. Raises ValueError without candidates."""
    if not candidates:
        raise ValueError("best of N needs at least one candidate")
    scores = by.rank(candidates, opinions or {})
    best = max(scores)
    place = Random(seed).choice([place for place, score in enumerate(scores) if score == best])
    return Choice(chosen=candidates[place], place=place, scores=scores, parts=by.parts)
