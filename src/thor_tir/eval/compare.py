"""Two evaluations on the same problems: differences with intervals, McNemar's test, the problems that flipped."""

from collections.abc import Mapping, Sequence
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder, Evaluation
from thor_tir.eval.metrics import as_json, interval_of
from thor_tir.eval.results import Comparison, Estimate, SetComparison
from thor_tir.eval.statistics import average_of_sets, bootstrap_difference, mcnemar
from thor_tir.problems.benchmarks import ProblemSet

SOLVED = 0.5
"""A problem is solved by a run where more than this share of its scored attempts is right."""


def compare(first: EvalFolder, second: EvalFolder, *, seed: int = 0) -> Comparison:
    """First minus second, as JSON values: an entry for each set that both have, and their mean.

    Raises UsageError where they have no set in common, were asked different problems of one, or one is unfinished.
    """
    ours, theirs = ({asked.name: asked for asked in folder.sets} for folder in (first, second))
    shared = [name for name in ours if name in theirs]
    if not shared:
        raise UsageError(f"no set in common: {', '.join(ours)} against {', '.join(theirs)}")
    for name in shared:
        check_same(ours[name], theirs[name])
        for folder in (first, second):
            if missing := folder.num_missing(ours[name]):
                raise UsageError(f"{folder.path} lacks {missing} attempts at {name}; finish it first")
    entries = [_entry(ours[n], first.chosen(ours[n]), second.chosen(theirs[n]), seed) for n in shared]
    compared = [interval_of(each) for entry in entries if (each := entry["difference"]) is not None]
    mean = average_of_sets(compared) if compared else None
    return {
        "first": _about(first),
        "second": _about(second),
        "sets": entries,
        "average": None if mean is None else as_json(mean),
    }


def comparison_rows(found: Comparison) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of a comparison, for a terminal."""
    head = ("set", "n", "lost", "first %", "second %", "difference", "only first", "only second", "McNemar p")
    rows: list[tuple[str, ...]] = [
        (
            entry["title"],
            str(entry["n"]),
            str(entry["asked"] - entry["n"]),
            _percent(entry["first"]),
            _percent(entry["second"]),
            "-" if entry["difference"] is None else points(entry["difference"]),
            str(entry["mcnemar"]["only_first"]),
            str(entry["mcnemar"]["only_second"]),
            f"{entry['mcnemar']['p']:.3g}",
        )
        for entry in found["sets"]
    ]
    if found["average"] is not None and len(rows) > 1:
        rows.append(("average", "", "", "", "", points(found["average"]), "", "", ""))
    return head, rows


def _percent(accuracy: float | None) -> str:
    return "-" if accuracy is None else f"{100 * accuracy:.1f}"


def points(entry: Estimate) -> str:
    """`+1.2 (-0.3 to +2.7)`, in points of percent."""
    low, high = entry["ci95"]
    return f"{100 * entry['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def check_same(ours: ProblemSet, theirs: ProblemSet) -> None:
    """Refuse runs that were not asked the same questions with the same answers, in whatever order."""
    left, right = ({p.id: (p.question, p.answer) for p in each.problems} for each in (ours, theirs))
    if left != right:
        apart = sorted(id for id in left.keys() | right.keys() if left.get(id) != right.get(id))
        raise UsageError(
            f"the runs were asked different problems of {ours.name}: {len(apart)} differ, for example {apart[0]}; "
            "compare runs of the same data and --limit"
        )


def _entry(asked: ProblemSet, ours: Evaluation, theirs: Evaluation, seed: int) -> SetComparison:
    left, right = _rates(asked, ours), _rates(asked, theirs)
    ids = [p.id for p in asked.problems if p.id in left and p.id in right]
    first, second = [left[id] for id in ids], [right[id] for id in ids]
    difference = bootstrap_difference(first, second, seed=seed) if ids else None
    test = mcnemar([rate > SOLVED for rate in first], [rate > SOLVED for rate in second])
    return {
        "name": asked.name,
        "title": asked.title,
        "asked": len(asked.problems),
        "n": len(ids),
        "first": sum(first) / len(ids) if ids else None,
        "second": sum(second) / len(ids) if ids else None,
        "difference": None if difference is None else as_json(difference),
        "mcnemar": {"only_first": test.only_first, "only_second": test.only_second, "p": test.p_value},
        "flipped": {
            "only_first": _flipped(ids, first, second),
            "only_second": _flipped(ids, second, first),
        },
    }


def _rates(asked: ProblemSet, evaluation: Evaluation) -> dict[str, float]:
    """Accuracy by problem id, without the problems of which no attempt was scored."""
    pairs = zip(asked.problems, evaluation.accuracy_P, strict=True)
    return {problem.id: rate for problem, rate in pairs if rate == rate}


def _flipped(ids: Sequence[str], winner: Sequence[float], loser: Sequence[float]) -> list[str]:
    return [id for id, a, b in zip(ids, winner, loser, strict=True) if a > SOLVED >= b]


def _about(folder: EvalFolder) -> Mapping[str, Any]:
    known = folder.manifest
    return {
        "folder": str(folder.path),
        **{key: known.get(key) for key in ("model", "name", "samples", "select", "seed", "observation", "calls")},
    }
