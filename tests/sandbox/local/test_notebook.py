"""Programs as cells: earlier ones are in force, silently, and the last expression is shown where that is asked for."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits, Notebook

Run = Callable[..., ExecutionResult]
ROOT = "import math\ndef root(n):\n    return math.sqrt(n)\n"


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    config = LocalSandboxConfig(workers=1, limits=Limits(timeout_s=2.0), modules=("math",))
    with asyncio.Runner() as runner:
        sandbox = runner.run(LocalSandbox(config).__aenter__())
        yield lambda code, **cell: runner.run(sandbox.run(code, notebook=Notebook(**cell)))
        runner.run(sandbox.close())


@pytest.mark.parametrize(
    ("code", "cell", "printed"),
    [
        ("print(x + 1)", {"earlier": ("x = 1\nprint('not again')",)}, "2\n"),
        ("print(root(9))", {"earlier": (ROOT,)}, "3.0\n"),
        ("print(root(9))", {"earlier": ("root = 1", ROOT)}, "3.0\n"),
        ("w('now')", {"earlier": ("import os, sys; w = sys.stdout.write; w('no'); os.write(2, b'no')",)}, "now"),
        ("print(y)", {"earlier": ("y = 3\nraise SystemExit(0)",)}, "3\n"),
        ("x = 3\nx * 7", {"echoes": True}, "21\n"),
        ("x = 3\nprint(x)", {"echoes": True}, "3\n"),
        ("'a'\n", {"echoes": True, "earlier": ("'b'",)}, "'a'\n"),
        ("x = 3", {"echoes": True}, ""),
        ("x = 3\nx * 7", {}, ""),
    ],
)
def test_a_cell_prints_its_own_output_alone(run: Run, code: str, cell: dict, printed: str) -> None:
    result = run(code, **cell)
    assert (result.stdout, result.stderr) == (printed, "")


def test_a_fault_is_located_in_the_cell_itself(run: Run) -> None:
    for echoes in (False, True):
        result = run("y = 1\nroot('a')", earlier=(ROOT,), echoes=echoes)
        assert (result.status, result.error) == (Status.RUNTIME, "TypeError")
        assert "line 2" in result.stderr
        assert "earlier" not in result.stderr
        assert run("x = (", earlier=(ROOT,), echoes=echoes).status is Status.SYNTAX


def test_nothing_is_left_for_a_program_that_stands_alone(run: Run) -> None:
    assert run("print(x)", earlier=("x = 1",)).succeeds()
    assert run("print(x)").error == "NameError"


def test_random_numbers_are_those_of_the_first_time(run: Run) -> None:
    drawn = "import random\nr = random.random()\n"
    assert run("print(r)", earlier=(drawn,)).stdout == run(drawn + "print(r)").stdout
