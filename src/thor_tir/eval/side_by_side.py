"""Several evaluations of the same problems side by side: accuracy, calls and cost, each against the first one.

With self-correction under several scopes these are the columns of the paper's Tables 5, 6 and 7.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import TypedDict

from thor_tir.errors import UsageError
from thor_tir.eval.compare import check_same, points
from thor_tir.eval.folder import EvalFolder, Evaluation
from thor_tir.eval.metrics import as_json, paired
from thor_tir.eval.results import Estimate, Results, SetResult
from thor_tir.eval.statistics import bootstrap_difference
from thor_tir.eval.tables import draw_intervals, lost_cell, pipe_table, score
from thor_tir.problems.benchmarks import ProblemSet


class Differences(TypedDict):
    """An evaluation minus the first one, paired by problem; null where no problem has both."""

    accuracy: Estimate | None
    """Difference in accuracy."""
    tokens: Estimate | None
    """Difference in tokens per attempt, discarded ones included."""


class Line(TypedDict):
    """One evaluation of one set."""

    name: str
    """Name of its folder, behind the set's title where there are several."""
    result: SetResult
    """Its entry of results.json."""
    minus_first: Differences | None
    """Differences from the first evaluation; null for that one."""


Cells = tuple[str, ...]
TABLES: Mapping[str, tuple[Cells, Callable[[Line], Cells]]] = MappingProxyType(
    {
        "Accuracy, percent (paper, Table 5)": (
            ("accuracy", "minus first", "lost"),
            lambda line: (
                score(line["result"]["avg"]),
                _difference(line, "accuracy", points),
                lost_cell(line["result"]["lost"]),
            ),
        ),
        "Calls (Table 6)": (
            (
                "code ratio %",
                "failed",
                "succeeded",
                "succeeded %",
                "failed at first",
                "repaired",
                "recovered",
                "dropped",
            ),
            lambda line: (
                f"{100 * line['result']['code_ratio']:.1f}",
                str(line["result"]["calls_failed"]),
                str(line["result"]["calls_succeeded"]),
                score(line["result"]["call_success"]),
                *(str(line["result"]["correction"][key]) for key in ("failed", "repaired", "recovered", "dropped")),
            ),
        ),
        "Cost, per attempt (Table 7)": (
            (
                "tokens kept",
                "discarded",
                "tokens minus first",
                "seconds",
                "retries",
                "the same again",
                "calls discarded",
            ),
            lambda line: (
                f"{line['result']['tokens_kept']:.1f}",
                f"{line['result']['tokens_discarded']:.1f}",
                _difference(line, "tokens", _plain),
                f"{line['result']['seconds']:.2f}",
                f"{line['result']['repairs']:.3f}",
                _per_retry(line["result"]),
                str(line["result"]["correction"]["discarded_calls"]),
            ),
        ),
    }
)
"""Tables by their titles: the head behind the first column, and the cells of a line."""


def side_by_side(runs: Sequence[tuple[EvalFolder, Results]], *, seed: int = 0) -> list[Line]:
    """A line for each set of the first evaluation and each evaluation.

    Raises UsageError where one was not asked a set, was asked other problems of it, or is not finished.
    """
    first, _ = runs[0]
    for folder, _ in runs:
        if missing := sum(map(folder.num_missing, folder.sets)):
            raise UsageError(f"{folder.path} lacks {missing} attempts; finish it first")
    return [
        Line(
            name=folder.path.name if len(first.sets) == 1 else f"{asked.title}: {folder.path.name}",
            result=_entry(folder, results, asked),
            minus_first=None if folder is first else _minus(asked, first, folder, seed),
        )
        for asked in first.sets
        for folder, results in runs
    ]


def rows(lines: Sequence[Line], title: str) -> tuple[Cells, list[Cells]]:
    """Head and rows of the table of that title."""
    head, cells = TABLES[title]
    return ("", *head), [(line["name"], *cells(line)) for line in lines]


def as_markdown(lines: Sequence[Line]) -> str:
    """All tables."""
    return "\n\n".join(f"## {title}\n\n{pipe_table(*rows(lines, title))}" for title in TABLES) + "\n"


def draw(lines: Sequence[Line], path: Path) -> bool:
    """Draw the differences in accuracy; False where matplotlib is not installed."""
    pairs = [(line["name"], line["minus_first"]) for line in lines]
    found = {name: found["accuracy"] for name, found in pairs if found is not None and found["accuracy"] is not None}
    return draw_intervals(found, f"accuracy minus that of {lines[0]['name']}, points, with 95 % interval", path)


def _entry(folder: EvalFolder, results: Results, asked: ProblemSet) -> SetResult:
    entry = next((each for each in results["sets"] if each["name"] == asked.name), None)
    if entry is None:
        raise UsageError(f"{folder.path} was not asked {asked.name}; give runs of the same sets")
    return entry


def _minus(asked: ProblemSet, first: EvalFolder, other: EvalFolder, seed: int) -> Differences:
    theirs = next(each for each in other.sets if each.name == asked.name)
    check_same(asked, theirs)
    chosen = other.chosen(theirs)
    by_id = dict(zip((problem.id for problem in theirs.problems), chosen.groups, strict=True))
    ours = Evaluation(name=asked.name, groups=tuple(by_id[problem.id] for problem in asked.problems))
    base = first.chosen(asked)
    accuracy, both = paired(ours, base, seed=seed), list(zip(ours.groups, base.groups, strict=True))
    lengths = [[fmean(a.trajectory.num_model_tokens for a in group) for group in pair] for pair in both if all(pair)]
    tokens = bootstrap_difference([a for a, _ in lengths], [b for _, b in lengths], seed=seed) if lengths else None
    return {
        "accuracy": None if accuracy is None else as_json(accuracy),
        "tokens": None if tokens is None else as_json(tokens),
    }


def _difference(line: Line, key: str, cell: Callable[[Estimate], str]) -> str:
    found = line["minus_first"]
    estimate = None if found is None else found["accuracy" if key == "accuracy" else "tokens"]
    return "" if estimate is None else cell(estimate)


def _plain(entry: Estimate) -> str:
    low, high = entry["ci95"]
    return f"{entry['value']:+.1f} ({low:+.1f} to {high:+.1f})"


def _per_retry(entry: SetResult) -> str:
    found = entry["correction"]
    return f"{100 * found['repeats'] / found['retries']:.0f} %" if found["retries"] else "-"
