"""A run folder as it stands now: every journal below it, indexed as it grows, whichever command writes it.

Files are distinguished by the rows they hold, not by their names. Nothing is written into the folder and no lock is
taken, so that a run that goes on is not disturbed.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.trajectory_json import trajectory_from_json, without_tokens
from thor_tir.tirgen.dataset import from_row
from thor_tir.trajectory import Trajectory
from thor_tir.view.entries import (
    Entry,
    RowKind,
    entry_of,
    json_object,
    kind_of,
    numbers_by_id,
    parts_of,
)
from thor_tir.view.growing_file import GrowingFile

SKIPPED = frozenset({"checkpoints", "model", "tensorboard", "nonfinite", "wandb"})
"""Folders in which no journal lies."""
MAX_DEPTH = 5
"""Folders below the run's own that are looked into."""
MAX_FILES = 2000
"""Journals of one run that are shown."""
_OF_TRAJECTORIES = (b'"trajectory"', b'"segments"')
"""Fields that rows of trajectories and repairs have."""
LOOK_EVERY_S = 0.5
"""The folder is looked at no more often than that."""


@dataclass(slots=True, kw_only=True)
class ViewedFile:
    """One journal and what is known of its rows."""

    growing: GrowingFile
    """File and how far it was read."""
    name: str
    """Path within the run without its ending; shards and processes of one journal share it."""
    entries: dict[str, Entry] = field(default_factory=dict)
    """Trajectories and repairs by key."""
    metrics: dict[str, JsonObject] = field(default_factory=dict)
    """Rows of numbers by key."""
    trained_in: dict[str, int] = field(default_factory=dict)
    """Optimiser step by the id of a row that it was made of."""
    advantages: dict[str, float] = field(default_factory=dict)
    """Advantage by the id of a row, where a function of the user's own shaped it."""
    earned: dict[str, float] = field(default_factory=dict)
    """Reward by repair, where functions of the user's own gave it."""
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    """The single rewards of such a repair, by name."""
    scores: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Place and length of the line with the trainer's log-probabilities, by row."""
    lost: int = 0
    """Units that faults of the machine ended."""
    damaged: int = 0
    """Lines that could not be read."""
    changes: int = 0
    """A number that grows with every entry that is read."""
    _groups: tuple[int, Mapping[object, list[Entry]]] = (-1, {})
    """Entries by group, and the number of changes when they were grouped."""

    def together(self, group: object) -> list[Entry]:
        """The entries of a group (see `group_of`), oldest first."""
        if self._groups[0] != self.changes:
            groups: dict[object, list[Entry]] = defaultdict(list)
            for entry in self.entries.values():
                groups[group_of(entry)].append(entry)
            self._groups = self.changes, groups
        return sorted(self._groups[1].get(group, ()), key=lambda entry: entry.place)

    @property
    def path(self) -> Path:
        """Place of the file."""
        return self.growing.path

    @property
    def is_copy(self) -> bool:
        """True where its trajectories stand in another file of the run too."""
        return any(entry.kind is RowKind.COPY for entry in self.entries.values())

    def clear(self) -> None:
        """Forget all rows."""
        for known in (
            self.entries,
            self.metrics,
            self.trained_in,
            self.advantages,
            self.earned,
            self.parts,
            self.scores,
        ):
            known.clear()
        self.lost = self.damaged = 0
        self.changes += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedProblem:
    """The question of a trajectory, as far as the run says it."""

    question: str
    """Text of the question."""
    answer: str
    """Reference answer."""


