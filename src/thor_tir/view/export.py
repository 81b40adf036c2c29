"""One HTML file that shows runs without a server: the page, its data, and a bounded number of trajectories.

It may be sent to anybody: its Content-Security-Policy lets no request out and no script run but its own.
"""

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from random import Random
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.storage.journal import JsonObject, write_atomically
from thor_tir.view import DEFAULT_MOST
from thor_tir.view.assets import KATEX, asset, bundle
from thor_tir.view.curves import curves
from thor_tir.view.detail import detail
from thor_tir.view.entries import RowKind
from thor_tir.view.outcomes import outcomes
from thor_tir.view.run import ViewedRun, open_runs, state_of
from thor_tir.view.selection import Chosen, Found, facets, listed

MAX_BYTES = 6_000_000
"""Bytes of trajectories in one file, of all runs together."""
MAX_TEXT = 8_000
"""Characters of one text of a trajectory; of a longer one its two ends stand in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """The file that was written."""

    path: Path
    """Place of the file."""
    shown: int
    """Trajectories in it."""
    total: int
    """Trajectories of the runs."""


def export(runs: Sequence[ViewedRun], path: Path, *, most: int) -> Exported:
    """Write the page with at most `most` trajectories of each run, all or nothing."""
    if path.suffix not in (".html", ".htm"):
        raise UsageError(f"--export writes an HTML file, found the name {path}")
    for run in runs:
        run.refresh(0)
        while run.num_unread:
            run.refresh(5)
    room = MAX_BYTES
    shown: list[JsonObject] = []
    total = 0
    for left, run in zip(range(len(runs), 0, -1), runs, strict=True):
        data, size = _run(run, most, room // left)
        room -= size
        total += data["total"]
        shown.append(data)
    states = [
        {**state_of(run), "folder": run.name, "shown": len(data["rows"]), "total": data["total"]}
        for run, data in zip(runs, shown, strict=True)
    ]
    write_atomically(path, page({"runs": states, "curves": curves(runs), "data": shown}))
    return Exported(path=path, shown=sum(len(data["rows"]) for data in shown), total=total)


def leave_page(folder: Path) -> Path:
    """Write `report.html` into the folder of a run that has ended, and return its path."""
    path = folder / "report.html"
    export(open_runs([folder]), path, most=DEFAULT_MOST)
    return path


def page(data: Any) -> str:
    """The page around its data."""
    style, katex, modules = (text or "" for text in (asset("style.css"), asset(KATEX), bundle()))
    allowed = f"style-src {_digest(style)}; script-src {_digest(katex)} {_digest(modules)}"
    policy = f"default-src 'none'; {allowed}; base-uri 'none'; form-action 'none'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>THOR view</title>\n<style>{style}</style>\n</head>\n<body>\n"
        "<noscript>This page needs JavaScript.</noscript>\n"
        f'<script type="application/json" id="thor-data">{_json_block(data)}</script>\n'
        f'<script>{katex}</script>\n<script type="module">{modules}</script>\n</body>\n</html>\n'
    )


def _run(run: ViewedRun, most: int, max_bytes: int) -> tuple[JsonObject, int]:
    """Everything of one run, and the bytes that its trajectories take."""
    with run.lock:
        rows = [pair for pair in run.rows() if pair[1].kind is not RowKind.REPAIR]
        chosen: list[Found] = []
        details: JsonObject = {}
        size = 0
        for file, entry in _spread(rows):
            if len(chosen) == most:
                break
            try:
                found = _shortened(detail(run, file.name, entry.key))
            except UsageError:
                continue  # a damaged row is counted where the run is read
            size += len(json.dumps(found))
            if size > max_bytes:
                break
            details[f"{file.name} {entry.key}"] = found
            chosen.append((file, entry))
        order = {id(pair[1]): place for place, pair in enumerate(rows)}
        chosen.sort(key=lambda pair: order[id(pair[1])])
        page = listed(run, Chosen(rows=chosen, total=len(chosen), round=None, unsearched=0))
        data = {"rows": page, "details": details, "total": len(rows), "outcomes": outcomes(run)}
        return data | {"orders": facets(run, "")["orders"]}, size


def _spread(rows: Sequence[Found]) -> Iterator[Found]:
    """The rows in an order whose beginning holds something of everything, failed calls of each round among them."""
    groups: dict[tuple[str, str, bool, int | None], list[Found]] = defaultdict(list)
    for file, entry in rows:
        groups[file.name, entry.outcome, bool(entry.failures), entry.round].append((file, entry))
    # Newest rounds first, and within a group by lot: a draw of it says what all of it is like.
    ordered = sorted(groups.items(), key=lambda group: (-(group[0][3] or 0), group[0][:3]))
    drawn = [Random(str(name)).sample(group, len(group)) for name, group in ordered]
    return (pair for turn in zip_longest(*drawn) for pair in turn if pair is not None)


def _shortened(value: Any) -> Any:
    """The same value with both ends of each long text."""
    if isinstance(value, str):
        half = MAX_TEXT // 2
        lost = len(value) - MAX_TEXT
        return value if lost <= 0 else f"{value[:half]}\n[… {lost:,} characters left out …]\n{value[-half:]}"
    if isinstance(value, list):
        return [_shortened(each) for each in value]
    return {name: _shortened(each) for name, each in value.items()} if isinstance(value, dict) else value


def _json_block(value: Any) -> str:
    """JSON in ASCII within which nothing can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
