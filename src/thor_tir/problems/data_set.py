"""A data set of one's own: a file, a folder of files or a set of the hub, read into problems; what was taken from
where, and what was left out or changed, is counted in sentences.
"""

import importlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.problem import Problem, digest
from thor_tir.problems.columns import (
    ANY_FIELDS,
    QUESTION_FIELDS,
    ProblemFields,
    Taken,
    read_answer,
    read_question,
    read_system,
)
from thor_tir.problems.own_source import Wanted, is_source, source_rows, source_stem
from thor_tir.problems.rows import EXPECTED, SUFFIXES, Row, Rows, kind_of, read_rows

_HUB_NAME = re.compile(r"(?:hf://datasets/)?([\w.-]+/[\w.-]+)(?::([\w.+-]+))?(?:@([\w.+\[\]:%-]+))?")
"""Name of a set on the hub, with a configuration and a split."""
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Splits, and the words for them in the names of files and folders."""
_META = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})
"""Files that describe a data set beside its data."""
_KEPT = ("subject", "level", "answer_type", "unit", "is_multiple_answer")
"""Columns that become `Problem.extra`, for tables of results."""
_RIVALS = (QUESTION_FIELDS, ("answer", "expected_answer", "ground_truth", "final_answer"))
"""Columns of which one is taken: where a row has two, it is said which."""
_USUAL = frozenset(("`question`", "`problem`", "`answer`", ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlace:
    """The place of a data set: on this machine, or on the hub."""

    name: str
    """File, folder, or name on the hub."""
    is_local: bool
    """True for a file or a folder of this machine."""
    config: str = ""
    """Configuration of a set on the hub; empty for its only one."""
    split: str = ""
    """Split, or the list of a JSON object; empty where none was named."""
    is_source: bool = False
    """True for a function that gives problems, or a task set; `name` is its spelling."""

    def __str__(self) -> str:
        return self.name + f":{self.config}" * bool(self.config) + f"@{self.split}" * bool(self.split)

    @property
    def stem(self) -> str:
        """Name for people and files."""
        if self.is_source:
            return source_stem(self.name)
        return Path(self.name).name.removesuffix(".gz").rpartition(".")[0] or Path(self.name).name


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """Problems of a data set, and what is to be said of them."""

    problems: tuple[Problem, ...]
    """Problems in the order of their rows."""
    taken: str
    """Clause that says which files, split and columns they were taken from."""
    is_usual: bool
    """True if that is one file with `question` or `problem`, and `answer`: nothing that anybody must be told."""
    left_out: tuple[str, ...] = ()
    """Sentences about rows that were left out or changed, with their number."""


def place_of(spec: str) -> DataPlace:
    """The place that `spec` names: a path, a path and `@split`, or OWNER/NAME:CONFIG@SPLIT on the hub.

    Raises UsageError where it can be none of them.
    """
    head, at, split = spec.rpartition("@")
    for path, part in ((spec, ""), (head if at else spec, split if at else "")):
        if path and Path(path).expanduser().exists():
            return DataPlace(name=str(Path(path).expanduser()), is_local=True, split=part)
    if is_source(spec):
        return DataPlace(name=spec, is_local=False, is_source=True)
    found = _HUB_NAME.fullmatch(spec)
    if found is None or kind_of(Path(found[1])) is not None:
        raise UsageError(
            f"no problems at {spec!r}: expected a file or folder of JSONL, JSON, CSV, TSV or Parquet, a data set of "
            "the hub such as openai/gsm8k:main@train, families such as reasoning_gym:gcd,lcm, or a function such as "
            "mine.py:f"
        )
    return DataPlace(name=found[1], is_local=False, config=found[2] or "", split=found[3] or "")


def read_data_set(
    spec: str,
    fields: ProblemFields = ANY_FIELDS,
    *,
    default_split: str = "train",
    count: int | None = None,
    seed: int = 0,
) -> DataSet:
    """Problems of the data set that `spec` names. `default_split` is taken where there are several and none is named.

    `count` and `seed` are handed to a function of one's own, which may go on without an end; files are read whole.

    Raises UsageError, naming file and line, for what cannot be read or holds no problems.
    """
    place = place_of(spec)
    if place.is_source:
        wanted = Wanted(split=default_split, count=count, seed=seed)
        return collected(source_rows(spec, wanted), fields, place=place, origin=f"problems of {spec}")
    origin, rows = rows_at(place, default_split)
    return collected(rows, fields, place=place, origin=origin)


def read_problems(path: Path) -> list[Problem]:
    """Problems of a file; see `read_data_set`."""
    place = DataPlace(name=str(path), is_local=True)
    return list(collected(read_rows(path), ANY_FIELDS, place=place).problems)


def collected(rows: Rows, fields: ProblemFields, *, place: DataPlace, origin: str = "") -> DataSet:
    """Problems of the rows of a place. `origin` says where the rows come from, where that is more than one file.

    A question without an id that stands there again is used once, and counted; so is the same question under the same
    id. An id that another question has taken already is completed by a digest of the question.
    """
    problems: dict[str, Problem] = {}
    columns: Counter[tuple[str, str, str]] = Counter()
    again = otherwise = renamed = 0
    has_rivals = False
    for where, row in rows:
        question, answer = read_question(row, fields, where), read_answer(row, fields, where)
        system = read_system(row, fields, question.column, where)
        problem = _problem(row, question, answer, system, where=where, source=place.stem)
        if (before := problems.get(problem.id)) is not None and not _is_same(before, problem):
            problem = _renamed(problem)
            before = problems.get(problem.id)
            renamed += before is None
        if before is not None:
            again, otherwise = again + 1, otherwise + (before.answer.split() != problem.answer.split())
            continue
        problems[problem.id] = problem
        has_rivals = has_rivals or any(sum(name in row for name in names) > 1 for names in _RIVALS)
        columns[(question.column, answer.column, "" if system is None else system.column)] += 1
    if not problems:
        raise UsageError(f"{place} holds no problems; {EXPECTED}")
    counts = (
        (again, f"repeated questions, left out: {again:,}" + f" ({otherwise:,} with another answer)" * bool(otherwise)),
        (renamed, f"questions with the id of another one, completed by a digest: {renamed:,}"),
    )
    is_alone = len(columns) == 1 and not has_rivals
    is_usual = not origin and is_alone and all(column in _USUAL for each in columns for column in each)
    return DataSet(
        problems=tuple(problems.values()),
        taken="; ".join([*([origin] if origin else []), *_clauses(columns)]),
        is_usual=is_usual,
        left_out=tuple(sentence for count, sentence in counts if count),
    )


def _clauses(columns: Counter[tuple[str, str, str]]) -> Iterator[str]:
    """The columns that were taken, and in how many rows where that differs."""
    for (question, answer, system), count in columns.most_common():
        more = f", system messages from {system}" if system else ""
        number = f" ({count:,} of {columns.total():,})" if len(columns) > 1 else ""
        yield f"questions from {question}, answers from {answer}{more}{number}"


def _problem(row: Row, question: Taken, answer: Taken, system: Taken | None, *, where: str, source: str) -> Problem:
    extra = {} if row.get("extra") is None else row["extra"]
    if not isinstance(extra, Mapping):
        raise UsageError(f"{where}: `extra` must be an object, found {extra!r:.80}")
    return Problem(
        id=digest(question.text) if _is_blank(row.get("id")) else str(row["id"]),
        question=question.text,
        answer=answer.text,
        source=source if _is_blank(row.get("source")) else str(row["source"]),
        system="" if system is None else system.text,
        extra={**(_as_json(extra) if extra else {}), **kept_of(row)},
    )


def _as_json(extra: Mapping[str, Any]) -> dict[str, Any]:
    """The same in JSON values alone: dates of a table as text, numbers that JSON has not as null."""
    found: dict[str, Any] = json.loads(json.dumps(extra, default=str), parse_constant=lambda name: None)
    return found


def kept_of(row: Row) -> dict[str, Any]:
    """The values of a row that tables of results are made by."""
    return {name: row[name] for name in _KEPT if isinstance(row.get(name), str | int | float) and row[name] != ""}


def _is_blank(value: object) -> bool:
    """True for nothing, and for NaN, with which tables mark what is missing."""
    return value is None or value == "" or value != value


def _is_same(one: Problem, other: Problem) -> bool:
    return one.question.split() == other.question.split() and one.system == other.system


def _renamed(problem: Problem) -> Problem:
    return replace(problem, id=f"{problem.id}-{digest(problem.question + problem.system)}")


# ---- places


def rows_at(place: DataPlace, default_split: str = "train") -> tuple[str, Rows]:
    """Rows of a place, after a clause that says what they are; empty for one whole file."""
    path = Path(place.name)
    if not place.is_local:
        return _hub_rows(place, default_split)
    if path.is_file():
        return (f"the list {place.split!r}" if place.split else ""), read_rows(path, place.split)
    files, split = _files_of(path, place.split, default_split)
    kinds = f"{len(files)} {kind_of(files[0])} file{'s' if len(files) > 1 else ''}"
    clause = f"{kinds} of the split {split}" if split else kinds
    return clause, (row for file in files for row in read_rows(file))


def _files_of(folder: Path, split: str, default_split: str) -> tuple[list[Path], str]:
    """The data files of a folder, of one form and one split, and the split in words; empty where names tell of none."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and kind_of(path) and _is_data(path, folder))
    if not found:
        raise UsageError(f"{folder} holds no data files; {EXPECTED}, in names that end in {', '.join(SUFFIXES)}")
    if len(kinds := Counter(str(kind_of(path)) for path in found)) > 1:
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        raise UsageError(f"{folder} holds files of several forms ({counts}); name a file, or a folder of one form")
    splits = {path: _split_in(path.relative_to(folder)) for path in found}
    names = sorted(set(splits.values()) - {""})
    if not split and not names:
        return found, ""
    chosen = _choice(split, names, default_split, str(folder))
    kept = [path for path in found if splits[path] == chosen]
    nowhere = [str(path.relative_to(folder)) for path, name in splits.items() if not name]
    more = f" ({len(nowhere)} of no split left out: {', '.join(nowhere)[:200]})" if nowhere else ""
    return kept, chosen + more


