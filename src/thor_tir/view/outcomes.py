"""The results of a run, as its files hold them, and what its journals say while there are none yet."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from thor_tir.eval.metrics import remarks
from thor_tir.eval.results import SetResult
from thor_tir.eval.tables import lost_cell
from thor_tir.storage.journal import JsonObject
from thor_tir.verdict import Outcome
from thor_tir.view.entries import Entry, RowKind
from thor_tir.view.run import ViewedRun, folders_of, objects, read_json

RESULT_FIELDS = (
    "avg",
    "n",
    "n_scored",
    "attempts",
    "code_ratio",
    "calls",
    "call_success",
    "repairs",
    "correction",
    "tokens_kept",
    "tokens_discarded",
    "seconds",
    "pass_at",
    "maj_at",
    "ends",
    "by_source",
    "failure_classes",
    "notes",
)
"""Fields of the results on one set (eval/results.py) that the page shows."""
SUMMARY_FIELDS = ("paired", "chi_squared", "failure_classes", "seconds", "machine", "seed", "versions", "config")
"""Fields of summary.json that the page shows."""


def outcomes(run: ViewedRun) -> JsonObject:
    """Results, comparisons, funnel, failures and cost of a run, as far as they are there."""
    summary = read_json(run.folder / "summary.json")
    folders = folders_of(run.folder)
    with run.lock:
        journals = [(name, list(entries)) for name, entries in _journals(run)]
        lost = {file.name: file.lost for file in run.files if file.lost}
    return {
        "results": [row for folder in _result_folders(run.folder, folders) for row in _rows(folder)],
        "summary": {name: summary[name] for name in SUMMARY_FIELDS if name in summary},
        "funnels": [
            _funnel(folder / "funnel.json", run.folder) for folder in folders if (folder / "funnel.json").is_file()
        ],
        "stages": [_stage(name, entries, lost.get(name, 0)) for name, entries in journals],
        "failures": [column for name, entries in journals for column in _failures(name, entries)],
    }


def _result_folders(root: Path, folders: Iterable[Path]) -> list[Path]:
    """The folders whose results count: a whole run's own, which has all rows, else each evaluation's."""
    if "runs" in read_json(root / "results.json"):
        return [root]
    return [folder for folder in folders if (folder / "results.json").is_file()]


def _rows(folder: Path) -> list[JsonObject]:
    found = read_json(folder / "results.json")
    runs = found.get("runs", [found])
    return [
        {"name": str(each.get("name", "")), "model": str(each.get("model", "")), "set": str(entry.get("title", ""))}
        | {name: entry[name] for name in RESULT_FIELDS if name in entry}
        | _losses(entry)
        for each in objects(runs)
        for entry in objects(each.get("sets"))
    ]


def _losses(entry: Mapping[str, Any]) -> JsonObject:
    """Attempts that measure nothing, and the sentences that belong beside the score."""
    try:
        result = cast(SetResult, entry)
        return {"lost": lost_cell(result["lost"]), "remarks": remarks(result)}
    except (KeyError, TypeError, AttributeError):
        return {"lost": "not recorded", "remarks": []}


def _funnel(path: Path, root: Path) -> JsonObject:
    stages = objects(read_json(path).get("stages"))
    return {"name": str(path.parent.relative_to(root)), "stages": stages}


def _journals(run: ViewedRun) -> Iterable[tuple[str, Iterable[Entry]]]:
    """The rows of each journal that holds no copies, shards together."""
    names = dict.fromkeys(file.name for file in run.files if file.entries and not file.is_copy)
    return ((name, [entry for _, entry in run.rows(name)]) for name in names)


def _stage(name: str, entries: list[Entry], lost: int) -> JsonObject:
    made = [entry for entry in entries if entry.kind is RowKind.TRAJECTORY]
    counts = Counter(entry.outcome for entry in made)
    scored = counts[Outcome.CORRECT] + counts[Outcome.WRONG]
    calls, failed = sum(entry.calls for entry in made), sum(len(entry.failures) for entry in made)
    repairs = [entry for entry in entries if entry.kind is RowKind.REPAIR]
    return {
        "name": name,
        "trajectories": len(made),
        "right": counts[Outcome.CORRECT] / scored if scored else None,
        "unscored": counts[Outcome.UNSCORED],
        "calls": calls,
        "succeeded": (calls - failed) / calls if calls else None,
        "tokens": sum(entry.tokens for entry in made) / len(made) if made else None,
        "corrected": sum(bool(entry.discarded) for entry in made),
        "repairs": len(repairs),
        "repairs_ran": sum(entry.outcome == "ran" for entry in repairs) / len(repairs) if repairs else None,
        "lost": lost,
    }


def _failures(name: str, entries: list[Entry]) -> list[JsonObject]:
    """Failed calls by class: of the first and the last round of training, of anything else as a whole."""
    made = [entry for entry in entries if entry.kind is RowKind.TRAJECTORY]
    rounds = sorted({entry.round for entry in made if entry.round is not None})
    parts: list[tuple[str, list[Entry]]] = [(name, made)]
    if len(rounds) > 1:
        parts = [(f"{name}, round {n}", [e for e in made if e.round == n]) for n in (rounds[0], rounds[-1])]
    found = []
    for title, part in parts:
        classes = Counter(failure for entry in part for failure in entry.failures)
        if calls := sum(entry.calls for entry in part):
            number = part[0].round if len(rounds) > 1 else None
            found.append({"name": title, "file": name, "round": number, "calls": calls, "classes": classes})
    return found
