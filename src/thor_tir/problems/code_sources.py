"""Benchmarks whose answer is a program: where their tasks come from, and the proof that they are those.

HumanEval (arXiv 2107.03374), MBPP (2108.07732, the sanitised tasks), HumanEval+ and MBPP+ (EvalPlus, 2305.01210) and
LiveCodeBench (2403.07974). None is shipped: a task comes from a file of the user's or from the Hugging Face hub, and
tasks that differ from those whose reference solutions are known to pass are refused.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.problems.benchmarks import HubSet, hub_rows
from thor_tir.problems.code_tasks import (
    CodeRow,
    CodeTask,
    TaskFields,
    humaneval_fields,
    humaneval_plus_fields,
    livecodebench_fields,
    mbpp_fields,
    mbpp_plus_fields,
)
from thor_tir.problems.livecodebench import FILES, NUM_TASKS, release_files, release_tasks

MOST_BYTES = 2**28
"""Most bytes of a packed file, unpacked; the largest, HumanEval+, has a twentieth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBenchmark:
    """One benchmark: its files, its known edition, its limits."""

    title: str
    """Name in tables."""
    files: tuple[str, ...]
    """Names under which a folder may hold it, each also with `.gz` added; of a release of LiveCodeBench all of them."""
    num_tasks: int
    """Number of tasks of the known edition."""
    digest: str
    """See `tasks_digest`; empty where no copy was at hand, so that the number of tasks alone is checked."""
    timeout_s: float
    """See `CodeTask.timeout_s`."""
    origin: str
    """Place that publishes the benchmark."""
    licence: str
    """Licence of the tasks."""
    read: Callable[[CodeRow], TaskFields] | None = None
    """Function from a row to the fields of a task; None for a release of LiveCodeBench."""
    hub: HubSet | None = None
    """None where the hub has no copy of just these tasks."""

    @property
    def release(self) -> int:
        """Number of LiveCodeBench's files; 0 for another benchmark."""
        return len(self.files) if self.read is None else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSet:
    """The tasks that were found under a name."""

    name: str
    """Short name of the benchmark."""
    title: str
    """Name for people."""
    tasks: tuple[CodeTask, ...]
    """Tasks that were found."""
    sha256: str
    """See `tasks_digest`."""
    notes: tuple[str, ...]
    """Departures from the known tasks; empty where there are none."""


def known_name(name: str) -> str | None:
    """The name as `BENCHMARKS` spells it: `HumanEval+`, `humanevalplus` and `humaneval_plus` are one."""
    wanted = _bare(name)
    return next((known for known in BENCHMARKS if _bare(known) == wanted), None)


