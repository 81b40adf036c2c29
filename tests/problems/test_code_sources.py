"""Files of code benchmarks: what is read from a row, and what is refused."""

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from thor_tir.errors import UsageError
from thor_tir.problems import code_sources
from thor_tir.problems.code_sources import code_tasks
from thor_tir.problems.code_tasks import AssertTests, CallTests, ExampleTests

HUMANEVAL = {
    "id": "HumanEval/0",
    "prompt": "def f(n):\n",
    "entry_point": "f",
    "canonical_solution": "    return n\n",
    "test": "def check(candidate):\n    assert candidate(1) == 1\n",
}
MBPP = {
    "id": "MBPP/1",
    "prompt": "Return n.",
    "canonical_solution": "def f(n):\n    return n",
    "test_imports": ["import math"],
    "test_list": ["assert (f(1)) == 1"],
}
PLUS_CHECK = """import numpy as np

def check(candidate):
    inputs = [[1], [2]]
    results = [1, 2]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 1e-06)
"""
PLUS_COMPUTED = """from math import inf
def ref_func(n):
    return n

inputs = [[1], [2]]
for i, inp in enumerate(inputs):
    assertion(f(*inp), ref_func(*inp), 0)
"""


def write(folder: Path, name: str, *rows: dict[str, Any], packed: bool = False) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path = folder / name
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def test_a_humaneval_row_gives_the_whole_reference_program(tmp_path: Path) -> None:
    write(tmp_path, "humaneval.jsonl", HUMANEVAL)
    (task,) = code_tasks("humaneval", tmp_path, verify=False)
    assert task.reference == "def f(n):\n    return n\n"
    assert task.tests == AssertTests(text=HUMANEVAL["test"], checks=True)


def test_an_mbpp_row_without_an_entry_point_takes_the_first_function_that_is_called(tmp_path: Path) -> None:
    (task,) = code_tasks("mbpp", write(tmp_path, "any.jsonl", MBPP), verify=False)
    assert task.entry_point == "f"
    assert task.tests == AssertTests(text="import math\nassert (f(1)) == 1", checks=False)


def test_a_plus_row_is_taken_apart_into_inputs_results_and_tolerance(tmp_path: Path) -> None:
    row = {**HUMANEVAL, "test": PLUS_CHECK}
    (task,) = code_tasks("humaneval_plus", write(tmp_path, "h.jsonl.gz", row, packed=True), verify=False)
    assert task.tests == CallTests(
        preamble="import numpy as np\n\n", inputs="[[1], [2]]", results="[1, 2]", tolerance=1e-6
    )


def test_results_that_the_file_computes_are_computed_by_its_reference_function(tmp_path: Path) -> None:
    row = {**MBPP, "entry_point": "f", "test": PLUS_COMPUTED}
    (task,) = code_tasks("mbpp_plus", write(tmp_path, "m.jsonl", row), verify=False)
    assert isinstance(task.tests, CallTests)
    assert task.tests.num_base == 1  # assertions in test_list
    names: dict[str, Any] = {"inputs": [[1], [2]]}
    exec(f"import copy as _copy\n{task.tests.preamble}\nresults = {task.tests.results}", names)
    assert names["results"] == [1, 2]


def test_livecodebench_tells_programs_that_read_from_methods(tmp_path: Path) -> None:
    reading = {"id": "a", "prompt": "Add.", "metadata": "{}"}
    reading["public_tests"] = [{"input": "1 2", "output": "3", "testtype": "stdin"}]  # type: ignore[assignment]
    method = {"id": "b", "prompt": "Add.", "metadata": '{"func_name": "add"}'}
    method["public_tests"] = [{"input": "1\n2", "output": "3", "testtype": "functional"}]  # type: ignore[assignment]
    first, second = code_tasks("livecodebench", write(tmp_path, "l.jsonl", reading, method), verify=False)
    assert (first.entry_point, first.tests) == ("", ExampleTests(pairs=(("1 2", "3"),), is_stdin=True))
    assert (second.entry_point, second.tests) == ("Solution.add", ExampleTests(pairs=(("1\n2", "3"),), is_stdin=False))


def test_what_is_not_the_known_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no file of humaneval at .*humaneval.jsonl or humaneval.jsonl.gz"):
        code_tasks("humaneval", tmp_path)
    short = write(tmp_path, "short.jsonl", HUMANEVAL)
    with pytest.raises(UsageError, match="humaneval has 164 tasks, found 1"):
        code_tasks("humaneval", short)
    other = write(tmp_path, "other.jsonl", *[{**HUMANEVAL, "id": str(n)} for n in range(164)])
    with pytest.raises(UsageError, match=r"the SHA-256 of its tasks is 617daa23f937.*--any-version"):
        code_tasks("humaneval", other)
    with pytest.raises(UsageError, match="line 1: not a task of mbpp"):
        code_tasks("mbpp", short, verify=False)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"{}" * 99)[:-9])
    with pytest.raises(UsageError, match=r"cut\.gz is damaged"):
        code_tasks("mbpp", cut)
    with pytest.raises(UsageError, match="known: humaneval, humaneval_plus, mbpp"):
        code_tasks("apps", short)


MOST_BYTES = 2**24


@pytest.fixture
def low_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert code_sources.MOST_BYTES == 2**28  # the same rule at a size that a test can afford
    monkeypatch.setattr(code_sources, "MOST_BYTES", MOST_BYTES)


def bomb(path: Path, *, members: int) -> Path:
    """A small packed file that holds twice what is allowed, in so many parts."""
    part = gzip.compress(b"\n" * (2 * MOST_BYTES // members), compresslevel=9)
    path.write_bytes(part * members)
    return path


@pytest.mark.usefixtures("low_bound")
@pytest.mark.parametrize("members", [1, 16])
def test_a_file_that_unpacks_without_end_is_refused_before_memory_is_used(tmp_path: Path, members: int) -> None:
    file = bomb(tmp_path / "bomb.jsonl.gz", members=members)
    tracemalloc.start()
    with pytest.raises(UsageError, match="holds more than 16 MiB when unpacked"):
        code_tasks("humaneval", file, verify=False)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 3 * MOST_BYTES


@pytest.mark.usefixtures("low_bound")
def test_a_bomb_in_a_folder_or_under_a_plain_name_is_refused_too(tmp_path: Path) -> None:
    bomb(tmp_path / "humaneval.jsonl.gz", members=1)
    with pytest.raises(UsageError, match="when unpacked"):
        code_tasks("humaneval", tmp_path, verify=False)
    bomb(tmp_path / "mbpp.jsonl", members=1)
    with pytest.raises(UsageError, match="when unpacked"):
        code_tasks("mbpp", tmp_path / "mbpp.jsonl", verify=False)
