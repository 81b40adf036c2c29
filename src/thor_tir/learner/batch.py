"""Rows become micro-batches: similar lengths together, padded on the right, within a budget of tokens.

Attention is causal and padding stands on the right, so no trained position can see it and no attention mask is needed.
Rows that begin alike may have their prefix read once (`prefixes.py`).
Legend: `B` rows, `T` target positions (position t of the input predicts target t), `N` trained tokens. Losses are taken
over the flat `N` and never see how rows were laid out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from thor_tir.distributed import Ranks
from thor_tir.learner.objective import Formula, Objective
from thor_tir.learner.prefixes import Family, Shared, families, grouped, num_inputs, single
from thor_tir.learner.sample import Term, TrainingSample

Value = TypeVar("Value")

PADDING_ID = 0
"""Read by the model but seen by no trained position: any id of the vocabulary would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One term over the rows of a micro-batch."""

    is_carried_B: Tensor
    """bool, True where the row carries the term."""
    weight_B: Tensor
    """float, w_c; 0 where the row does not carry the term."""
    adv_N: Tensor
    """float, advantage of each trained token; 0 where its row does not carry the term."""

    def to(self, device: torch.device) -> "Share":
        """The same on another device."""
        return Share(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """The rows that one forward pass reads, as tensors."""

    input_ids_BT: Tensor
    """int64, after the shared prefix, up to but not including each row's last trained token."""
    shared: Shared | None
    """Prefixes that several rows begin with; None where every row is read whole."""
    target_ids_BT: Tensor
    """int64, the inputs moved on by one."""
    trained_N: Tensor
    """int64, places of the trained targets in the flattened `BT`: gathering by index does not wait for the device."""
    row_N: Tensor
    """int64, the row of each trained target, counted within the micro-batch."""
    num_trained_B: Tensor
    """float, trained targets of each row."""
    old_logp_N: Tensor
    """float32 or float64, nats, of the trained targets; NaN where unknown."""
    reference_logp_N: Tensor
    """The same under the reference policy; NaN where there is none."""
    correction_N: Tensor
    """float, constant factor of the surrogate."""
    shares: Mapping[str, Share]
    """Terms that some row carries, by name."""
    num_tokens: int
    """Inputs without padding."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {k: v.to(device, non_blocking=True) for k, v in moved.items() if isinstance(v, Tensor)}
        shares = {name: share.to(device) for name, share in self.shares.items()}
        shared = self.shared.to(device) if self.shared is not None else None
        return MicroBatch(**{**moved, **tensors, "shares": shares, "shared": shared})

    @property
    def num_padded(self) -> int:
        """Inputs, padding included."""
        return self.input_ids_BT.numel() + (self.shared.ids_PS.numel() if self.shared is not None else 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermTotals:
    """One term over all rows of a step."""

    formula: Formula
    """Loss per token."""
    num_tokens: int
    """N_c: trained tokens of the rows that carry the term, weight or advantage 0 included."""
    num_rows: int
    """Rows that carry the term."""
    mass: float
    """Denominator of the term's mean: N_c where the mean is one over tokens."""


def totals(rows: Iterable[TrainingSample], objective: Objective) -> dict[str, TermTotals]:
    """The terms of a step, in the order of their names. Raises ValueError where one name has two formulas."""
    found: dict[str, TermTotals] = {}
    for row in rows:
        for term in row.terms:
            formula, count = term.loss, row.num_trained
            empty = TermTotals(formula=formula, num_tokens=0, num_rows=0, mass=0.0)
            before = found.get(term.name, empty)
            if before.formula is not formula:
                raise ValueError(f"term {term.name!r} of row {row.id} has another formula than in earlier rows")
            found[term.name] = TermTotals(
                formula=formula,
                num_tokens=before.num_tokens + count,
                num_rows=before.num_rows + 1,
                mass=before.mass + objective.mean_of(formula).mass(count),
            )
    return dict(sorted(found.items()))


