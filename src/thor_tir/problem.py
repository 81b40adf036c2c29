"""A problem to be solved, and how a file of them is read and written."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.storage.journal import JsonObject, write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its reference answer."""

    id: str
    """Stable across runs and machines; never a position in a file."""
    question: str
    """Text of the question."""
    answer: str
    """Reference as its source wrote it; the grader, not the loader, decides what counts as equal."""
    source: str
    """Source of the problem, e.g. `reasoning_gym/gcd` or a file's stem. A scorer may be registered for it."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the source's own scorer needs (JSON values only)."""


QUESTION_FIELDS = ("question", "problem", "prompt", "query")
"""Columns in which published data sets keep the question; the first that says something is taken."""
ANSWER_FIELDS = ("answer", "expected_answer", "ground_truth", "final_answer", "solution")
"""The same for the reference answer. verl's rows have it in `reward_model.ground_truth`."""
_OWN_COLUMNS = frozenset(("`question`", "`problem`", "`answer`"))
_EXPECTED = "expected JSONL with `question` and `answer` on each line"
_FORMATS = {
    b"PAR1": "a parquet file; write it as JSONL: pandas.read_parquet(FILE).to_json(OUT, orient='records', lines=True)",
    b"ARROW1": "an Arrow file; write it as JSONL: datasets.Dataset.from_file(FILE).to_json(OUT)",
    b"\x1f\x8b": "compressed; unpack it first: gunzip FILE",
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as JSONL",
    b"\xff\xfe": "in UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > OUT",
    b"\xfe\xff": "in UTF-16; save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > OUT",
}
"""First bytes of other kinds of files, and the remedy for each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemFile:
    """The content of a problem file."""

    problems: tuple[Problem, ...]
    """The problems in the order of the file."""
    rows: tuple[Mapping[str, Any], ...]
    """The rows that they were read from, one each, with whatever else their source says."""
    taken: str
    """The columns that questions and answers were taken from, as a clause; empty for `question` and `answer`."""


def read_problems(path: Path) -> list[Problem]:
    """Problems of a JSONL file; see `read_problem_file`."""
    return list(read_problem_file(path).problems)


def read_problem_file(path: Path) -> ProblemFile:
    """Problems of a JSONL file with a question and an answer on each line, in one of the layouts that are published.

    `id` and `source` are optional: a missing id is a digest of the question, a missing source the file's stem.
    Raises UsageError naming file, line and what is wrong.
    """
    problems: dict[str, Problem] = {}
    rows: list[Mapping[str, Any]] = []
    columns: dict[str, None] = {}
    for where, row in read_rows(path):
        (question_field, question), (answer_field, answer) = _question(row, where), _answer(row, where)
        problem = _problem(row, question, answer, where=where, source=path.stem)
        if problem.id in problems:
            raise UsageError(f"{where}: the id {problem.id!r} is used twice; ids must be unique")
        problems[problem.id] = problem
        rows.append(row)
        if {question_field, answer_field} - _OWN_COLUMNS:
            columns[f"questions from {question_field}, answers from {answer_field}"] = None
    if not problems:
        raise UsageError(f"{path} holds no problems; {_EXPECTED}")
    return ProblemFile(problems=tuple(problems.values()), rows=tuple(rows), taken="; ".join(columns))


def read_rows(path: Path) -> Iterator[tuple[str, JsonObject]]:
    """The objects of a JSONL file, each with its place for messages. Raises UsageError for anything else."""
    if not path.is_file():
        raise UsageError(f"no problem file at {path}; {_EXPECTED}")
    blob = path.read_bytes()
    for beginning, advice in _FORMATS.items():
        if blob.startswith(beginning):
            raise UsageError(f"{path} is {advice.replace('FILE', path.name).replace('OUT', path.stem + '.jsonl')}")
    if b"\0" in blob[:64]:
        raise UsageError(f"{path} is no text in UTF-8 (it holds NUL bytes); {_EXPECTED}")
    for number, line in enumerate(blob.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield f"{path}, line {number}", _row(line, f"{path}, line {number}", is_first=number == 1)


def question_in(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """The column of a row that holds its question, as messages call it, and the text; None where none does."""
    for name in QUESTION_FIELDS:
        if isinstance(row.get(name), str) and row[name].strip():
            return f"`{name}`", row[name]
        if (text := _last_user_turn(row.get(name))) is not None:
            return f"the user's turn of `{name}`", text
    return None


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_atomically(path, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems))


def _row(line: bytes, where: str, *, is_first: bool) -> JsonObject:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{where}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); save the file as UTF-8, "
            "from Latin-1 for example with iconv -f LATIN1 -t UTF-8"
        ) from error
    except json.JSONDecodeError as error:
        is_array = is_first and line.lstrip().startswith(b"[")
        hint = "; a file of one JSON array becomes JSONL by jq -c '.[]'" if is_array else ""
        raise UsageError(f"{where}: not valid JSON ({error.msg} at column {error.colno}){hint}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested as deep
        raise UsageError(f"{where}: JSON that Python cannot read ({error})") from error
    if not isinstance(row, dict):
        hint = "; jq -c '.[]' makes a line of each of its elements" if isinstance(row, list) else ""
        raise UsageError(f"{where}: expected a JSON object, found {type(row).__name__}{hint}")
    return row


def _question(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    found = question_in(row)
    if found is None:
        given = next((row[name] for name in QUESTION_FIELDS if row.get(name) is not None), None)
        raise UsageError(
            f"{where}: `question` (or {_or(QUESTION_FIELDS[1:])}) must be a non-empty string, found "
            f"{given!r:.80}{_has(row, given)}; a chat may be a system turn and one turn of the user's"
        )
    if not _is_unicode(found[1]):
        raise UsageError(f"{where}: `question` holds half of a surrogate pair, which is no character: {found[1]!r}")
    return found


def _answer(row: Mapping[str, Any], where: str) -> tuple[str, str]:
    """The column of the reference answer and its text, as the source wrote it."""
    given = {f"`{name}`": row[name] for name in ANSWER_FIELDS if row.get(name) is not None}
    if isinstance(model := row.get("reward_model"), dict) and model.get("ground_truth") is not None:
        given["`reward_model.ground_truth`"] = model["ground_truth"]
    if isinstance(several := given.get("`final_answer`"), list) and len(several) == 1:  # as OlympiadBench has it
        given["`final_answer`"] = several[0]
    said = {name: value for name, value in given.items() if str(value).strip()}
    name, answer = next(iter({**said, **given}.items()), ("`answer`", None))
    if isinstance(answer, float) and not isfinite(answer):
        raise UsageError(f"{where}: {name} is {answer}, which is no answer; leave the row out, or write the answer")
    if not isinstance(answer, str | int | float) or isinstance(answer, bool):
        raise UsageError(
            f"{where}: {name} must be a string or a number, found {answer!r:.80}{_has(row, answer)}"
            + (
                f"; an answer may also be called {_or(ANSWER_FIELDS[1:])} or `reward_model.ground_truth`"
                if not given
                else ""
            )
        )
    return name, str(answer)


def _or(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _has(row: Mapping[str, Any], given: object) -> str:
    """The columns there are, where the one that is looked for is missing."""
    return f" (the row has {', '.join(map(str, row)) or 'nothing'})" if given is None else ""


def _last_user_turn(prompt: object) -> str | None:
    """The one turn of the user's in a chat, which may be led by a system turn; None for anything else."""
    if not isinstance(prompt, list) or not all(isinstance(turn, dict) for turn in prompt):
        return None
    turns = [turn for turn in prompt if turn.get("role", turn.get("from")) != "system"]
    if len(turns) != 1 or turns[0].get("role", turns[0].get("from")) not in ("user", "human"):
        return None
    content = turns[0].get("content", turns[0].get("value"))
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        content = "".join(str(part["text"]) for part in content if isinstance(part.get("text"), str))
    return content if isinstance(content, str) and content.strip() else None


def _problem(row: Mapping[str, Any], question: str, answer: str, *, where: str, source: str) -> Problem:
    extra = {} if row.get("extra") is None else row["extra"]
    if not isinstance(extra, dict):
        raise UsageError(f"{where}: `extra` must be an object, found {extra!r:.80}")
    return Problem(
        id=digest(question) if row.get("id") in (None, "") else str(row["id"]),
        question=question,
        answer=answer,
        source=str(row.get("source") or source),
        extra=extra,
    )


def _is_unicode(text: str) -> bool:
    """True if a tokenizer can read it: JSON may spell lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def digest(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text: the default id, and what splits are kept disjoint by."""
    from hashlib import sha256

    return sha256(" ".join(text.split()).encode()).hexdigest()[:12]
