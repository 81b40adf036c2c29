"""The numbers of every round and optimiser step as curves, those first that docs/rl.md says to watch."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thor_tir.storage.journal import JsonObject
from thor_tir.tracking import scalars
from thor_tir.view.run import ViewedRun

MAX_POINTS = 1000
"""Points of one curve that are sent; a longer one is thinned evenly, both its ends included."""
_LEVEL = re.compile(r"levels/(\w+)/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A figure with a place of its own at the top of the page."""

    pattern: str
    """Regular expression for the name of the number, its level left out."""
    title: str
    """Title of the chart; numbers of one title share it."""
    look_for: str
    """Sign of trouble or of progress."""


WATCHED = (
    Watched(pattern="entropy", title="Entropy, nats", look_for="A fall to almost 0 early on is a collapse."),
    Watched(
        pattern="drift/(low|high|dual)_share",
        title="Clip shares",
        look_for="Several percent: fewer updates a round, or a lower rate.",
    ),
    Watched(pattern="drift/approx_kl", title="approx_kl", look_for="Distance from the policy that sampled."),
    Watched(
        pattern="mismatch/mean_log_ratio",
        title="Mismatch of engine and trainer",
        look_for="More than a few hundredths: other kernels or precision.",
    ),
    Watched(pattern="pass_rate", title="Pass rate", look_for="Share of groups with a success among them."),
    Watched(pattern="groups_kept", title="Groups kept", look_for="Few: problems too easy or too hard."),
    Watched(pattern="reward", title="Reward", look_for="Rises towards the pass rate."),
    Watched(pattern="validation", title="Validation accuracy", look_for="Problems that training never sees."),
    Watched(pattern="call_success", title="Calls that succeed", look_for="Share of all calls of trajectories."),
    Watched(pattern="tokens", title="Tokens a sample", look_for="At the limit answers are cut off."),
    Watched(pattern="calls", title="Calls a sample", look_for="To 0: the model gives the tool up."),
    Watched(pattern="dropped_share", title="Share that gave no row", look_for="Causes are under `dropped`."),
    Watched(pattern="loss", title="Loss", look_for=""),
    Watched(pattern="grad_norm", title="Gradient norm", look_for="Largest of a round, before clipping."),
)
"""In the order of the page; every other number follows by its name."""


def curves(runs: Sequence[ViewedRun]) -> list[JsonObject]:
    """Groups of charts: of training by rounds, then of each other journal of numbers."""
    groups: dict[str, dict[str, list[JsonObject]]] = defaultdict(lambda: defaultdict(list))
    for number, run in enumerate(runs):
        with run.lock:
            files = [(file.name, sorted(file.metrics.values(), key=lambda row: row["step"])) for file in run.files]
        for name, rows in files:
            lines = _lines(rows)
            group = "rounds" if any(_LEVEL.match(line) for line in lines) else name
            known = {_LEVEL.sub("", line) for line in lines if _LEVEL.match(line)}
            for line, points in lines.items():
                if line in known:
                    continue  # a figure of the whole round that stands under its level too
                level = _LEVEL.match(line)
                plain = _LEVEL.sub("", line)
                label = f"{level[1]} " if level else ""
                watched = _watched(plain)
                title = watched.title if watched else plain.replace("_", " ")
                if watched and watched.pattern != plain:
                    label += plain.rpartition("/")[2].replace("_", " ")
                groups[group][title].append({"run": number, "label": label.strip(), "points": points})
    return [
        {
            "name": name,
            "charts": [{"title": t, "look_for": _look_for(t), "series": charts[t]} for t in sorted(charts, key=_order)],
        }
        for name, charts in sorted(groups.items(), key=lambda group: (group[0] != "rounds", group[0]))
    ]


def _lines(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = defaultdict(list)
    for row in _thinned(rows):
        for name, value in scalars(row).items():
            if name != "step":
                found[name].append([row["step"], value])
    return found


def _thinned(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    if len(rows) <= MAX_POINTS:
        return rows
    return [rows[round(place * (len(rows) - 1) / (MAX_POINTS - 1))] for place in range(MAX_POINTS)]


def _watched(name: str) -> Watched | None:
    return next((watched for watched in WATCHED if re.fullmatch(watched.pattern, name)), None)


def _order(title: str) -> tuple[int, str]:
    places = [place for place, watched in enumerate(WATCHED) if watched.title == title]
    return (places[0] if places else len(WATCHED), title)


def _look_for(title: str) -> str:
    return next((watched.look_for for watched in WATCHED if watched.title == title), "")
