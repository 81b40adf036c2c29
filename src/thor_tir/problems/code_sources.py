"""Benchmarks whose answer is a program: their files, and what each task tests.

HumanEval (arXiv 2107.03374), MBPP (2108.07732, the sanitised tasks), HumanEval+ and MBPP+ (EvalPlus, 2305.01210) and
LiveCodeBench v1 with its public tests (2403.07974). Files are the user's own: none is shipped, and a file that differs
from the one whose reference solutions are known to pass is refused.
"""

import gzip
import json
import re
import textwrap
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from thor_tir.faults import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertTests:
    """A program of assertions, as HumanEval and MBPP have it."""

    text: str
    checks: bool
    """It defines `check(candidate)`; otherwise it asserts at its top level and calls the entry point by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTests:
    """Arguments and expected results, as EvalPlus has them. All three texts are Python."""

    preamble: str
    """Imports and, where results are computed, the definition of `ref_func`."""
    inputs: str
    """A list of argument lists."""
    results: str
    """The list of expected results; may refer to `inputs` and to the preamble."""
    tolerance: float
    """EvalPlus's `atol`; 0 asks for equality, except of floats."""
    num_base: int | None = None
    """So many of the first inputs are the original benchmark's; None where the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTests:
    """Pairs of input and output, as LiveCodeBench has them: lines for a whole program, or JSON for a method."""

    pairs: tuple[tuple[str, str], ...]
    is_stdin: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTask:
    """One programming task."""

    id: str
    benchmark: str
    """A name of BENCHMARKS."""
    prompt: str
    """What the benchmark asks: the head of a function (HumanEval), or a sentence."""
    entry_point: str
    """The function that is called; `Solution.name` for a method; empty for a program that reads its input."""
    reference: str
    """The reference solution as a whole program; empty where the benchmark has none."""
    tests: AssertTests | CallTests | ExampleTests
    timeout_s: float
    """For one run of the program under test, on all calls or on one example."""

    @property
    def is_continued(self) -> bool:
        """Whether the prompt is the beginning of the program."""
        return self.benchmark.startswith("humaneval")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBenchmark:
    """What is known about one benchmark's file."""

    files: tuple[str, ...]
    """Names under which a folder may hold it, each also with `.gz` added."""
    num_tasks: int
    digest: str
    """SHA-256 of the unpacked file."""
    timeout_s: float
    read: Callable[[Mapping[str, Any]], dict[str, Any]]
    """From a row to the other fields of CodeTask. Raises KeyError, TypeError or ValueError."""


def code_tasks(name: str, path: Path, *, verify: bool = True) -> list[CodeTask]:
    """The tasks of a benchmark from its file, or from a folder that holds it under one of its names.

    Raises UsageError for an unknown name, a missing or damaged file, and, unless `verify` is off, for a wrong number
    of tasks or a digest other than that of the file that the checks of the reference solutions were made on.
    """
    if name not in BENCHMARKS:
        raise UsageError(f"unknown code benchmark {name!r}; known: {', '.join(BENCHMARKS)}")
    known, file = BENCHMARKS[name], _find(name, path)
    text = _unpacked(file)
    lines = [line for line in text.split(b"\n") if line.strip()]
    if verify:
        _verify(known, file, len(lines), sha256(text).hexdigest())
    tasks = [_task(name, known, line, f"{file}, line {number}") for number, line in enumerate(lines, 1)]
    if len({task.id for task in tasks}) < len(tasks):
        raise UsageError(f"{file}: a task's id is used twice")
    return tasks


def _verify(known: CodeBenchmark, file: Path, count: int, digest: str) -> None:
    if count != known.num_tasks:
        raise UsageError(f"{file} has {count} tasks and the benchmark has {known.num_tasks}; obtain the whole file")
    if digest != known.digest:
        raise UsageError(
            f"{file} is another version: its SHA-256, unpacked, begins with {digest[:12]} and should with "
            f"{known.digest[:12]}; obtain that version, or accept this one with --any-version"
        )


def _find(name: str, path: Path) -> Path:
    if path.is_file():
        return path
    names = [variant for file in BENCHMARKS[name].files for variant in (file, f"{file}.gz")]
    for candidate in names:
        if (path / candidate).is_file():
            return path / candidate
    raise UsageError(f"no file of {name} at {path}; expected the file itself, or a folder with {' or '.join(names)}")


def _unpacked(file: Path) -> bytes:
    blob = file.read_bytes()
    if not blob.startswith(b"\x1f\x8b"):
        return blob
    try:
        return gzip.decompress(blob)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} is damaged ({error}); obtain it again") from error


