"""Rows become micro-batches: similar lengths together, padded on the right, within a budget of tokens.

Attention is causal and padding stands on the right, so no trained position can see it and no attention mask is needed.
Rows that begin alike may have their prefix read once (`prefixes.py`).
Legend: `B` rows, `T` target positions (position t of the input predicts target t), `N` trained tokens. Losses are taken
over the flat `N` and never see how rows were laid out.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

from thor_tir.learner.objective import Mean
from thor_tir.learner.prefixes import Family, Shared, families, grouped, num_inputs, single
from thor_tir.learner.sample import Component, LossKind, TrainingSample

Value = TypeVar("Value")

PADDING_ID = 0
"""Read by the model but seen by no trained position: any id of the vocabulary would do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What the rows of a micro-batch have in one component."""

    is_carried_B: Tensor
    """bool: whether the row has a term in it."""
    weight_B: Tensor
    """float: w_c, 0 where the row has no term."""
    adv_B: Tensor
    """float: advantage, 0 where the row has no term."""

    def to(self, device: torch.device) -> "Share":
        """The same on another device."""
        return Share(**{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """What one forward pass reads."""

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
    """The same under the reference policy."""
    correction_N: Tensor
    """float, constant factor of the surrogate."""
    shares: Mapping[Component, Share]
    """Of each component that some row carries."""
    num_tokens: int
    """Inputs that are no padding."""

    def to(self, device: torch.device) -> "MicroBatch":
        """The same on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {k: v.to(device, non_blocking=True) for k, v in moved.items() if isinstance(v, Tensor)}
        shares = {component: share.to(device) for component, share in self.shares.items()}
        shared = self.shared.to(device) if self.shared is not None else None
        return MicroBatch(**{**moved, **tensors, "shares": shares, "shared": shared})

    @property
    def num_padded(self) -> int:
        """Inputs, padding included."""
        return self.input_ids_BT.numel() + (self.shared.ids_PS.numel() if self.shared is not None else 0)


def leaves_gradient(row: TrainingSample) -> bool:
    """Whether any term can move the model: it has weight, and a surrogate also needs an advantage."""
    alive = (t.weight != 0 and (t.advantage != 0 or t.component.kind is not LossKind.SURROGATE) for t in row.terms)
    return row.num_trained > 0 and any(alive)


def token_counts(rows: Iterable[TrainingSample]) -> Counter[Component]:
    """N_c: trained tokens of all rows that carry component c, terms of weight or advantage 0 included."""
    counts: Counter[Component] = Counter()
    for row in rows:
        for component in _components(row):
            counts[component] += row.num_trained
    return counts


def masses(rows: Iterable[TrainingSample], mean_of: Callable[[Component], Mean]) -> dict[Component, float]:
    """The denominator of each component's mean over all rows: N_c where the mean is one over tokens."""
    sums: dict[Component, float] = {}
    for row in rows:
        for component in _components(row):
            sums[component] = sums.get(component, 0.0) + mean_of(component).mass(row.num_trained)
    return sums


def row_counts(rows: Iterable[TrainingSample]) -> Counter[Component]:
    """Rows that carry each component."""
    return Counter(component for row in rows for component in _components(row))


def plan(
    rows: Sequence[TrainingSample], *, micro_batch_tokens: int, shares_prefixes: bool = False
) -> list[list[TrainingSample]]:
    """Every row exactly once, in groups whose padded size is within the budget; longest first, so memory peaks early.

    A row that is longer than the budget is a group of its own. Rows without trained tokens have no place here.
    `collate` reads shared prefixes once where it is told so too.
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


def deal(rows: Sequence[TrainingSample], num_hands: int) -> list[list[TrainingSample]]:
    """Every row to exactly one of so many processes, the longest first and each to whom has fewest tokens so far.

    A function of the rows alone, so that every process knows what the others got; a hand may stay empty.
    """
    if num_hands == 1:
        return [list(rows)]
    hands: list[list[TrainingSample]] = [[] for _ in range(num_hands)]
    load = [0] * num_hands
    for row in sorted(rows, key=num_inputs, reverse=True):
        lightest = load.index(min(load))
        hands[lightest].append(row)
        load[lightest] += num_inputs(row)
    return hands


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
        shares={component: _share(rows, component, dtype) for component in row_counts(rows)},
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


def _share(rows: Sequence[TrainingSample], component: Component, dtype: torch.dtype) -> Share:
    terms = [next((t for t in row.terms if t.component is component), None) for row in rows]
    return Share(
        is_carried_B=torch.tensor([t is not None for t in terms]),
        weight_B=torch.tensor([t.weight if t else 0.0 for t in terms], dtype=dtype),
        adv_B=torch.tensor([t.advantage if t else 0.0 for t in terms], dtype=dtype),
    )


def _components(row: TrainingSample) -> set[Component]:
    components = {term.component for term in row.terms}
    if len(components) != len(row.terms):
        raise ValueError(f"row {row.id} has two terms in one component; each component may appear once in a row")
    return components
