"""Tasks whose answer is a program: the three ways in which a benchmark says what is right, and rows as tasks.

A row of a benchmark's file, or of its copy on the Hugging Face hub, gives the fields of a task. Every reader raises
KeyError, TypeError or ValueError for a row that is none of its benchmark's.
"""

import json
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Pair = tuple[str, str]
"""An input and the output that it should give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssertTests:
    """A program of assertions, as HumanEval and MBPP have it."""

    text: str
    """Source of the assertions."""
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
    """Number of the first inputs that are the original benchmark's; None where the file does not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExampleTests:
    """Pairs of input and output, as LiveCodeBench has them: lines for a whole program, or JSON for a method."""

    pairs: tuple[Pair, ...]
    """Inputs with their expected outputs."""
    is_stdin: bool
    """True if the program reads standard input, False if a method is called."""
    hidden: Callable[[], Sequence[Pair]] | None = None
    """Reads further pairs, which are not kept: those of a whole release are gigabytes."""

    def every_pair(self) -> list[Pair]:
        """Those that are shown and those that are hidden. Raises UsageError where the latter are damaged."""
        return [*self.pairs, *(self.hidden() if self.hidden is not None else ())]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTask:
    """One programming task."""

    id: str
    """Name of the task in its benchmark."""
    benchmark: str
    """A name of `code_sources.BENCHMARKS`."""
    prompt: str
    """Text of the task: the head of a function (HumanEval), or a sentence."""
    entry_point: str
    """The function that is called; `Solution.name` for a method; empty for a program that reads its input."""
    reference: str
    """The reference solution as a whole program; empty where the benchmark has none."""
    tests: AssertTests | CallTests | ExampleTests
    """Tests that a program must pass."""
    timeout_s: float
    """For the program under test: on all calls of a set of EvalPlus together, or on one example. Of such a set it is
    the least: where the reference itself is slow it is longer, see `eval/code/check.py`."""
    fingerprint: str
    """SHA-256 of everything above that decides a verdict."""
    shown: str = ""
    """Text shown beside the prompt: an assertion (MBPP), or the head of the class to be written (LiveCodeBench)."""
    subject: str = ""
    """Subject of the task, where its source names one."""
    level: str = ""
    """Difficulty, where its source names one."""
    date: str = ""
    """Day of the contest that it was first asked in, as 2023-08-21; empty where it is unknown."""

    @property
    def is_continued(self) -> bool:
        """True if the prompt is the beginning of the program."""
        return self.benchmark.startswith("humaneval")


TaskFields = dict[str, Any]
CodeRow = Mapping[str, Any]


def humaneval_fields(row: CodeRow) -> TaskFields:
    """HumanEval: the head of a function, and `check(candidate)` with assertions."""
    return {**_function(row), "tests": AssertTests(text=row["test"], checks=True)}


def humaneval_plus_fields(row: CodeRow) -> TaskFields:
    """HumanEval+: the same heads with tables of arguments and results."""
    return {**_function(row), "tests": _call_tests(row["test"], num_base=None)}


def mbpp_fields(row: CodeRow) -> TaskFields:
    """MBPP: a sentence, and three assertions that call the function by name."""
    imports = "\n".join(row["test_imports"])
    tests = AssertTests(text="\n".join([imports, *row["test_list"]]), checks=False)
    return {**_sentence(row), "tests": tests}


def mbpp_plus_fields(row: CodeRow) -> TaskFields:
    """MBPP+: the same sentences with tables of arguments and results."""
    return {**_sentence(row), "tests": _call_tests(row["test"], num_base=len(row["test_list"]))}


def livecodebench_fields(row: CodeRow) -> TaskFields:
    """LiveCodeBench as it is carried with its public tests alone: `public_tests` is a list, and nothing is packed."""
    fields = contest_fields(row, [(test["input"], test["output"]) for test in row["public_tests"]])
    return {**fields, "id": row["id"], "prompt": row["prompt"]}


def contest_fields(row: CodeRow, pairs: list[Pair]) -> TaskFields:
    """Fields of a row of LiveCodeBench in either form. As in its own runner, `func_name` makes a task a method's."""
    if not pairs:
        raise ValueError("no public tests")
    name = json.loads(row["metadata"]).get("func_name")
    return {
        "entry_point": f"Solution.{name}" if name else "",
        "reference": "",
        "tests": ExampleTests(pairs=tuple((str(given), str(wanted)) for given, wanted in pairs), is_stdin=not name),
        "shown": str(row.get("starter_code") or ""),
        "subject": str(row.get("platform") or ""),
        "level": str(row.get("difficulty") or ""),
        "date": str(row.get("contest_date") or "")[:10],
    }


def _function(row: CodeRow) -> TaskFields:
    return {
        "id": row.get("id") or row["task_id"],
        "prompt": row["prompt"],
        "entry_point": row["entry_point"],
        "reference": row["prompt"] + row["canonical_solution"],
    }


def _sentence(row: CodeRow) -> TaskFields:
    imports = "\n".join(row["test_imports"])
    return {
        "id": row.get("id") or f"MBPP/{row['task_id']}",
        "prompt": row["prompt"],
        "entry_point": row.get("entry_point") or _called(row["test_list"][0]),
        "reference": f"{imports}\n{row.get('canonical_solution') or row['code']}",
        "shown": row["test_list"][0],
    }


def _called(assertion: str) -> str:
    """The function that an assertion calls first."""
    found = re.match(r"assert[\s(]+(?:(?:set|sorted|math\.isclose)\()?(\w+)\s*\(", assertion)
    if found is None:
        raise ValueError(f"no entry_point, and none to be seen in {assertion!r}")
    return found[1]


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
