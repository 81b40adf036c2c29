"""Many programs against a benchmark: what is read, remembered and summed up."""

import asyncio
import json
from pathlib import Path

import pytest

from thor_tir.errors import UsageError
from thor_tir.eval.code.benchmark import control_programs, evaluate_code, read_programs, summarise
from thor_tir.eval.code.check import CodeVerdict
from thor_tir.eval.code.extract_program import find_program, program_from_completion
from thor_tir.execution import Status
from thor_tir.problems.code_tasks import AssertTests, CodeTask
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.storage.journal import Journal

PROMPT = "from typing import List\n\ndef first(xs: List[int]) -> int:\n    '''The first.'''\n"


def task(number: int, benchmark: str = "humaneval") -> CodeTask:
    return CodeTask(
        id=f"HumanEval+/{number}",
        benchmark=benchmark,
        prompt=PROMPT,
        entry_point="first",
        reference=PROMPT + "    return xs[0]\n",
        tests=AssertTests(text="def check(f):\n    assert f([3, 4]) == 3\n", checks=True),
        timeout_s=5.0,
        fingerprint="",
    )


def verdict(number: int, passed: bool, base: bool | None = None) -> CodeVerdict:
    return CodeVerdict(task_id=str(number), passed=passed, base=base, reason="", status=Status.OK, seconds=0.0)


def test_a_finished_program_is_not_run_again_and_another_program_is_not_taken_for_it(tmp_path: Path) -> None:
    tasks = [task(0), task(1)]
    programs = {**control_programs(tasks[:1], "canonical"), **control_programs(tasks[1:], "none")}

    async def work(path: Path) -> list[bool]:
        async with LocalSandbox(LocalSandboxConfig(workers=1, modules=("json",))) as sandbox:
            found = await evaluate_code(tasks, programs, sandbox, journal=Journal(path))
        return [found[task.id][0].passed for task in tasks]

    path = tmp_path / "verdicts.jsonl"
    assert asyncio.run(work(path)) == [True, False]
    # Turn one stored verdict round: the second run must believe the file.
    path.write_text(path.read_text().replace('"passed": false', '"passed": true'))
    assert asyncio.run(work(path)) == [True, True]
    programs["HumanEval+/1"] = ["def first(xs): return 3\n"]
    with pytest.raises(UsageError, match=r"another program for HumanEval\+/1#0"):
        asyncio.run(work(path))


def test_pass_at_k_is_unbiased_and_the_interval_is_over_tasks() -> None:
    # Task 0: 1 of 2 correct, so pass@2 = 1; task 1: 0 of 2. pass@1 = (1/2 + 0) / 2.
    verdicts = {"0": [verdict(0, True), verdict(0, False)], "1": [verdict(1, False), verdict(1, False)]}
    found = summarise(verdicts, "mine", num_tasks=3, ks=(1, 2, 5))
    assert (found["tasks"], found["samples"], found["passed"]) == (2, 4, 1)
    assert {k: each["value"] for k, each in found["pass_at"].items()} == {"1": 0.25, "2": 0.5}
    assert (found["without_program"], found["base_pass_at_1"]) == (1, None)


def test_base_and_plus_have_figures_of_their_own() -> None:
    found = summarise({"0": [verdict(0, False, base=True)], "1": [verdict(1, True, base=True)]}, "mine", num_tasks=2)
    assert (found["pass_at"]["1"]["value"], found["base_pass_at_1"]["value"]) == (0.5, 1.0)


@pytest.mark.parametrize(("passed", "low", "high"), [(False, 0.0, 1 - 0.025**0.1), (True, 0.025**0.1, 1.0)])
def test_at_0_and_100_percent_every_figure_has_the_exact_binomial_interval(
    passed: bool, low: float, high: float
) -> None:
    verdicts = {str(n): [verdict(n, passed, base=passed)] * 2 for n in range(10)}
    found = summarise(verdicts, "mine", num_tasks=10, ks=(1, 2))
    for estimate in (*found["pass_at"].values(), found["base_pass_at_1"]):
        assert estimate["ci95"] == [pytest.approx(low), pytest.approx(high)]


def test_programs_are_read_whole_as_a_continuation_or_out_of_a_response(tmp_path: Path) -> None:
    rows = [
        {"task_id": "HumanEval/7", "solution": "whole"},
        {"task_id": "HumanEval+/7", "completion": "    return xs[0]\ndef other(): pass\n"},
        {"task_id": "humaneval/7", "response": "Here:\n```python\ndef first(xs):\n    return xs[0]\n```\nDone."},
    ]
    path = tmp_path / "s.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole, continued, extracted = read_programs(path, [task(7)])["HumanEval+/7"]
    assert whole == "whole"
    assert continued == PROMPT + "    return xs[0]"
    assert extracted == "from typing import List\ndef first(xs):\n    return xs[0]\n"
    path.write_text('{"task_id": "HumanEval/8", "solution": ""}\n')
    with pytest.raises(UsageError, match="line 1: the benchmark has no task 'HumanEval/8'"):
        read_programs(path, [task(7)])


def test_the_last_block_that_defines_the_function_counts_and_thoughts_do_not() -> None:
    inner = "<think>```python\ndef first(xs): return 0\n```</think>"
    answer = "```python\ndef first(xs): return 1\n```\n```py\ndef first(xs): return 2\n```\n```\nfirst([1])\n```"
    assert "return 2" in find_program(task(0, "mbpp"), inner + answer)
    assert find_program(task(0), "```python\n    return xs[0]\n```") == PROMPT + "    return xs[0]\n"
    assert find_program(task(0, "mbpp"), "first = max") == "first = max\n"


def test_a_completion_ends_where_the_function_does() -> None:
    body = "    a = xs\n    return a[0]"
    for rest in ("\n\nprint(first([1]))", "\nif __name__ == '__main__':\n    pass", "\nclass A:\n    pass", ""):
        assert program_from_completion(task(0), body + rest).rstrip() == PROMPT + body