def _is_data(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    return path.name not in _META and not any(part.startswith((".", "_")) for part in parts)


def _split_in(path: Path) -> str:
    """The split that a file's name, or else one of its folders', tells of; empty for none."""
    words = [word for part in reversed(path.parts) for word in re.split(r"[^a-z]+", part.casefold())]
    return next((split for word in words for split, called in _SPLITS.items() if word in called), "")


def _choice(wanted: str, there: Sequence[str], default: str, name: str) -> str:
    """The split to be read: the one that was named, the only one, or the default. Raises UsageError for none."""
    choice = wanted or (there[0] if len(there) == 1 else default)
    if choice in there:
        return choice
    advice = f"name one, as in {name}@{there[0]}" if there else "it has none"
    raise UsageError(f"{name} has no split {choice!r} but {', '.join(there)}; {advice}")


def _hub_rows(place: DataPlace, default_split: str) -> tuple[str, Rows]:
    """Rows of a set of the hub, through the `datasets` package, whose own cache serves a machine that has had it."""
    need("datasets", f"there is no file or folder {place.name!r}, and asking the hub for it")
    datasets = importlib.import_module("datasets")
    datasets.disable_progress_bars()
    spec = place.name + (f":{place.config}" if place.config else "")
    try:
        if "[" in place.split:  # a part of a split, which the package reads itself
            table, split = datasets.load_dataset(place.name, place.config or None, split=place.split), place.split
        else:
            found = datasets.load_dataset(place.name, place.config or None)
            split = _choice(place.split, list(found), default_split, spec)
            table = found[split]
    except UsageError:
        raise
    except Exception as error:  # no network, no such set or configuration, damaged files: each is another exception
        reason = str(error).strip().partition("\n")[0][:300]
        raise UsageError(
            f"there is no file or folder {place.name!r}, and as a data set of the hub it cannot be loaded ({reason}); "
            f"a configuration is named as in {place.name}:CONFIG@SPLIT"
        ) from error
    origin = f"split {split} of the hub's {spec}, {len(table):,} rows"
    return origin, ((f"{spec}@{split}, row {number}", row) for number, row in enumerate(table, 1))
