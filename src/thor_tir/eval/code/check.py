"""One program against one task: run what has to be run, and judge outcomes outside of the program's process.

What could still deceive: a program that finds the benchmark's own file where it runs (give the sandbox no folder with
it), and a program that knows the answers by heart. Printing, early exits and replaced builtins cannot: see
`programs.py`. Only plain data is judged; a result of another kind (an object, a function) equals nothing.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.eval.code import harness as programs
from thor_tir.eval.code.equality import matches_evalplus, matches_printed, matches_returned
from thor_tir.eval.code.extract_program import EXTRACTORS, ExtractorName
from thor_tir.eval.code.value_json import decode, encode
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.problems.code_tasks import AssertTests, CallTests, CodeTask, ExampleTests
from thor_tir.sandbox.protocol import Limits, Sandbox
from thor_tir.trajectory import PYTHON, Trajectory
from thor_tir.verdict import Outcome, Verdict

MEMORY_BYTES = 4 * 2**30
"""As EvalPlus gives; a few reference solutions of the plus sets need more than a usual sandbox allows."""
OUTPUT_BYTES = 64 * 2**20
"""Results of some tasks are numbers of thousands of digits, by the hundred."""
TRUSTED_S = 300.0
"""For the programs that hold only the benchmark's own code."""
PACE, MOST_S = 4.0, 60.0
"""EvalPlus's `gt_time_limit_factor` and `EVALPLUS_TIMEOUT_PER_TASK`: a program may take so many times what the
reference took, and so long."""
_LCB_MODULES = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
_LCB_IMPORTS = "\n".join(
    [
        *(f"from {module} import *" for module in _LCB_MODULES),
        *(f"import {module}" for module in _LCB_MODULES if module not in ("builtins", "typing", "operator")),
        "sys.setrecursionlimit(50000)",
    ]
)
"""Imports that LiveCodeBench's own runner puts before every program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeVerdict:
    """Result of one program on one task."""

    task_id: str
    """Id of the task."""
    passed: bool
    """All tests."""
    base: bool | None
    """The original benchmark's tests alone, where a plus set says which these are."""
    reason: str
    """One sentence on what decided."""
    status: Status
    """Sandbox status of the run that decided."""
    seconds: float
    """Wall-clock time of the program's own runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcomes:
    """Outcomes of a program's calls."""

    run: ExecutionResult
    """The run that made the calls."""
    by_call: dict[int, Any]
    """Outcome of each call that ended, by its position."""

    def value(self, call: int) -> tuple[bool, Any]:
        """True and the value if the call returned, else False."""
        outcome = self.by_call.get(call)
        if not isinstance(outcome, dict) or "returned" not in outcome:
            return False, None
        try:
            return True, decode(outcome["returned"])
        except ValueError:  # the program wrote lines of its own that look like ours
            return False, None

    def failure(self, call: int) -> str:
        """Why the call has no value."""
        outcome = self.by_call.get(call)
        if isinstance(outcome, dict):
            return f"call {call + 1} raised {str(outcome.get('raised'))[:80]}"
        ending = self.run.error or self.run.status.value
        return f"ended before call {call + 1} returned ({ending})"


