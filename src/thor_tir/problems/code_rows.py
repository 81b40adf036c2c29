"""From a row of a benchmark's file, or of its copy on the Hugging Face hub, to the fields of a task.

Every reader raises KeyError, TypeError or ValueError for a row that is none of its benchmark's.
"""

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

from thor_tir.problems.code_tasks import AssertTests, CallTests, ExampleTests, Pair

Fields = dict[str, Any]
CodeRow = Mapping[str, Any]


def humaneval(row: CodeRow) -> Fields:
    """HumanEval: the head of a function, and `check(candidate)` with assertions."""
    return {**_function(row), "tests": AssertTests(text=row["test"], checks=True)}


def humaneval_plus(row: CodeRow) -> Fields:
    """HumanEval+: the same heads with tables of arguments and results."""
    return {**_function(row), "tests": _call_tests(row["test"], num_base=None)}


def mbpp(row: CodeRow) -> Fields:
    """MBPP: a sentence, and three assertions that call the function by name."""
    imports = "\n".join(row["test_imports"])
    tests = AssertTests(text="\n".join([imports, *row["test_list"]]), checks=False)
    return {**_sentence(row), "tests": tests}


def mbpp_plus(row: CodeRow) -> Fields:
    """MBPP+: the same sentences with tables of arguments and results."""
    return {**_sentence(row), "tests": _call_tests(row["test"], num_base=len(row["test_list"]))}


def livecodebench(row: CodeRow) -> Fields:
    """LiveCodeBench as it is carried with its public tests alone: `public_tests` is a list, and nothing is packed."""
    fields = contest_fields(row, [(test["input"], test["output"]) for test in row["public_tests"]])
    return {**fields, "id": row["id"], "prompt": row["prompt"]}


def contest_fields(row: CodeRow, pairs: list[Pair]) -> Fields:
    """What a row of LiveCodeBench says in either form. As in its own runner, `func_name` makes a task a method's."""
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


def _function(row: CodeRow) -> Fields:
    return {
        "id": row.get("id") or row["task_id"],
        "prompt": row["prompt"],
        "entry_point": row["entry_point"],
        "reference": row["prompt"] + row["canonical_solution"],
    }


def _sentence(row: CodeRow) -> Fields:
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