def plan(
    rows: Sequence[TrainingSample], *, micro_batch_tokens: int, shares_prefixes: bool = False
) -> list[list[TrainingSample]]:
    """Every row exactly once, in groups whose padded size is within the budget; longest first, so memory peaks early.

    A row that is longer than the budget is a group of its own. Rows without trained tokens have no place here.
    With `shares_prefixes`, which `collate` must be given too, prefixes that rows share count once.
    """
    related, alone = families(rows) if shares_prefixes else ([], list(rows))
    parts = [part for family in related for part in _split(family, micro_batch_tokens)]
    groups = [*_packed(parts, micro_batch_tokens), *_packed([single(row) for row in alone], micro_batch_tokens)]
    planned = [[row for family in group for row in family.rows] for group in sorted(groups, key=_size, reverse=True)]
    assert sum(map(len, planned)) == len(rows), "rows in must equal rows trained"
    return planned


def _packed(parts: Sequence[Family], budget: int) -> list[list[Family]]:
    """Families of similar length together."""
    groups: list[list[Family]] = []
    for part in sorted(parts, key=lambda part: part.own, reverse=True):
        if not groups or _size([*groups[-1], part]) > budget:
            groups.append([])
        groups[-1].append(part)
    return groups


def _split(family: Family, budget: int) -> list[Family]:
    """Parts of a family that fit into the budget, each with the prefix; rows of similar length stay together."""
    parts: list[Family] = []
    for row in sorted(family.rows, key=num_inputs, reverse=True):
        grown = Family(rows=(*(parts[-1].rows if parts else ()), row), prefix=family.prefix)
        if parts and _size([grown]) <= budget:
            parts[-1] = grown
        else:
            parts.append(Family(rows=(row,), prefix=family.prefix))
    return parts


def _size(group: Sequence[Family]) -> int:
    num_rows = sum(len(family.rows) for family in group)
    return num_rows * max(family.own for family in group) + len(group) * max(family.prefix for family in group)


def plans(
    rows: Sequence[TrainingSample], num_hands: int, *, micro_batch_tokens: int, shares_prefixes: bool = False
) -> list[list[list[TrainingSample]]]:
    """The micro-batches of each of `num_hands` processes.

    Where prefixes are read once, families stay together if the process that has most to read has less of it then.
    """
    hands = [deal(rows, num_hands)]
    if shares_prefixes and num_hands > 1:
        related, alone = families(rows)
        hands.append(_dealt([*related, *map(single, alone)], num_hands))

    def planned(hand: Sequence[TrainingSample]) -> list[list[TrainingSample]]:
        return plan(hand, micro_batch_tokens=micro_batch_tokens, shares_prefixes=shares_prefixes)

    def most(each: Sequence[Sequence[Sequence[TrainingSample]]]) -> int:
        return max(sum(_size(grouped(rows)) for rows in planned) for planned in each)

    found = [[planned(hand) for hand in each] for each in hands]
    return min(found, key=most) if len(found) > 1 else found[0]


def own_plan(
    rows: Sequence[TrainingSample],
    ranks: Ranks,
    *,
    micro_batch_tokens: int,
    shares_prefixes: bool = False,
    in_step: bool,
) -> list[list[TrainingSample]]:
    """This process's micro-batches; `in_step` adds idle ones, until it has as many as every other."""
    planned = plans(rows, ranks.size, micro_batch_tokens=micro_batch_tokens, shares_prefixes=shares_prefixes)
    mine = planned[ranks.rank]
    return [*mine, *[[IDLE]] * (max(map(len, planned)) - len(mine))] if in_step else mine


def deal(rows: Sequence[TrainingSample], num_hands: int) -> list[list[TrainingSample]]:
    """Every row to exactly one of `num_hands` processes, the longest first and each to whom has fewest tokens so far.

    A function of the rows alone, so that every process knows what the others got; a hand may stay empty.
    """
    return [list(rows)] if num_hands == 1 else _dealt([single(row) for row in rows], num_hands)


def _dealt(units: Sequence[Family], num_hands: int) -> list[list[TrainingSample]]:
    hands: list[list[TrainingSample]] = [[] for _ in range(num_hands)]
    load = [0] * num_hands
    for unit in sorted(units, key=_read, reverse=True):
        lightest = load.index(min(load))
        hands[lightest] += unit.rows
        load[lightest] += _read(unit)
    return hands


