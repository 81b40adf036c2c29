"""The multi-stage filter: which raw trajectories become training data (paper, section 2.2; specification, 3.3 and 3.5).

First each trajectory is judged alone (`examine_candidate`), then those that passed are weighed against each other
(`choose_samples`). Between the two only small entries are kept, so that the trajectories need not fit into memory.
Every rejected one is named with its stage and reason. The same trajectories and seed give the same selection, in
whatever order they come: every choice is by rank, a number drawn from seed and id.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import ceil
from typing import Literal, get_args

from thor_tir.problem import Problem
from thor_tir.problems.overlap import NGRAM, overlaps
from thor_tir.seeds import seed_of
from thor_tir.tirgen.rules import (
    Candidate,
    bad_format,
    bad_length,
    easy_without_tools,
    failed_calls,
    repetition,
    trivial_code,
    wrong_answer,
)
from thor_tir.verdict import Outcome

Stage = Literal[
    "answer", "calls", "format", "code", "repetition", "length", "no-tools", "overlap", "question", "balance"
]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which they are applied; the first that rejects a sample is named as the reason."""


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Options of the filter: what is kept."""

    skip: tuple[Stage, ...] = ()
    """Stages that are left out."""
    needs_import_or_control_flow: bool = False
    """The paper's rule for code quality. Off, a program need only compute: on arithmetic the rule would drop most."""
    max_trivial_share: float = 0.0
    """Share of a sample's programs that may be trivial."""
    max_repeats: int = 20
    """Occurrences of one 20-character window of prose that are still no repetition."""
    min_tokens: int = 1
    """Minimum response length in tokens, outputs included."""
    max_tokens: int | None = None
    """Maximum response length in tokens, outputs included; None for any. Fine-tuning has a limit of its own."""
    solved_without_tools: float = 1.0
    """Drop a question whose samples without tools are right at least this often; above 1 drops none."""
    benchmarks: tuple[str, ...] = ()
    """Files or folders of benchmarks whose questions must not be trained on."""
    ngram: int = NGRAM
    """Words in a row that count as copied from a benchmark; equal questions count whatever their length."""
    overlap_share: float = 0.0
    """At least this share of the shorter question's runs must be common; 0 counts a single run, stock phrases too."""
    per_question: int = 1
    """Most samples of one question."""
    max_share: float = 0.5
    """No number of calls (1, 2, 3, 4 and more) may make up more of the selection than this."""
    min_kept: float = 0.5
    """But balance leaves at least this share of each number of calls."""

    def __post_init__(self) -> None:
        if self.per_question < 1 or self.ngram < 1:
            raise ValueError(f"per_question and ngram are at least 1, found {self.per_question} and {self.ngram}")
        shares = (self.max_trivial_share, self.overlap_share, self.max_share, self.min_kept)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError(
                "max_trivial_share, overlap_share, max_share and min_kept lie between 0 and 1, "
                f"found {', '.join(map(str, shares))}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A sample that is left out."""

    id: str
    """Id of the trajectory."""
    problem_id: str
    """Id of its problem."""
    stage: str
    """Stage of the filter that dropped it."""
    reason: str
    """Reason of that stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCount:
    """Numbers of samples that one stage of the filter left and dropped."""

    name: str
    """Name of the stage."""
    kept: int
    """Number of samples left after it."""
    rejected: Mapping[str, int]
    """Number of samples dropped, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A sample after it was judged alone: small, whatever its trajectory holds."""

    id: str
    """Id of the trajectory."""
    problem_id: str
    """Id of its problem."""
    question: str
    """Kept only where it passed."""
    num_calls: int
    """Number of its calls."""
    is_correct: bool | None
    """None where the grader could not say."""
    rejected: Rejected | None
    """Reason why it is left out; None where it may be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterSelection:
    """The outcome."""

    kept: tuple[str, ...]
    """Ids in the order of the data set: a shuffle by rank, so that any part of it is a fair sample."""
    rejected: tuple[Rejected, ...]
    """Every sample that is left out, by stage and id."""
    stages: tuple[StageCount, ...]
    """Counts of every stage, in order."""
    solved: Mapping[str, float]
    """For each question, the share of the actor's graded attempts that were right, with tools and without."""


MOST_CALLS = 4
"""Number of calls from which on all are one stratum, as in the paper's figure 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleEntry:
    """A sample as the selection knows it: small, so that all samples fit into memory at once."""

    id: str
    """Id of the trajectory, unique."""
    problem_id: str
    """Id of its problem."""
    num_calls: int
    """Number of its calls."""
    solved: float
    """Share of the actor's graded attempts at the question that were right, with tools and without: its difficulty."""

    @property
    def calls(self) -> int:
        """Its stratum by number of calls."""
        return min(self.num_calls, MOST_CALLS)

    @property
    def difficulty(self) -> int:
        """Its stratum by difficulty: quarters of the share of attempts that solved the question, hardest first."""
        return min(int(4 * self.solved), 3)


def examine_candidate(candidate: Candidate, config: FilterConfig) -> Examined:
    """Judge one trajectory alone."""
    trajectory, outcome = candidate.trajectory, candidate.verdict.outcome
    rejected = None
    for stage, rule in _rules(config):
        if stage not in config.skip and (reason := rule(candidate)) is not None:
            rejected = Rejected(id=trajectory.id, problem_id=trajectory.problem_id, stage=stage, reason=reason)
            break
    return Examined(
        id=trajectory.id,
        problem_id=trajectory.problem_id,
        question="" if rejected else candidate.question,
        num_calls=len(trajectory.calls),
        is_correct=None if outcome is Outcome.UNSCORED else outcome is Outcome.CORRECT,
        rejected=rejected,
    )


def _rules(config: FilterConfig) -> Sequence[tuple[Stage, Callable[[Candidate], str | None]]]:
    code = partial(
        trivial_code,
        max_share=config.max_trivial_share,
        needs_import_or_control_flow=config.needs_import_or_control_flow,
    )
    return (
        ("answer", wrong_answer),
        ("calls", failed_calls),
        ("format", bad_format),
        ("code", code),
        ("repetition", lambda c: repetition(c, config.max_repeats)),
        ("length", lambda c: bad_length(c, min_tokens=config.min_tokens, max_tokens=config.max_tokens)),
        ("no-tools", lambda c: easy_without_tools(c, config.solved_without_tools)),
    )


def choose_samples(
    examined: Sequence[Examined],
    config: FilterConfig,
    *,
    seed: int = 0,
    no_tools: Mapping[str, Sequence[bool]] | None = None,
    benchmark: Iterable[Problem] = (),
) -> FilterSelection:
    """Weigh those that passed against each other, with a choice by `seed` among equals.

    `no_tools` are the verdicts on samples without tools by problem id.
    """
    solved = solved_shares(examined, no_tools or {})
    passed = {e.id: e for e in examined if e.rejected is None}
    left = [
        SampleEntry(id=e.id, problem_id=e.problem_id, num_calls=e.num_calls, solved=solved.get(e.problem_id, 0.0))
        for e in passed.values()
    ]
    rejected = [e.rejected for e in examined if e.rejected is not None]
    copied = _copied(passed.values(), benchmark, config) if "overlap" not in config.skip else {}
    rejected += [_rejected(e, "overlap", copied[e.problem_id]) for e in left if e.problem_id in copied]
    left = [e for e in left if e.problem_id not in copied]
    for stage, select in _selections(config, seed):
        chosen = {e.id for e in left} if stage in config.skip else select(left)
        rejected += [_rejected(e, stage, _CROWDED[stage]) for e in left if e.id not in chosen]
        left = [e for e in left if e.id in chosen]
    order = sorted(left, key=lambda e: rank(e, seed, "order"))
    return FilterSelection(
        kept=tuple(e.id for e in order),
        rejected=tuple(sorted(rejected, key=lambda r: (_ORDER[r.stage], r.id))),
        stages=_counted(len(examined), rejected, config),
        solved=solved,
    )


GENERATED = "generated"
"""Name of the first count, and stage of attempts that a machine fault ended."""
_CROWDED = {"question": "another sample of the question", "balance": "too many of its number of calls"}
_ORDER = {name: place for place, name in enumerate((GENERATED, *STAGES))}


def _selections(config: FilterConfig, seed: int) -> Sequence[tuple[Stage, Callable[[Sequence[SampleEntry]], set[str]]]]:
    return (
        ("question", lambda entries: per_question(entries, config.per_question, seed)),
        (
            "balance",
            lambda entries: balance(entries, max_share=config.max_share, min_kept=config.min_kept, seed=seed),
        ),
    )


def _copied(passed: Iterable[Examined], benchmark: Iterable[Problem], config: FilterConfig) -> dict[str, str]:
    """The benchmark problem that a question equals or shares a run of words with, by problem id."""
    questions = {e.problem_id: e.question for e in passed}
    asked = [Problem(id=id, question=text, answer="", source="") for id, text in sorted(questions.items())]
    found = overlaps(asked, benchmark, ngram=config.ngram, share=config.overlap_share)
    return {o.train_id: f"equals {o.exact[0]}" if o.exact else f"shares words with {o.shared[0]}" for o in found}


def _rejected(entry: SampleEntry, stage: str, reason: str) -> Rejected:
    return Rejected(id=entry.id, problem_id=entry.problem_id, stage=stage, reason=reason)


def solved_shares(examined: Iterable[Examined], no_tools: Mapping[str, Sequence[bool]]) -> dict[str, float]:
    """The share of each question's graded attempts that were right, whether or not they used tools."""
    verdicts: dict[str, list[bool]] = {id: list(found) for id, found in no_tools.items()}
    for e in examined:
        if e.is_correct is not None:
            verdicts.setdefault(e.problem_id, []).append(e.is_correct)
    return {id: sum(found) / len(found) for id, found in verdicts.items() if found}


def _counted(total: int, rejected: Iterable[Rejected], config: FilterConfig) -> tuple[StageCount, ...]:
    by_stage: dict[str, Counter[str]] = {}
    for r in rejected:
        by_stage.setdefault(r.stage, Counter())[r.reason] += 1
    counts = []
    for name in (GENERATED, *(stage for stage in STAGES if stage not in config.skip)):
        reasons = by_stage.get(name, Counter())
        total -= reasons.total()
        counts.append(StageCount(name=name, kept=total, rejected=dict(sorted(reasons.items()))))
    return tuple(counts)


def sieve(
    candidates: Sequence[Candidate], config: FilterConfig, *, seed: int = 0
) -> tuple[list[Candidate], tuple[StageCount, ...]]:
    """The selection of candidates that are all in memory, and what each stage left."""
    selection = choose_samples([examine_candidate(candidate, config) for candidate in candidates], config, seed=seed)
    by_id = {candidate.trajectory.id: candidate for candidate in candidates}
    return [by_id[id] for id in selection.kept], selection.stages


def rank(entry: SampleEntry, seed: int, purpose: str) -> tuple[int, str]:
    """Its place in the order of one purpose: the same for a seed, whatever other samples there are."""
    return seed_of(seed, purpose, entry.id), entry.id


def per_question(entries: Sequence[SampleEntry], most: int, seed: int) -> set[str]:
    """Ids of at most so many samples of each question, chosen over the whole set at once."""
    return {e.id for group in _grouped(entries, lambda e: e.problem_id) for e in _first(group, most, seed, "question")}


def balance(entries: Sequence[SampleEntry], *, max_share: float, min_kept: float, seed: int) -> set[str]:
    """Ids that are left when no number of calls may make up more than `max_share` of the selection.

    A stratum that is too large is sampled down, but never below `min_kept` of what it had: the down-sampling of the
    paper is "moderate" (section 2.2, no numbers). Within it, difficulties are levelled: the largest cells give first.
    """
    strata = {group[0].calls: group for group in _grouped(entries, lambda e: e.calls)}
    cap = fair_cap([len(group) for group in strata.values()], max_share)
    chosen: set[str] = set()
    for group in strata.values():
        room = len(group) if cap is None else max(cap, ceil(len(group) * Fraction(str(min_kept))))
        cells = list(_grouped(group, lambda e: e.difficulty))
        for cell, allowed in zip(cells, levelled([len(cell) for cell in cells], room), strict=True):
            chosen |= {entry.id for entry in _first(cell, allowed, seed, "balance")}
    return chosen


def fair_cap(sizes: Sequence[int], max_share: float) -> int | None:
    """The largest size to which strata are cut so that none is more than `max_share` of what is left.

    Where that cannot be, they are cut to the smallest one's size. None where nothing need be cut, or there is a single
    stratum, which is always the whole.
    """
    share = Fraction(str(max_share))

    def is_fair(cap: int) -> bool:
        cut = [min(size, cap) for size in sizes]
        return max(cut) <= share * sum(cut)

    if len(sizes) < 2 or is_fair(max(sizes)):
        return None
    return next((cap for cap in range(max(sizes) - 1, min(sizes), -1) if is_fair(cap)), min(sizes))


def levelled(sizes: Sequence[int], room: int) -> list[int]:
    """Numbers that stay of each cell where only `room` may: small cells whole, large ones cut to one height."""
    left, order = room, sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    allowed = [0] * len(sizes)
    for place, cell in enumerate(order):
        allowed[cell] = min(sizes[cell], left // (len(order) - place))
        left -= allowed[cell]
    return allowed


def tally(entries: Iterable[SampleEntry]) -> Mapping[tuple[int, int], int]:
    """Numbers of samples in each stratum of calls and difficulty."""
    return Counter((entry.calls, entry.difficulty) for entry in entries)


def _first(group: Sequence[SampleEntry], most: int, seed: int, purpose: str) -> list[SampleEntry]:
    return sorted(group, key=lambda entry: rank(entry, seed, purpose))[:most]


def _grouped(entries: Iterable[SampleEntry], key: Callable[[SampleEntry], Hashable]) -> list[list[SampleEntry]]:
    """Groups in the order of their keys, so that the order of the entries decides nothing."""
    groups: dict[Hashable, list[SampleEntry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return [groups[name] for name in sorted(groups)]  # type: ignore[type-var]
