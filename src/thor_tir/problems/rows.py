"""Rows of a data file, in whatever form people publish them: JSONL, JSON, CSV, TSV, Parquet, Arrow; gzipped or not.

The content decides the form, and a text's encoding is that of its byte order mark, else UTF-8. Anything else is refused
in a sentence that names what was found and says what to do. Rows come one at a time, each with its place for messages.
"""

import ast
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from shlex import quote
from typing import Any, BinaryIO, NoReturn

from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.problems.columns import question_in, turns_of

Row = Mapping[str, Any]
"""One row: values by the names of their columns."""
Rows = Iterator[tuple[str, Row]]
"""Rows, each after its place as messages name it."""

SUFFIXES = {
    ".jsonl": "JSONL",
    ".ndjson": "JSONL",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
}
"""Names of data files end so, and perhaps in `.gz` after that."""
EXPECTED = "expected JSONL, JSON, CSV, TSV or Parquet with a question and an answer in each row"
MOST_CELL_CHARS = 2**28
"""Longest cell of a CSV file; the library's own limit would refuse a long solution."""

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
"""Byte order marks and the encodings that they say."""
_PARQUET, _ARROW_FILE, _ARROW_STREAM, _GZIP = b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"\x1f\x8b"
_OTHERS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet; unpack it, or save it as CSV",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it first: zstd -d FILE",
    b"BZh": "packed by bzip2; unpack it first: bunzip2 FILE",
    b"\xfd7zXZ": "packed by xz; unpack it first: unxz FILE",
    b"\x80\x04": "a pickle, which could run code of its own; write its rows as JSONL",
    b"SQLite format 3": "an SQLite database; export its table as CSV",
    b"version https://git-lfs": "a pointer to a file that git-lfs has not fetched; run `git lfs pull` where it lies",
}
"""First bytes of other kinds of files, and the remedy for each."""


def kind_of(path: Path) -> str | None:
    """The form of a file by its name; None for a name that says nothing."""
    return SUFFIXES.get(Path(path.name.removesuffix(".gz")).suffix.lower())


def read_rows(path: Path, part: str = "") -> Rows:
    """The rows of a file; `part` names one of several lists in a JSON object. Raises UsageError for anything else."""
    if not path.is_file():
        raise UsageError(f"no problem file at {path}; {EXPECTED}")
    try:
        with _unpacked(path) as stream:
            head = stream.peek(64)[:64]  # type: ignore[attr-defined]
            if head.startswith((_PARQUET, _ARROW_FILE, _ARROW_STREAM)):
                yield from _table_rows(path, stream, head)
                return
            for beginning, advice in _OTHERS.items():
                if head.startswith(beginning):
                    raise UsageError(f"{path} is {advice.replace('FILE', path.name)}")
            lines = _lines(path, stream, head)
            if kind_of(path) in ("CSV", "TSV"):
                yield from _csv_rows(path, lines)
            else:
                yield from _json_rows(path, lines, part)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is damaged ({error}); obtain it again") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror or error})") from error


@contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO]:
    with path.open("rb") as file:
        if file.peek(2)[:2] == _GZIP:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield unpacked  # type: ignore[misc]
        else:
            yield file


# ---- text


def _lines(path: Path, stream: BinaryIO, head: bytes) -> Iterator[str]:
    """The lines of a text with their ends, decoded."""
    encoding = next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8"):
        if b"\0" in head:
            raise UsageError(f"{path} is {_without_mark(head, path)}; {EXPECTED}")
        first = stream.readline().removeprefix(_MARKS[0][0])
        for number, line in enumerate(chain([first], stream), 1):
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}); "
                    f"{_eight_bits(line, path)}"
                ) from error
        return
    text = io.TextIOWrapper(stream, encoding=encoding, newline="\n")
    try:
        yield from text
    except UnicodeError as error:
        name = encoding.upper()
        raise UsageError(f"{path} begins as {name} does and is not valid {name}: {error}") from error
    finally:
        text.detach()  # the file is its opener's to close


def _without_mark(head: bytes, path: Path) -> str:
    """The kind of a file that holds NUL bytes."""
    for name, zeros, letters in (("UTF-16LE", head[1::2], head[0::2]), ("UTF-16BE", head[0::2], head[1::2])):
        if not zeros.strip(b"\0") and b"\0" not in letters:
            return f"in {name} without a byte order mark; save it as UTF-8: {_converted(path, name)}"
    return "no text (it holds NUL bytes)"


def _eight_bits(line: bytes, path: Path) -> str:
    """Advice about a line in an encoding of eight bits, which cannot be known for sure."""
    name = "WINDOWS-1252" if any(0x80 <= byte < 0xA0 for byte in line) else "LATIN1"
    return f"if it is {name}, save it as UTF-8: {_converted(path, name)}"


def _converted(path: Path, name: str) -> str:
    return f"iconv -f {name} -t UTF-8 {quote(str(path))} > OUT"


# ---- JSON and JSONL


def _json_rows(path: Path, lines: Iterator[str], part: str) -> Rows:
    numbered = ((number, line) for number, line in enumerate(lines, 1) if line.strip())
    first = next(numbered, None)
    if first is None:
        return
    second = next(numbered, None)
    number, line = first
    if second is not None and (is_row := _is_object(line)) is not None:
        if not is_row:
            _refuse_value(f"{path}, line {number}", line)
        for number, line in chain([first, second], numbered):
            yield f"{path}, line {number}", _row(line, f"{path}, line {number}")
        return
    rest = [] if second is None else [second[1], *(line for _, line in numbered)]
    yield from _of_whole(path, _whole(path, number, line, rest), part)


