"""LiveCodeBench as its authors publish it (arXiv 2403.07974, `livecodebench/code_generation_lite`).

A release is a row of files, `test.jsonl`, `test2.jsonl` and so on: release n holds the first n of them. A row keeps its
public tests as JSON in a string, and its hidden ones either so or packed: base64 of zlib of a pickle of that string.
Here the pickle may hold a text and nothing else, so that a file cannot run code; and hidden tests, gigabytes in all,
are read again from their place in the file whenever a program is tested on them.
"""

import base64
import io
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.problems.code_tasks import CodeTask, ExampleTests, Pair, contest_fields

HUB = "livecodebench/code_generation_lite"
NUM_TASKS = (400, 511, 612, 713, 880, 1055)
"""Number of tasks of the releases 1 to 6, the files before included."""
FILES = ("test.jsonl", *(f"test{number}.jsonl" for number in range(2, len(NUM_TASKS) + 1)))
MOST_BYTES = 2**30
"""Most bytes of one task's hidden tests, unpacked."""


def release_files(release: int, data: Path | None) -> list[Path]:
    """The files of a release: a single one of the user's, those of a folder, or the hub's.

    Raises UsageError where one is missing.
    """
    if data is not None and data.is_file():
        return [data]
    names = FILES[:release]
    if data is not None:
        missing = [name for name in names if not (data / name).is_file()]
        if missing:
            raise UsageError(
                f"{data} lacks {', '.join(missing)} of LiveCodeBench's release {release}; they are those of {HUB}"
            )
        return [data / name for name in names]
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    try:
        return [Path(hf_hub_download(HUB, name, repo_type="dataset")) for name in names]
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UsageError(
            f"{HUB} cannot be loaded ({reason}); give --data a folder with {', '.join(names)} of it"
        ) from error


def release_tasks(name: str, files: list[Path], *, timeout_s: float) -> Iterator[CodeTask]:
    """The tasks of a release in the order of its files. Raises UsageError naming file and line."""
    for file in files:
        with file.open("rb") as lines:
            start = 0
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _task(name, line, file, start, f"{file}, line {number}", timeout_s)
                start += len(line)


def _task(name: str, line: bytes, file: Path, start: int, where: str, timeout_s: float) -> CodeTask:
    try:
        row = json.loads(line)
        fields = contest_fields(row, _pairs(row["public_test_cases"]))
        public: ExampleTests = fields.pop("tests")
        tests = ExampleTests(pairs=public.pairs, is_stdin=public.is_stdin, hidden=partial(hidden_pairs, file, start))
        return CodeTask(
            id=f"livecodebench/{row['question_id']}",
            benchmark=name,
            prompt=str(row["question_content"]),
            tests=tests,
            timeout_s=timeout_s,
            fingerprint=sha256(line.strip()).hexdigest(),
            **fields,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: not a task of LiveCodeBench ({type(error).__name__}: {error})") from error


def hidden_pairs(file: Path, start: int) -> list[Pair]:
    """The hidden tests of the row that begins at a byte of a file. Raises UsageError where they are damaged."""
    try:
        with file.open("rb") as lines:
            lines.seek(start)
            return _pairs(unpacked(json.loads(lines.readline())["private_test_cases"]))
    except (OSError, KeyError, TypeError, ValueError, zlib.error, pickle.UnpicklingError, EOFError) as error:
        raise UsageError(f"{file}, byte {start}: its hidden tests cannot be read ({error}); obtain it again") from error


def unpacked(text: str) -> str:
    """The JSON of hidden tests, whether or not it is packed. Raises ValueError, zlib.error or UnpicklingError."""
    if text.lstrip().startswith("["):
        return text
    reader = zlib.decompressobj()
    blob = reader.decompress(base64.b64decode(text, validate=True), MOST_BYTES)
    if not reader.eof:
        raise ValueError(f"it ends too early, or is over {MOST_BYTES >> 20} MiB")
    found = _TextAlone(io.BytesIO(blob)).load()
    if not isinstance(found, str):
        raise ValueError(f"it holds a {type(found).__name__} where a text should be")
    return found


class _TextAlone(pickle.Unpickler):
    """Reads plain data: whatever names a class or a function, as code that wants to run must, is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and plain text asks for nothing")

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it refers to something outside")


def _pairs(text: str) -> list[Pair]:
    rows: list[Mapping[str, str]] = json.loads(text)
    return [(row["input"], row["output"]) for row in rows]
