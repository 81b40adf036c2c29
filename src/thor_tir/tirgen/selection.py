"""What samples are weighed against each other by: how many a question may give, and how many a number of calls.

Every choice is by rank: a number drawn from seed and id. So neither the order in which samples come nor how they were
spread over files changes what is chosen.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from thor_tir.seeds import seed_of

MOST_CALLS = 4
"""So many calls and more are one stratum, as in the paper's figure 6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the selection needs to know of a sample: small, so that all samples fit into memory at once."""

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


def rank(entry: Entry, seed: int, purpose: str) -> tuple[int, str]:
    """Its place in the order of one purpose: the same for a seed, whatever other samples there are."""
    return seed_of(seed, purpose, entry.id), entry.id


def per_question(entries: Sequence[Entry], most: int, seed: int) -> set[str]:
    """Ids of at most so many samples of each question, chosen over the whole set at once."""
    return {e.id for group in _grouped(entries, lambda e: e.problem_id) for e in _first(group, most, seed, "question")}


def balance(entries: Sequence[Entry], *, max_share: float, min_kept: float, seed: int) -> set[str]:
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
    """How many of each cell stay where only `room` may: small cells whole, large ones cut to one height."""
    left, order = room, sorted(range(len(sizes)), key=lambda i: (sizes[i], i))
    allowed = [0] * len(sizes)
    for place, cell in enumerate(order):
        allowed[cell] = min(sizes[cell], left // (len(order) - place))
        left -= allowed[cell]
    return allowed


def tally(entries: Iterable[Entry]) -> Mapping[tuple[int, int], int]:
    """How many samples each stratum of calls and difficulty holds."""
    return Counter((entry.calls, entry.difficulty) for entry in entries)


def _first(group: Sequence[Entry], most: int, seed: int, purpose: str) -> list[Entry]:
    return sorted(group, key=lambda entry: rank(entry, seed, purpose))[:most]


def _grouped(entries: Iterable[Entry], key: Callable[[Entry], Hashable]) -> list[list[Entry]]:
    """Groups in the order of their keys, so that the order of the entries decides nothing."""
    groups: dict[Hashable, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(key(entry), []).append(entry)
    return [groups[name] for name in sorted(groups)]  # type: ignore[type-var]