def _task(name: str, known: CodeBenchmark, line: bytes, where: str) -> CodeTask:
    try:
        row = json.loads(line)
        return CodeTask(
            id=str(row["id"]),
            prompt=str(row["prompt"]),
            benchmark=name,
            timeout_s=known.timeout_s,
            **known.read(row),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: not a task of {name} ({type(error).__name__}: {error})") from error


def _humaneval(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "entry_point": row["entry_point"],
        "reference": row["prompt"] + row["canonical_solution"],
        "tests": AssertTests(text=row["test"], checks=True),
    }


def _mbpp(row: Mapping[str, Any]) -> dict[str, Any]:
    imports = "\n".join(row["test_imports"])
    return {
        "entry_point": row.get("entry_point") or _called(row["test_list"][0]),
        "reference": f"{imports}\n{row['canonical_solution']}",
        "tests": AssertTests(text="\n".join([imports, *row["test_list"]]), checks=False),
    }


def _called(assertion: str) -> str:
    """The function that an assertion calls first."""
    found = re.match(r"assert[\s(]+(\w+)\s*\(", assertion)
    if found is None:
        raise ValueError(f"no entry_point, and none to be seen in {assertion!r}")
    return found[1]


def _humaneval_plus(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "entry_point": row["entry_point"],
        "reference": row["prompt"] + row["canonical_solution"],
        "tests": _call_tests(row["test"], num_base=None),
    }


def _mbpp_plus(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "entry_point": row["entry_point"],
        "reference": "\n".join([*row["test_imports"], row["canonical_solution"]]),
        "tests": _call_tests(row["test"], num_base=len(row["test_list"])),
    }


def _call_tests(text: str, *, num_base: int | None) -> CallTests:
    """Take a test of EvalPlus's release apart, line by line: its literals are up to a megabyte long."""
    body = textwrap.dedent(text[text.index("def check(") :].partition("\n")[2]) if "def check(" in text else text
    lines = body.split("\n")
    values = dict(line.split(" = ", 1) for line in lines if line.startswith(("inputs = ", "results = ")))
    last = next(line for line in reversed(lines) if line.strip())
    tolerance = re.search(r"(?:, |<= )([0-9.e-]+)\)?$", last)
    if tolerance is None:
        raise ValueError(f"no tolerance in the last line of its test: {last[:80]!r}")
    return CallTests(
        preamble=text.partition("def check(")[0] if body is not text else text.partition("\ninputs = ")[0],
        inputs=values["inputs"],
        results=values.get("results", "[ref_func(*_copy.deepcopy(arguments)) for arguments in inputs]"),
        tolerance=float(tolerance[1]),
        num_base=num_base,
    )


def _livecodebench(row: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {test["testtype"] for test in row["public_tests"]}
    if kinds not in ({"stdin"}, {"functional"}):
        raise ValueError(f"tests of the kinds {sorted(kinds)}; expected stdin or functional")
    pairs = tuple((test["input"], test["output"]) for test in row["public_tests"])
    is_stdin = kinds == {"stdin"}
    return {
        "entry_point": "" if is_stdin else f"Solution.{json.loads(row['metadata'])['func_name']}",
        "reference": "",
        "tests": ExampleTests(pairs=pairs, is_stdin=is_stdin),
    }


BENCHMARKS: Mapping[str, CodeBenchmark] = {
    "humaneval": CodeBenchmark(
        files=("humaneval.jsonl", "HumanEval.jsonl"),
        num_tasks=164,
        digest="f2a6d785f5686da24a6aef19d17bcf923c9539bfa022130efcd205d063f9b3ed",
        timeout_s=10.0,
        read=_humaneval,
    ),
    "humaneval_plus": CodeBenchmark(
        files=("humaneval_plus.jsonl",),
        num_tasks=164,
        digest="c61275db9f2d3b122ec744fe2afba85c47cffc5d366cd6c00ee3a829c01f5d49",
        timeout_s=30.0,
        read=_humaneval_plus,
    ),
    "mbpp": CodeBenchmark(
        files=("mbpp_sanitized_399.jsonl", "mbpp_sanitized.jsonl", "mbpp.jsonl"),
        num_tasks=399,
        digest="14cef3d5105198529ff14290ee54b5e7691ae9fd91633521c8f2d027a77a64ad",
        timeout_s=10.0,
        read=_mbpp,
    ),
    "mbpp_plus": CodeBenchmark(
        files=("mbpp_plus.jsonl",),
        num_tasks=378,
        digest="ba0053c28fc2a4685c93b2e9dcbd595b90f77a6b9b91445a8623186dd2a8d506",
        timeout_s=30.0,
        read=_mbpp_plus,
    ),
    "livecodebench": CodeBenchmark(
        files=("livecodebench_v1_public.jsonl", "livecodebench.jsonl"),
        num_tasks=400,
        digest="f0e0b90a1cc52035bbe02a2b9dbfa576aef4d5f1d30c25e4fdb611269158f776",
        timeout_s=10.0,
        read=_livecodebench,
    ),
}
"""By the name that the command line knows."""