class Examiner:
    """Checks programs in a sandbox, and keeps what it learnt of each task from the benchmark's own code."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._known: dict[str, asyncio.Task[Any]] = {}
        self._paces: dict[str, asyncio.Task[ExecutionResult]] = {}

    async def check(self, task: CodeTask, program: str) -> CodeVerdict:
        """Run the program on the task's tests.

        Raises SandboxUnavailable for a fault of the machine, UsageError for a task whose own code does not run.
        """
        match task.tests:
            case AssertTests() as tests:
                return await self._check_asserts(task, tests, program)
            case CallTests() as tests:
                return await self._check_calls(task, tests, program)
            case ExampleTests(is_stdin=True) as tests:
                return await self._check_printed(task, tests, program)
            case ExampleTests() as tests:
                return await self._check_returned(task, tests, program)

    async def _check_asserts(self, task: CodeTask, tests: AssertTests, program: str) -> CodeVerdict:
        make = programs.recording(task.reference, task.entry_point, tests.text, checks=tests.checks)
        asked = await self._of_reference(task, make)
        calls = f"[[decode(part) for part in call] for call in _json.loads({json.dumps(asked)!r})]"
        done = await self._call(task, program, calls)
        missing = [call for call in range(len(asked)) if not isinstance(done.by_call.get(call), dict)]
        if missing:
            return _verdict(task, done.run, reason=done.failure(missing[0]))
        outcomes = [_plain(done.by_call[call]) for call in range(len(asked))]
        replay = programs.replaying(task.reference, task.entry_point, tests.text, asked, outcomes, checks=tests.checks)
        judged = await self._run(replay, TRUSTED_S)
        passed = judged.ran and programs.reported(judged.stdout).get(-1) is True
        raised = [done.failure(call) for call, outcome in enumerate(outcomes) if "raised" in outcome]
        reason = "all assertions hold" if passed else raised[0] if raised else "an assertion fails"
        return _verdict(task, done.run, reason=reason, passed=passed)

    async def _check_calls(self, task: CodeTask, tests: CallTests, program: str) -> CodeVerdict:
        inputs, expected = await self._of_reference(task, programs.tabulating(tests))
        calls = f"[(arguments, {{}}) for arguments in {tests.inputs}]"
        done = await self._call(task, program, calls)
        if done.run.status is Status.TIMEOUT and (fair_s := await self._fair_time(task, calls)) > task.timeout_s:
            done = await self._call(replace(task, timeout_s=fair_s), program, calls)
        wrong: list[tuple[int, str]] = []
        for call, (arguments, want) in enumerate(zip(inputs, expected, strict=True)):
            returned, value = done.value(call)
            if not returned:
                wrong.append((call, done.failure(call)))
            elif not matches_evalplus(value, decode(want), decode(arguments), task.entry_point, tests.tolerance):
                wrong.append((call, f"call {call + 1} returned a wrong value"))
        base = None if tests.num_base is None else all(call >= tests.num_base for call, _ in wrong)
        reason = f"{len(wrong)} of {len(inputs)} calls fail: {wrong[0][1]}" if wrong else f"{len(inputs)} calls right"
        return _verdict(task, done.run, reason=reason, passed=not wrong, base=base)

    async def _check_printed(self, task: CodeTask, tests: ExampleTests, program: str) -> CodeVerdict:
        seconds, pairs = 0.0, await asyncio.to_thread(tests.every_pair)
        for number, (given, expected) in enumerate(pairs, 1):
            run = await self._run_tested(f"{_LCB_IMPORTS}\n{program}", task.timeout_s, stdin=given)
            seconds += run.seconds
            if not run.ran:
                return _verdict(task, run, reason=f"example {number}: {run.error or run.status.value}", seconds=seconds)
            if not matches_printed(run.stdout, expected):
                return _verdict(task, run, reason=f"example {number}: wrong output", seconds=seconds)
        return _verdict(task, run, reason=f"{len(pairs)} examples right", passed=True, seconds=seconds)

    async def _check_returned(self, task: CodeTask, tests: ExampleTests, program: str) -> CodeVerdict:
        pairs = await asyncio.to_thread(tests.every_pair)
        try:
            calls = [[[json.loads(line) for line in given.split("\n")], {}] for given, _ in pairs]
            expected = [json.loads(result) for _, result in pairs]
        except ValueError as error:
            raise UsageError(f"{task.id}: an example is not JSON ({error})") from error
        done = await self._call(task, f"{_LCB_IMPORTS}\n{program}", f"_json.loads({json.dumps(calls)!r})")
        run, seconds = done.run, done.run.seconds
        for call, want in enumerate(expected):
            outcomes, at = done, call
            if done.run.status is Status.TIMEOUT and call not in done.by_call:
                # The time is for one call, and all together were given no more than that: this one alone.
                alone = f"_json.loads({json.dumps([calls[call]])!r})"
                outcomes, at = await self._call(task, f"{_LCB_IMPORTS}\n{program}", alone), 0
                run, seconds = outcomes.run, seconds + outcomes.run.seconds
            returned, value = outcomes.value(at)
            if not returned:
                return _verdict(task, run, reason=f"example {call + 1}: {outcomes.failure(at)}", seconds=seconds)
            if not matches_returned(value, want):
                return _verdict(task, run, reason=f"call {call + 1} returned a wrong value", seconds=seconds)
        return _verdict(task, run, reason=f"{len(expected)} examples right", passed=True, seconds=seconds)

    async def _fair_time(self, task: CodeTask, calls: str) -> float:
        """The time EvalPlus would give for all calls, from the processor time of the reference here; measured once."""
        if task.id not in self._paces:
            code = programs.calling(task.reference, task.entry_point, calls)
            self._paces[task.id] = asyncio.create_task(self._run(code, TRUSTED_S))
        return min(PACE * (await asyncio.shield(self._paces[task.id])).cpu_s, MOST_S)

    async def _of_reference(self, task: CodeTask, program: str) -> Any:
        """The output of a program of the benchmark's own code; run once a task."""
        if task.id not in self._known:
            self._known[task.id] = asyncio.create_task(self._tell(task, program))
        return await asyncio.shield(self._known[task.id])

    async def _tell(self, task: CodeTask, program: str) -> Any:
        run = await self._run(program, TRUSTED_S)
        found = programs.reported(run.stdout)
        if not run.ran or -1 not in found:
            raise UsageError(
                f"the benchmark's own code for {task.id} did not run ({run.error or run.status.value}); "
                f"its file or the sandbox's Python (NumPy?) is at fault: {run.stderr.strip()[-200:]}"
            )
        return found[-1]

    async def _call(self, task: CodeTask, program: str, calls: str) -> _Outcomes:
        code = programs.calling(program, task.entry_point, calls)
        run = await self._run_tested(code, task.timeout_s)
        return _Outcomes(run=run, by_call=programs.reported(run.stdout))

    async def _run_tested(self, code: str, timeout_s: float, *, stdin: str = "") -> ExecutionResult:
        """Run code of the program under test within its time, on a machine that may be busy."""
        run = await self._run(code, timeout_s, stdin=stdin)
        if run.status is Status.TIMEOUT and 0 < run.cpu_s < 0.9 * timeout_s:
            # It did not get the processor for its whole time, or sleeps: once more.
            run = await self._run(code, min(timeout_s**2 / run.cpu_s, 4 * timeout_s), stdin=stdin)
        return run

    async def _run(self, program: str, timeout_s: float, *, stdin: str = "") -> ExecutionResult:
        limits = Limits(timeout_s=timeout_s, memory_bytes=MEMORY_BYTES, output_bytes=OUTPUT_BYTES)
        return await self._sandbox.run(program, limits, stdin=stdin)


