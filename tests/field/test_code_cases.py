"""Replies to code tasks that public reports tell of: the program in each runs and is right."""

import asyncio
from typing import Any

import pytest

from field_cases import field_cases
from thor_tir.eval.code.check import CodeGrader
from thor_tir.problem import Problem
from thor_tir.problems.code_tasks import AssertTests, CodeTask, ExampleTests
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.verdict import Outcome

HEAD = 'from typing import List\n\n\ndef top(xs: List[int]) -> int:\n    """The largest of a list."""\n'
CHECK = "def check(f):\n    assert f([3, 9, 4]) == 9 and f([-2]) == -2\n"


def task_of(case: dict[str, Any]) -> CodeTask:
    entry = case["entry_point"]
    return CodeTask(
        id="case",
        benchmark="humaneval" if entry else "livecodebench",
        prompt=HEAD if entry else "Print the successor of a number.",
        entry_point=entry,
        reference=f"{HEAD}    return max(xs)\n" if entry else "",
        tests=AssertTests(text=CHECK, checks=True)
        if entry
        else ExampleTests(pairs=(("4\n", "5\n"), ("-1\n", "0\n")), is_stdin=True),
        timeout_s=10,
        fingerprint="",
    )


@pytest.mark.parametrize("case", field_cases("code evaluation"))
def test_the_program_of_a_reply_runs_and_is_right(case: dict[str, Any]) -> None:
    assert case["expected"] == "the program runs and is right"
    task = task_of(case["input"])

    async def outcome() -> Outcome:
        async with LocalSandbox(LocalSandboxConfig(workers=1, modules=("json",), heavy_modules=())) as sandbox:
            problem = Problem(id=task.id, question="", answer="", source="mine")
            return (await CodeGrader({task.id: task}, sandbox).grade(problem, case["input"]["response"])).outcome

    assert asyncio.run(outcome()) is Outcome.CORRECT