class ViewedRun:
    """One folder that is shown."""

    def __init__(self, folder: Path, name: str) -> None:
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}; give the folder of a run, such as runs/quickstart")
        self.folder = folder
        self.name = name
        self.problems: dict[str, AskedProblem] = {}
        """Questions by problem id."""
        self.lock = RLock()
        """Held by whoever reads or refreshes the index."""
        self._files: dict[Path, ViewedFile] = {}
        self._looked = -LOOK_EVERY_S
        self._changes = 0
        self._wanted = b""

    @property
    def files(self) -> list[ViewedFile]:
        """Journals that hold something."""
        return list(self._files.values())

    @property
    def version(self) -> int:
        """A number that grows with everything that is read."""
        return self._changes

    @property
    def num_unread(self) -> int:
        """Bytes that are still to be indexed."""
        return sum(file.growing.num_unread for file in self._files.values())

    def refresh(self, budget_s: float, *, holding: str = "") -> None:
        """Read what is new, then what is old as far as the time allows.

        `holding` passes over trajectories and repairs in whose line a text does not stand, for whoever wants one alone.
        """
        self._wanted = holding.encode()
        with self.lock:
            until = monotonic() + budget_s
            if monotonic() - self._looked >= LOOK_EVERY_S:
                self._looked = monotonic()
                self._look()
            while self.num_unread and monotonic() < until:
                # Small files first: questions and metrics are known before the many trajectories are.
                file = min(
                    (f for f in self._files.values() if f.growing.num_unread), key=lambda f: f.growing.num_unread
                )
                for place, line in file.growing.earlier():
                    self._take(file, place, line)

    def rows(self, name: str = "") -> Iterator[tuple[ViewedFile, Entry]]:
        """Trajectories and repairs of the journals of one name, or of all but copies; newest first in each file."""
        for file in self._files.values():
            if file.name == name or (not name and not file.is_copy):
                yield from ((file, e) for e in sorted(file.entries.values(), key=lambda e: -e.place))

    def entry(self, name: str, key: str) -> tuple[ViewedFile, Entry] | None:
        """The row of a journal; None where there is none."""
        found = ((f, f.entries[key]) for f in self._files.values() if f.name == name and key in f.entries)
        return next(found, None)

    def row(self, file: ViewedFile, entry: Entry) -> JsonObject:
        """The whole row of an entry. Raises UsageError where the file was changed since."""
        row = json_object(file.growing.read(entry.place, entry.length))
        if row is None:
            raise UsageError(f"{file.path} was changed while it was read; load the page again")
        return row

    def trajectory(self, file: ViewedFile, entry: Entry) -> tuple[JsonObject, Trajectory]:
        """Row and trajectory of an entry. Raises UsageError where it is damaged."""
        row = self.row(file, entry)
        try:
            whole = trajectory_from_json(row["trajectory"]) if "trajectory" in row else from_row(row).trajectory
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{file.path}: the row {entry.key!r} is damaged: {error}") from error
        return row, whole

    def json_above(self, file: ViewedFile, name: str) -> Mapping[str, Any]:
        """The nearest JSON file of a name in the folders from a journal up to the run's own; empty where none is."""
        for folder in file.path.parents:
            found = read_json(folder / name)
            if found or folder == self.folder:
                return found
        return {}

    def _look(self) -> None:
        for path in _journals(self.folder):
            if path not in self._files and len(self._files) < MAX_FILES:
                self._files[path] = ViewedFile(growing=GrowingFile(path), name=_name_of(path, self.folder))
        for file in self._files.values():
            if file.growing.has_begun_anew():
                file.clear()
                self._changes += 1
            for place, line in file.growing.appended():
                self._take(file, place, line)

    def _take(self, file: ViewedFile, place: int, line: bytes) -> None:
        if self._wanted not in line and any(name in line for name in _OF_TRAJECTORIES):
            return
        self._changes += 1
        row = json_object(without_tokens(line))
        if row is None:
            file.damaged += 1
            return
        kind = kind_of(row)
        problem = row if kind is RowKind.PROBLEM else row.get("problem")
        if isinstance(problem, Mapping) and "id" in problem:
            asked = AskedProblem(question=str(problem.get("question", "")), answer=str(problem.get("answer", "")))
            self.problems.setdefault(str(problem["id"]), asked)
        match kind:
            case RowKind.TRAJECTORY | RowKind.REPAIR | RowKind.COPY:
                entry = entry_of(row, kind, place=place, length=len(line))
                if entry is None:
                    file.damaged += 1
                else:
                    file.entries[entry.key] = entry
                    file.changes += 1
            case RowKind.METRICS:
                file.metrics[str(row.get("key", row["step"]))] = row
            case RowKind.UPDATE:
                file.trained_in |= {str(id): int(row["key"]) for id in row["rows"] if str(row.get("key")).isdecimal()}
                file.advantages |= numbers_by_id(row["rows"], row.get("advantages"))
            case RowKind.EARNED:
                earned = {str(id): each.get("total") for id, each in row["earned"].items() if isinstance(each, Mapping)}
                file.earned |= numbers_by_id(list(earned), list(earned.values()))
                file.parts |= {str(id): parts_of(each) for id, each in row["earned"].items()}
            case RowKind.SCORES:
                file.scores[str(row["key"])] = (place, len(line))
            case RowKind.LOST:
                file.lost += 1


def group_of(entry: Entry) -> object:
    """The group of an entry: attempts at a problem in a round, or the repairs of one failed call."""
    if entry.kind is RowKind.REPAIR:
        return repairs_of(entry.parent, entry.call)
    return entry.kind, entry.problem_id, entry.round


def repairs_of(key: str, call: int) -> object:
    """The group of the repairs of a trajectory's failed call."""
    return key, call


def open_runs(folders: list[Path]) -> list[ViewedRun]:
    """The runs of a command line, each under a name of its own. Raises UsageError for what is no folder."""
    names: dict[str, int] = defaultdict(int)
    runs = []
    for folder in folders:
        name = folder.resolve().name
        names[name] += 1
        runs.append(ViewedRun(folder.resolve(), name if names[name] == 1 else f"{name} ({names[name]})"))
    return runs


def state_of(run: ViewedRun) -> JsonObject:
    """Numbers of rows of a run that were read, are unread, or were lost."""
    with run.lock:
        return {
            "name": run.name,
            "folder": str(run.folder),
            "version": run.version,
            "unread": run.num_unread,
            "rows": sum(len(file.entries) for file in run.files if not file.is_copy),
            "lost": sum(file.lost for file in run.files),
            "damaged": sum(file.damaged for file in run.files),
        }


def read_json(path: Path) -> JsonObject:
    """The object in a file, None for each number that is not finite; empty where there is none, or a damaged one."""
    try:
        return json_object(path.read_bytes()) or {}
    except OSError:
        return {}


def folders_of(root: Path) -> list[Path]:
    """The folders of a run that may hold something to be shown, its own first."""
    found = []
    for folder, folders, _ in os.walk(root):
        depth = len(Path(folder).relative_to(root).parts)
        folders[:] = sorted(f for f in folders if depth < MAX_DEPTH and f not in SKIPPED and not f.startswith("."))
        found.append(Path(folder))
    return found


def objects(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects of a list; empty for anything else."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _journals(root: Path) -> Iterator[Path]:
    return (path for folder in folders_of(root) for path in sorted(folder.glob("*.jsonl")) if path.name[0] != ".")


def _name_of(path: Path, root: Path) -> str:
    """`eval/aime24.2-of-4.jsonl` and `rl/rollouts.rank1.jsonl` belong to `eval/aime24` and `rl/rollouts`."""
    stem, _, part = path.name.removesuffix(".jsonl").rpartition(".")
    is_part = bool(stem) and (part.removeprefix("rank").isdecimal() or part.replace("-of-", "").isdecimal())
    return str(path.relative_to(root).with_name(stem if is_part else path.name.removesuffix(".jsonl")))
