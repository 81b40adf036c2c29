"""Raw trajectories in one file or many, read row by row: they need not fit into memory.

A row is found again by its place, so that a second reading takes only the rows that were chosen. The same attempt in
two files is one attempt if both say the same, and a mistake of whoever gives the files otherwise. Each row names the
record of the run that made it, which stands beside it in `provenance.json`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.dialect.dialect import Thinking
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.errors import UsageError
from thor_tir.problem import Problem, digest
from thor_tir.rollout.sample_many import DROPPED, Attempt, attempt_from_json
from thor_tir.storage.journal import JsonObject, write_atomically, writing_atomically
from thor_tir.verdict import Outcome

RAW, NO_TOOLS, PROVENANCE = "raw.jsonl", "no_tools.jsonl", "provenance.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPlace:
    """Place of a row in a file."""

    file: Path
    """File that holds the row."""
    offset: int
    """Place of its first character, in bytes."""
    line: int
    """Counted from 1, for people."""

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"

    def text(self) -> str:
        """The whole line, as it stands there."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.readline().decode("utf-8")


def raw_files(paths: Sequence[Path], name: str = RAW) -> list[Path]:
    """The files of one name that folders hold, all shards of each; a file stands for itself and its folder's others.

    Raises UsageError.
    """
    found: list[Path] = []
    for path in paths:
        files = _parts(path, RAW) if path.is_dir() else [path]
        if not files or not files[0].is_file():
            missing = path / RAW if path.is_dir() else path
            raise UsageError(f"no raw trajectories at {missing}; `thor tirgen generate` writes them")
        found += files if name == RAW else _parts(files[0].parent, name)
    return list(dict.fromkeys(found))


def _parts(folder: Path, name: str) -> list[Path]:
    """The file of a whole run, and those of shards (see `storage/journal.py`)."""
    stem, _, kind = name.rpartition(".")
    whole = [folder / name] if (folder / name).is_file() else []
    return whole + sorted(folder.glob(f"{stem}.*-of-*.{kind}"))


def rows(files: Sequence[Path]) -> Iterator[tuple[RowPlace, JsonObject]]:
    """Each row once, in the order of the files.

    A torn last line, which a kill may leave, is left alone. An attempt that a machine fault ended in one file gives way
    to the one that another file made. Raises UsageError for a damaged line, and for two rows of one key that differ.
    """
    seen: dict[str, RowPlace] = {}
    lost: dict[str, tuple[RowPlace, JsonObject]] = {}
    for file in files:
        for place, row in _lines(file):
            key = str(row["key"])
            if DROPPED in row:
                lost.setdefault(key, (place, row))
            elif key not in seen:
                seen[key] = place
                yield place, row
            elif read_at(seen[key]) != row:
                raise UsageError(
                    f"attempt {key!r} stands in two ways: {seen[key]} and {place}; "
                    "files can be united where each attempt was made once"
                )
    yield from (found for key, found in lost.items() if key not in seen)


def read_at(place: RowPlace) -> JsonObject:
    """The row at a place that `rows` named."""
    return _parsed(place.text(), place)


def attempt_of(row: Mapping[str, Any], place: RowPlace) -> Attempt:
    """The graded trajectory of a raw row. Raises UsageError naming the line."""
    try:
        attempt = attempt_from_json(dict(row), Problem(**row["problem"]))
        if attempt.trajectory.id != row["key"]:
            raise ValueError(f"the trajectory is {attempt.trajectory.id!r} and the key {row['key']!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{place} is no raw trajectory of TIRGen: {error}") from error
    return attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToolsVerdicts:
    """Verdicts on samples without tools."""

    by_problem: Mapping[str, Sequence[bool]]
    """For each question by its id, whether its graded samples were right."""
    unscored: int
    """Number of samples that the grader could not judge."""
    lost: Mapping[str, int]
    """Number of samples that faults of the machine ended, by the fault."""

    @property
    def counts(self) -> JsonObject:
        """The counts for the filter's account."""
        every = [is_right for found in self.by_problem.values() for is_right in found]
        return {"samples": len(every), "right": sum(every), "unscored": self.unscored, "lost": dict(self.lost)}