def _is_object(line: str) -> bool | None:
    """True for a line that is a JSON object, False for another JSON value, None for a line that is no whole value."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError) as error:
        is_begun = isinstance(error, json.JSONDecodeError) and line.lstrip()[:1] in ("{", "[")
        return None if is_begun else True  # a faulty line, which is refused as one


def _whole(path: Path, number: int, line: str, rest: list[str]) -> object:
    """The value of a file that is one JSON text, or the refusal of its first line."""
    try:
        return json.loads("".join([line, *rest]), object_pairs_hook=unrepeated)
    except json.JSONDecodeError as error:
        if not rest or (kind_of(path) == "JSONL" and line.rstrip() not in ("[", "{")):
            _row(line, f"{path}, line {number}")
        where = f"line {number + error.lineno - 1}"
        raise UsageError(
            f"{path}, {where}: not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}, line {number}: JSON that Python cannot read ({error})") from error


def _of_whole(path: Path, value: object, part: str) -> Rows:
    """Rows of a JSON array, of an object with a list of rows, of one with lists as columns, or the object as a row."""
    if isinstance(value, dict):
        lists = {name: found for name, found in value.items() if isinstance(found, list)}
        tables = {name: found for name, found in lists.items() if _is_table(found)}
        if part in lists:
            value = lists[part]
        elif part:
            raise UsageError(f"{path} holds no list {part!r}; it has {', '.join(lists) or 'none'}")
        elif tables and question_in(value) is None:
            if len(tables) > 1:
                raise UsageError(f"{path} holds several lists of rows: name one, as in {path}@{next(iter(tables))}")
            value = next(iter(tables.values()))
        elif lists.keys() == value.keys() and len({len(found) for found in lists.values()}) == 1:
            value = [dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True)]
        else:
            value = [value]
    if not isinstance(value, list):
        raise UsageError(f"{path}: expected rows, found {type(value).__name__}")
    for number, row in enumerate(value, 1):
        if not isinstance(row, dict):
            raise UsageError(f"{path}, row {number}: expected a JSON object, found {type(row).__name__}")
        yield f"{path}, row {number}", row


def _is_table(value: list[Any]) -> bool:
    return bool(value) and turns_of(value) is None and all(isinstance(row, dict) for row in value)


def unrepeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs. Raises ValueError where a name stands in it twice: the last would win unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"an object names {', '.join(sorted({n for n in names if names.count(n) > 1}))} twice")
    return found


def _row(line: str, where: str) -> Row:
    try:
        row = json.loads(line.rstrip("\r\n"), object_pairs_hook=unrepeated)
    except json.JSONDecodeError as error:
        hint = "" if line.lstrip()[:1] in "{[" else "; a table of comma-separated values is named .csv"
        raise UsageError(
            f"{where}: not valid JSON ({error.msg.removesuffix(' at')} at column {error.colno}){hint}"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or brackets nested as deep
        raise UsageError(f"{where}: JSON that Python cannot read ({error})") from error
    if not isinstance(row, dict):
        _refuse_value(where, line)
    return row


def _refuse_value(where: str, line: str) -> NoReturn:
    value = json.loads(line)
    hint = "; jq -c '.[]' makes a line of each of its elements" if isinstance(value, list) else ""
    raise UsageError(f"{where}: expected a JSON object, found {type(value).__name__}{hint}")


# ---- CSV


def _csv_rows(path: Path, lines: Iterator[str]) -> Rows:
    header = next((line for line in lines if line.strip()), "")
    csv.field_size_limit(MOST_CELL_CHARS)
    comma = "\t" if kind_of(path) == "TSV" else max(",;\t|", key=header.count)
    reader = csv.reader(chain([header], lines), delimiter=comma, strict=True, skipinitialspace=True)
    try:
        names = [name.strip() for name in next(reader, [])]
        if repeated := {name for name in names if name and names.count(name) > 1}:
            raise UsageError(f"{path}: the header names {', '.join(sorted(repeated))} more than once")
        for cells in reader:
            if not any(cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(names):
                raise UsageError(
                    f"{where}: {len(cells)} cells under a header of {len(names)} ({', '.join(names)[:200]}); put cells "
                    f"that hold {comma!r}, quotes or line breaks between double quotes"
                )
            yield where, {name: _cell(text) for name, text in zip(names, cells, strict=True)}
    except csv.Error as error:
        raise UsageError(
            f"{path}, line {reader.line_num}: no valid CSV ({error}); look for a quote that is left open"
        ) from error


def _cell(text: str) -> Any:
    """The text of a cell; a chat or a record that was written into it, as JSON or as Python prints it, as such."""
    if not text.startswith(("{", "[{")):
        return text
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(value, dict) or turns_of(value) is not None:
            return value
    return text


# ---- tables of pyarrow


def _table_rows(path: Path, stream: BinaryIO, head: bytes) -> Rows:
    form = "Parquet" if head.startswith(_PARQUET) else "Arrow"
    need("pyarrow", f"{path}, which is {form},")
    arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    number = 0
    try:
        if form == "Parquet":
            batches = parquet.ParquetFile(stream).iter_batches(batch_size=1024)
        elif head.startswith(_ARROW_FILE):
            found = arrow.ipc.open_file(stream)
            batches = (found.get_batch(index) for index in range(found.num_record_batches))
        else:
            batches = arrow.ipc.open_stream(stream)
        for batch in batches:
            names = batch.schema.names
            if repeated := {name for name in names if names.count(name) > 1}:
                raise UsageError(f"{path}: the columns {', '.join(sorted(repeated))} are there more than once")
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        said = str(error).strip().partition("\n")[0][:300]
        raise UsageError(f"{path} is {form} that cannot be read after row {number} ({said})") from error