def code_set(name: str, data: Path | None) -> CodeSet:
    """A benchmark from its file, from a folder that holds it, or (`data` None) from the hub, with its departures.

    Raises UsageError for an unknown name and for data that cannot be had or read.
    """
    spelled = known_name(name)
    if spelled is None:
        raise UsageError(f"unknown code benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    known = BENCHMARKS[spelled]
    tasks = tuple(_tasks(spelled, known, data))
    if len({task.id for task in tasks}) < len(tasks):
        raise UsageError(f"{name}: a task's id is used twice; obtain the file again")
    digest = tasks_digest(tasks)
    notes = tuple(_departures(spelled, known, len(tasks), digest))
    return CodeSet(name=spelled, title=known.title, tasks=tasks, sha256=digest, notes=notes)


def code_tasks(name: str, data: Path, *, verify: bool = True) -> list[CodeTask]:
    """The tasks of `code_set`. Raises UsageError also, unless `verify` is off, where they are not the known ones."""
    found = code_set(name, data)
    if found.notes and verify:
        raise UsageError(f"{'; '.join(found.notes)}; obtain that version, or accept this one with --any-version")
    return list(found.tasks)


def tasks_digest(tasks: Iterable[CodeTask]) -> str:
    """SHA-256 of all that decides verdicts, whatever the order of the tasks and their ids."""
    return sha256("".join(sorted(task.fingerprint for task in tasks)).encode()).hexdigest()


def _departures(name: str, known: CodeBenchmark, num_tasks: int, digest: str) -> Iterator[str]:
    if num_tasks != known.num_tasks:
        yield f"{name} has {known.num_tasks} tasks, found {num_tasks}"
    elif known.digest and digest != known.digest:
        yield f"{name}: the SHA-256 of its tasks is {known.digest[:12]}..., found {digest[:12]}..."


def _bare(name: str) -> str:
    return name.casefold().replace("+", "plus").replace("_", "").replace("-", "")


def _tasks(name: str, known: CodeBenchmark, data: Path | None) -> Iterator[CodeTask]:
    if data is not None and not data.exists():
        raise UsageError(f"no file or folder at {data}; {_how_to_obtain(name, known)}")
    if known.read is None:
        yield from release_tasks(name, release_files(known.release, data), timeout_s=known.timeout_s)
    elif data is None:
        if known.hub is None:
            raise UsageError(f"the hub has no copy of {name}; {_how_to_obtain(name, known)}")
        for number, row in enumerate(hub_rows(known.hub, _how_to_obtain(name, known)), 1):
            yield _task(name, known, known.read, row, f"{known.hub.path}, row {number}")
    else:
        file = _find(name, known, data)
        for number, line in enumerate(_unpacked(file).split(b"\n"), 1):
            if line.strip():
                yield _task(name, known, known.read, line, f"{file}, line {number}")


def _how_to_obtain(name: str, known: CodeBenchmark) -> str:
    join = " and " if known.read is None else " or "
    advice = f"give --data the file of {name}, or a folder with {join.join(known.files)}"
    return advice if known.hub is None else f"{advice}; {known.hub.path} on the Hugging Face hub has it"


def _find(name: str, known: CodeBenchmark, data: Path) -> Path:
    if data.is_file():
        return data
    names = [variant for file in known.files for variant in (file, f"{file}.gz")]
    for candidate in names:
        if (data / candidate).is_file():
            return data / candidate
    raise UsageError(f"no file of {name} at {data}; expected the file itself, or a folder with {' or '.join(names)}")


def _unpacked(file: Path) -> bytes:
    """The text of a file, packed or not, and no more of it than a benchmark can be."""
    with file.open("rb") as packed:
        if packed.read(2) != b"\x1f\x8b":
            return file.read_bytes()
        packed.seek(0)
        try:
            text = gzip.GzipFile(fileobj=packed).read(MOST_BYTES + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{file} is damaged ({error}); obtain it again") from error
    if len(text) > MOST_BYTES:
        raise UsageError(f"{file} holds more than {MOST_BYTES >> 20} MiB when unpacked, which no benchmark does")
    return text


def _task(
    name: str,
    known: CodeBenchmark,
    read: Callable[[CodeRow], TaskFields],
    row: bytes | Mapping[str, Any],
    where: str,
) -> CodeTask:
    try:
        fields = read(json.loads(row) if isinstance(row, bytes) else row)
        fields["id"] = str(fields["id"])
        deciding = [fields[key] for key in ("prompt", "entry_point", "reference", "tests")]
        fingerprint = sha256(repr(deciding).encode(errors="surrogatepass")).hexdigest()
        return CodeTask(benchmark=name, timeout_s=known.timeout_s, fingerprint=fingerprint, **fields)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: not a task of {name} ({type(error).__name__}: {error})") from error


_LICENCE_PLUS = "Apache-2.0; MBPP texts CC BY 4.0"
_LIVE = "LiveCodeBench (Jain et al., 2024), problems of LeetCode, AtCoder and Codeforces"

BENCHMARKS: Mapping[str, CodeBenchmark] = {
    "humaneval": CodeBenchmark(
        title="HumanEval",
        files=("humaneval.jsonl", "HumanEval.jsonl"),
        num_tasks=164,
        digest="617daa23f93749a469f634b89d1de6e8ad9efa0278ca3d71a539d38818209bdb",
        timeout_s=10.0,
        origin="HumanEval (Chen et al., 2021)",
        licence="MIT",
        read=humaneval_fields,
        hub=HubSet(path="openai/openai_humaneval"),
    ),
    "humaneval_plus": CodeBenchmark(
        title="HumanEval+",
        files=("humaneval_plus.jsonl",),
        num_tasks=164,
        digest="3da02dd1c1125933b3444d98ec869263329a589e97db150c547dba50bbc0a339",
        timeout_s=30.0,
        origin="EvalPlus (Liu et al., 2023), with task 32 mended, whose own test refuses its reference",
        licence="Apache-2.0",
        read=humaneval_plus_fields,
        hub=HubSet(path="evalplus/humanevalplus"),
    ),
    "mbpp": CodeBenchmark(
        title="MBPP",
        files=("mbpp_sanitized_399.jsonl", "mbpp_sanitized.jsonl", "mbpp.jsonl"),
        num_tasks=399,
        digest="87994f6e866084328a1d1c7f69fcc3750ccbe182d4f61137954378ae41c39273",
        timeout_s=10.0,
        origin="MBPP (Austin et al., 2021), the 399 sanitised tasks that EvalPlus started from",
        licence="CC BY 4.0",
        read=mbpp_fields,
    ),
    "mbpp_plus": CodeBenchmark(
        title="MBPP+",
        files=("mbpp_plus.jsonl",),
        num_tasks=378,
        digest="1d048a305ba8ac07c34aaee25fd9efb8d08474ba0b0f103fd848f25bf7f31612",
        timeout_s=30.0,
        origin="EvalPlus (Liu et al., 2023), release 0.2.0",
        licence=_LICENCE_PLUS,
        read=mbpp_plus_fields,
        hub=HubSet(path="evalplus/mbppplus"),
    ),
    "livecodebench": CodeBenchmark(
        title="LCB v1, public tests",
        files=("livecodebench_v1_public.jsonl", "livecodebench.jsonl"),
        num_tasks=400,
        digest="18d2a0ef8cc38868b99d35384ea04e1ce47b67d4fc7b215311649f852245caef",
        timeout_s=6.0,
        origin=f"{_LIVE}; release 1 without its hidden tests",
        licence="CC",
        read=livecodebench_fields,
    ),
    **{
        f"livecodebench_v{release}": CodeBenchmark(
            title=f"LCB v{release}",
            files=FILES[:release],
            num_tasks=num_tasks,
            digest="",
            timeout_s=6.0,
            origin=f"{_LIVE}; release {release}",
            licence="CC",
        )
        for release, num_tasks in enumerate(NUM_TASKS, 1)
    },
}
"""Known sets by their name on the command line."""
