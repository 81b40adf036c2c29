"""Problems from a function of one's own, or from a task set of `verifiers`, as rows that are read like any others."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, is_dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.hooks import answer_now, blamed, load_spelled, offered, spelling_of
from thor_tir.problems.rows import Rows
from thor_tir.problems.verifiers_tasks import PREFIX, task_rows

_NAME = re.compile(r".+\.py:\w+(,.*)?|[A-Za-z_][\w.]*:\w+(,.*)?|" + PREFIX + r".+", re.DOTALL)
MOST_ROWS = 1_000_000
"""Rows that a source is asked for where no number is wanted: one that goes on has no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The part of a source that is asked for."""

    split: str = "train"
    """Name of the split: `train`, `validation` or `test`."""
    count: int | None = None
    """Problems that are wanted at most; None for all."""
    seed: int = 0
    """Seed by which a source that makes its problems makes them."""


def is_source(spec: str) -> bool:
    """True for a function's spelling, for the short name of one that a package offers, and for a task set."""
    return _NAME.fullmatch(spec) is not None or spec.partition(",")[0] in offered("problems")


def source_rows(spec: str, wanted: Wanted) -> Rows:
    """Rows of a source, each with its place for messages. Raises UsageError for what gives none."""
    if spec.startswith(PREFIX):
        return task_rows(spec.removeprefix(PREFIX), wanted.count)
    return _numbered(f"the problems of {spec}", load_spelled("problems", spec), wanted)


def source_stem(spec: str) -> str:
    """The name of a source for people and files."""
    spelled = spelling_of(spec)
    return re.sub(r"\W+", "-", Path(spelled.name).name).strip("-")


def _numbered(name: str, function: Callable[..., object], wanted: Wanted) -> Iterator[tuple[str, Mapping[str, Any]]]:
    made = answer_now(name, function, wanted.split, wanted.count, wanted.seed)
    if not isinstance(made, Iterable) or isinstance(made, str | bytes | Mapping):
        raise UsageError(f"{name} are {str(made)[:80]!r}; expected a list or a generator of problems, or of dicts")
    rows = iter(made)
    with blamed(name):
        for number, row in enumerate(islice(rows, wanted.count or MOST_ROWS), 1):
            yield f"{name}, number {number}", _row(row, f"{name}, number {number}")
        if wanted.count is None and next(rows, None) is not None:
            raise UsageError(f"{name} have no end: after {MOST_ROWS:,} there are more; say how many are wanted")


def _row(row: object, where: str) -> Mapping[str, Any]:
    if isinstance(row, Mapping):
        return {name: value.tolist() if getattr(value, "ndim", 0) else value for name, value in row.items()}
    if is_dataclass(row) and not isinstance(row, type):
        return asdict(row)
    raise UsageError(f"{where}: expected a problem, or a dict with question and answer, found {row!r:.80}")