def no_tools_verdicts(files: Sequence[Path]) -> NoToolsVerdicts:
    """The verdicts on the samples without tools that some files hold."""
    found: dict[str, list[bool]] = {}
    lost, unscored = Counter[str](), 0
    for place, row in rows(files):
        if DROPPED in row:
            lost[str(row[DROPPED])] += 1
            continue
        if row.get("outcome") == Outcome.UNSCORED:
            unscored += 1
            continue
        if not isinstance(row.get("problem_id"), str) or "outcome" not in row:
            raise UsageError(f"{place} is no sample without tools of TIRGen: problem_id or outcome is missing")
        found.setdefault(row["problem_id"], []).append(row["outcome"] == Outcome.CORRECT)
    return NoToolsVerdicts(by_problem=found, unscored=unscored, lost=lost)


def _lines(file: Path) -> Iterator[tuple[RowPlace, JsonObject]]:
    with file.open("rb") as blob:
        offset = 0
        for number, line in enumerate(blob, 1):
            if not line.endswith(b"\n"):
                return
            place = RowPlace(file=file, offset=offset, line=number)
            offset += len(line)
            yield place, _parsed(line, place)


def _parsed(line: bytes | str, place: RowPlace) -> JsonObject:
    try:
        row = json.loads(line)
        if not isinstance(row, dict) or "key" not in row:
            raise ValueError("expected an object with a key")
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place} is damaged ({error}); delete that line or the file") from error
    row.pop("commits", None)  # how a journal marks the end of a chunk
    return row


def prompt_digest(style: PromptStyle) -> str:
    """A name for the exact text of a prompt."""
    return digest(json.dumps([style.system, style.user]))


def sign(path: Path, record: Mapping[str, Any]) -> str:
    """Write a record into the file of provenances, unless it is there already, and return its name."""
    text = json.dumps(record, sort_keys=True, default=str)
    name = digest(text)
    known = read_provenance([path])
    if name not in known:
        write_provenance(path, {**known, name: json.loads(text)})
    return name


def write_provenance(path: Path, records: Mapping[str, Any]) -> None:
    """All records under their names."""
    write_atomically(path, json.dumps(dict(sorted(records.items())), indent=1) + "\n")


def read_provenance(files: Iterable[Path]) -> JsonObject:
    """The records of some files, those that are missing left out. Raises UsageError for a damaged one."""
    records: JsonObject = {}
    for file in files:
        if not file.exists():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            records.update({str(name): dict(record) for name, record in found.items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{file} is no file of provenances: {error}") from error
    return records


def thinking_in(record: Mapping[str, Any]) -> Thinking:
    """The form of think tags that a record names; none where it names none."""
    try:
        return Thinking(record.get("thinking", Thinking.NONE))
    except ValueError:
        return Thinking.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitedRaw:
    """Numbers of rows that the united files hold."""

    attempts: int
    """Number of attempts."""
    lost: int
    """Number of these that a machine fault ended and no folder made."""
    no_tools: int
    """Number of samples without tools."""


def unite_raw(sources: Sequence[Path], folder: Path) -> UnitedRaw:
    """Write `raw.jsonl`, `no_tools.jsonl` and `provenance.json` of all sources into one folder.

    Lines are copied byte for byte in the order of their keys, so that the order of the sources changes nothing. The
    same attempt in two sources is one; raises UsageError, naming both lines, where their rows differ.
    """
    files = raw_files(sources)
    if any(file.parent.resolve() == folder.resolve() for file in files):
        raise UsageError(f"{folder} is one of the folders to be united; give another --output")
    attempts, lost = _unite(files, folder / RAW)
    no_tools, _ = _unite(raw_files(sources, NO_TOOLS), folder / NO_TOOLS)
    write_provenance(folder / PROVENANCE, read_provenance(raw_files(sources, PROVENANCE)))
    return UnitedRaw(attempts=attempts, lost=lost, no_tools=no_tools)


def _unite(files: Sequence[Path], target: Path) -> tuple[int, int]:
    places: dict[str, RowPlace] = {}
    lost = 0
    for place, row in rows(files):
        places[str(row["key"])] = place
        lost += DROPPED in row
    with writing_atomically(target) as out:
        for key in sorted(places):
            out.write(places[key].text())
    return len(places), lost