def _plain(outcome: dict[str, Any]) -> dict[str, Any]:
    """An outcome in the form that the harness writes, whatever the program wrote in its place."""
    try:
        return {"returned": encode(decode(outcome["returned"]))}
    except (KeyError, ValueError):
        return {"raised": str(outcome.get("raised"))[:80]}


def _verdict(
    task: CodeTask,
    run: ExecutionResult,
    *,
    reason: str,
    passed: bool = False,
    base: bool | None = None,
    seconds: float | None = None,
) -> CodeVerdict:
    return CodeVerdict(
        task_id=task.id,
        passed=passed,
        base=base,
        reason=reason,
        status=run.status,
        seconds=round(run.seconds if seconds is None else seconds, 4),
    )


def written(trajectory: Trajectory) -> str:
    """Everything that the model wrote, calls in their fences: a program that was run may also be the answer."""
    parts: list[str] = []
    for step in trajectory.steps:
        parts.append(step.thought.text)
        if step.action is not None and step.action.tool == PYTHON:
            parts.append("\n```python\n" + step.action.code.strip("\n") + "\n```\n")
    return "".join(parts)


class CodeGrader:
    """Judges the program of a text by the tests of its task."""

    def __init__(self, tasks: Mapping[str, CodeTask], sandbox: Sandbox, extractor: ExtractorName = "thor") -> None:
        """`tasks` are looked up by the ids of problems; `extractor` is the way from a text to its program."""
        self._extract = EXTRACTORS[extractor]
        self._tasks = tasks
        self._examiner = Examiner(sandbox)

    async def grade(self, problem: Problem, text: str) -> Verdict:
        """CORRECT where every test passes, WRONG otherwise; `extracted` is the program, or None where there is none.

        Raises SandboxUnavailable for a fault of the machine, UsageError for a task whose own code does not run.
        """
        task = self._tasks[problem.id]
        program = self._extract(task, text)
        if program is None:
            return Verdict(outcome=Outcome.WRONG, extracted=None, reason="no program")
        found = await self._examiner.check(task, program)
        outcome = Outcome.CORRECT if found.passed else Outcome.WRONG
        return Verdict(outcome=outcome, extracted=program, reason=found.reason)
