"""A problem to be solved, and how a file of them is read and written."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.storage.journal import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its reference answer."""

    id: str
    """Stable across runs and machines; never a position in a file."""
    question: str
    """Text of the question."""
    answer: str
    """As its source wrote it; the grader, not the loader, decides what counts as equal."""
    source: str
    """Where it comes from, e.g. `reasoning_gym/gcd` or a file's stem. A scorer may be registered for it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the source's own scorer needs (JSON values only)."""


def read_problems(path: Path) -> list[Problem]:
    """Problems of a JSONL file with `question` (or `problem`) and `answer` on each line.

    `id` and `source` are optional: a missing id is a digest of the question, a missing source the file's stem.
    Raises UsageError naming file, line and what is wrong.
    """
    if not path.is_file():
        raise UsageError(f"no problem file at {path}; expected JSONL with `question` and `answer` on each line")
    problems: dict[str, Problem] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), 1):
        if not line.strip():
            continue
        problem = _problem(line, where=f"{path}, line {number}", source=path.stem)
        if problem.id in problems:
            raise UsageError(f"{path}, line {number}: the id {problem.id!r} is used twice; ids must be unique")
        problems[problem.id] = problem
    if not problems:
        raise UsageError(f"{path} holds no problems; expected JSONL with `question` and `answer` on each line")
    return list(problems.values())


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_atomically(path, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems))


def _problem(line: str, *, where: str, source: str) -> Problem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UsageError(f"{where}: not valid JSON ({error.msg} at column {error.colno})") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested as deep
        raise UsageError(f"{where}: JSON that Python cannot read ({error})") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected a JSON object, found {type(row).__name__}")
    question, answer = row.get("question", row.get("problem")), row.get("answer")
    if not isinstance(question, str) or not question.strip():
        raise UsageError(f"{where}: `question` (or `problem`) must be a non-empty string, found {question!r}")
    if not _is_unicode(question):
        raise UsageError(f"{where}: `question` holds half of a surrogate pair, which is no character: {question!r}")
    if not isinstance(answer, str | int | float) or isinstance(answer, bool):
        raise UsageError(f"{where}: `answer` must be a string or a number, found {answer!r}")
    extra = row.get("extra", {})
    if not isinstance(extra, dict):
        raise UsageError(f"{where}: `extra` must be an object, found {extra!r}")
    return Problem(
        id=digest(question) if row.get("id") in (None, "") else str(row["id"]),
        question=question,
        answer=str(answer),
        source=str(row.get("source") or source),
        extra=extra,
    )


def _is_unicode(text: str) -> bool:
    """Whether a tokenizer can read it: JSON may spell lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def digest(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text: the default id, and what splits are kept disjoint by."""
    from hashlib import sha256

    return sha256(" ".join(text.split()).encode()).hexdigest()[:12]