def _read(unit: Family) -> int:
    """Tokens that are read of a family."""
    return unit.prefix + sum(num_inputs(row) - unit.prefix for row in unit.rows)


IDLE = TrainingSample(
    id="idle", token_ids=(PADDING_ID,) * 2, trained=(False, True), old_logprobs=(float("nan"),) * 2, terms=()
)
"""Two tokens without a term: what a process reads when others read more micro-batches than it has."""


def collate(
    rows: Sequence[TrainingSample], *, dtype: torch.dtype = torch.float32, shares_prefixes: bool = False
) -> MicroBatch:
    """Tensors on the CPU, padded to the longest row; `dtype` is that of the loss."""
    group = grouped(rows) if shares_prefixes else [single(row) for row in rows]
    rows = [row for family in group for row in family.rows]
    starts = [family.prefix for family in group for _ in family.rows]
    widths = [num_inputs(row) - start for row, start in zip(rows, starts, strict=True)]
    width = max(widths)
    places = [[t for t, is_trained in enumerate(row.trained[1:]) if is_trained] for row in rows]
    counts = torch.tensor([len(place) for place in places])

    def of_trained(sequences: Sequence[Sequence[float]], missing: float) -> Tensor:
        pairs = zip(sequences, places, strict=True)
        return torch.tensor([s[t + 1] if s else missing for s, place in pairs for t in place], dtype=dtype)

    def own(sequences: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor(_padded([s[n:] for s, n in zip(sequences, starts, strict=True)], width, PADDING_ID))

    flat = [b * width + t - starts[b] for b, place in enumerate(places) for t in place]
    return MicroBatch(
        input_ids_BT=own([row.token_ids[:-1] for row in rows]),
        shared=_shared(group) if any(family.prefix for family in group) else None,
        target_ids_BT=own([row.token_ids[1:] for row in rows]),
        trained_N=torch.tensor(flat),
        row_N=torch.arange(len(rows)).repeat_interleave(counts),
        num_trained_B=counts.to(dtype),
        old_logp_N=of_trained([row.old_logprobs for row in rows], float("nan")),
        reference_logp_N=of_trained([row.reference_logprobs for row in rows], float("nan")),
        correction_N=of_trained([row.correction for row in rows], 1.0),
        shares=_shares(rows, places, dtype),
        num_tokens=sum(widths) + sum(family.prefix for family in group),
    )


def _shared(group: Sequence[Family]) -> Shared:
    longest = max(family.prefix for family in group)
    prefixes = [family.rows[0].token_ids[: family.prefix] for family in group]
    return Shared(
        ids_PS=torch.tensor(_padded(prefixes, longest, PADDING_ID)),
        length_P=torch.tensor([family.prefix for family in group]),
        parent_B=torch.tensor([place for place, family in enumerate(group) for _ in family.rows]),
    )


def _padded(sequences: Sequence[Sequence[Value]], width: int, filler: Value) -> list[list[Value]]:
    return [[*s[:width], *[filler] * (width - len(s))] for s in sequences]


def _shares(rows: Sequence[TrainingSample], places: Sequence[Sequence[int]], dtype: torch.dtype) -> dict[str, Share]:
    carried = [{term.name: term for term in row.terms} for row in rows]

    def share(name: str) -> Share:
        terms = [by_name.get(name) for by_name in carried]
        adv_N = [a for term, place in zip(terms, places, strict=True) for a in _advantages(term, place)]
        return Share(
            is_carried_B=torch.tensor([t is not None for t in terms]),
            weight_B=torch.tensor([t.weight if t else 0.0 for t in terms], dtype=dtype),
            adv_N=torch.tensor(adv_N, dtype=dtype),
        )

    return {name: share(name) for name in sorted({name for by_name in carried for name in by_name})}


def _advantages(term: Term | None, place: Sequence[int]) -> list[float]:
    """Advantages of a row's trained tokens; 0 where it does not carry the term."""
    if term is not None and term.token_advantages:
        return [term.token_advantages[t + 1] for t in place]
    return [0.0 if term is None else term.advantage] * len(place)
