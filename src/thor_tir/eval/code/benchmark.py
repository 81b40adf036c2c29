"""Many programs against a benchmark: resumable, and summed up with intervals."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypedDict

from thor_tir.errors import UsageError
from thor_tir.eval.code.check import CodeVerdict, Examiner
from thor_tir.eval.code.extract_program import EXTRACTORS, ExtractorName, program_from_completion
from thor_tir.eval.metrics import as_json
from thor_tir.eval.results import Estimate
from thor_tir.eval.statistics import bootstrap, pass_at_k
from thor_tir.execution import Status
from thor_tir.problem import digest
from thor_tir.problems.code_tasks import CodeTask
from thor_tir.sandbox.protocol import Sandbox
from thor_tir.storage.journal import Journal

CONCURRENCY = 16
"""Programs that are examined at once; the sandbox queues what it cannot run."""

Verdicts = dict[str, list[CodeVerdict]]
"""By task, in the order of its samples."""


async def evaluate_code(
    tasks: Sequence[CodeTask],
    samples_by_task: Mapping[str, Sequence[str]],
    sandbox: Sandbox,
    *,
    journal: Journal | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Verdicts:
    """Verdicts on whole programs, for the tasks that have samples. What the journal holds is not run again.

    `advance` is called once a program. Raises SandboxUnavailable; what was finished before is in the journal. Raises
    UsageError when the journal holds a verdict on another program.
    """
    examiner, gate = Examiner(sandbox), asyncio.Semaphore(CONCURRENCY)

    async def check_one(task: CodeTask, sample: int, program: str) -> CodeVerdict:
        key = f"{task.id}#{sample}"
        async with gate:
            verdict = _remembered(journal, key, program)
            if verdict is None:
                verdict = await examiner.check(task, program)
                if journal is not None:
                    journal.add(key, {"sample": sample, "program": digest(program), **asdict(verdict)})
        advance()
        return verdict

    todo = [(task, k, program) for task in tasks for k, program in enumerate(samples_by_task.get(task.id, ()))]
    running = [asyncio.create_task(check_one(*item)) for item in todo]
    try:
        verdicts = await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    found: Verdicts = {}
    for verdict in verdicts:
        found.setdefault(verdict.task_id, []).append(verdict)
    return found


def _remembered(journal: Journal | None, key: str, program: str) -> CodeVerdict | None:
    if journal is None or key not in journal:
        return None
    row = dict(journal[key])
    if row.get("program") != digest(program):
        raise UsageError(f"{journal.path} holds a verdict on another program for {key}; give another --out")
    fields = {name: row[name] for name in ("task_id", "passed", "base", "reason", "seconds")}
    return CodeVerdict(**fields, status=Status(row["status"]))


class CodeSummary(TypedDict):
    """The content of a summary's file."""

    benchmark: str
    """Name of the benchmark."""
    tasks: int
    """Tasks that have a program."""
    without_program: int
    """Tasks that were asked for and have none; no figure counts them."""
    samples: int
    """Programs."""
    passed: int
    """Programs that pass every test."""
    pass_at: dict[str, Estimate]
    """pass@k by k, for each k that every task has samples for."""
    base_pass_at_1: Estimate | None
    """pass@1 by the original benchmark's tests alone, of a plus set that says which these are."""
    timeouts: int
    """Programs that ran out of time."""


def summarise(verdicts: Verdicts, benchmark: str, *, num_tasks: int, ks: Sequence[int] = (1,)) -> CodeSummary:
    """Counts, and pass@1 and pass@k with their 95 % intervals over the tasks, of a benchmark of `num_tasks`.

    Intervals are those of `eval/statistics.py: bootstrap`, as in every evaluation. Raises ValueError without verdicts.
    """
    rows = list(verdicts.values())
    every = [verdict for row in rows for verdict in row]
    fewest = min(len(row) for row in rows)
    has_base = all(verdict.base is not None for verdict in every)

    def estimate(k: int, passes: Callable[[CodeVerdict], bool]) -> Estimate:
        return as_json(bootstrap([pass_at_k(len(row), sum(map(passes, row)), k) for row in rows], seed=0))

    return {
        "benchmark": benchmark,
        "tasks": len(rows),
        "without_program": num_tasks - len(rows),
        "samples": len(every),
        "passed": sum(verdict.passed for verdict in every),
        "pass_at": {str(k): estimate(k, lambda verdict: verdict.passed) for k in sorted({1, *ks}) if k <= fewest},
        "base_pass_at_1": estimate(1, lambda verdict: bool(verdict.base)) if has_base else None,
        "timeouts": sum(verdict.status is Status.TIMEOUT for verdict in every),
    }


def control_programs(tasks: Sequence[CodeTask], kind: str) -> dict[str, list[str]]:
    """The reference solutions (`canonical`), or functions that return None (`none`), one a task."""
    if kind == "none":
        return {task.id: [_none_program(task)] for task in tasks}
    without = [task.id for task in tasks if not task.reference]
    if without:
        raise UsageError(f"{tasks[0].benchmark} has no reference solutions; give --solutions a file of programs")
    return {task.id: [task.reference] for task in tasks}


def _none_program(task: CodeTask) -> str:
    owner, _, method = task.entry_point.rpartition(".")
    if not method:
        return "pass\n"
    head = f"class {owner}:\n    " if owner else ""
    return f"{head}def {method}(*args, **kwargs): return None\n"


def read_programs(path: Path, tasks: Sequence[CodeTask], extractor: ExtractorName = "thor") -> dict[str, list[str]]:
    """Programs of a JSONL file: on each line `task_id`, and `solution`, `completion` or `response`.

    A solution is a whole program; a completion is what a base model wrote behind the prompt; from a response (a whole
    answer with fences) `extractor` takes the program. Several lines of a task are its samples. `HumanEval/3` names also
    the task of the plus set. Raises UsageError naming file and line.
    """
    if not path.is_file():
        raise UsageError(f"no programs at {path}: expected a JSONL file, `canonical` or `none`")
    known = {task.id: task for task in tasks}
    aliases = {task.id.replace("+/", "/").casefold(): task for task in tasks}
    found: dict[str, list[str]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").split("\n"), 1):
        if line.strip():
            task, program = _program(line, {**aliases, **known}, f"{path}, line {number}", extractor)
            found.setdefault(task.id, []).append(program)
    if not found:
        raise UsageError(f"{path} holds no programs; expected `task_id` and `solution` on each line")
    return found


def _program(line: str, known: Mapping[str, CodeTask], where: str, extractor: ExtractorName) -> tuple[CodeTask, str]:
    try:
        row = json.loads(line)
        name = row.get("task_id", row.get("id"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise UsageError(f"{where}: expected a JSON object ({error})") from error
    task = known.get(str(name)) or known.get(str(name).casefold())
    if task is None:
        raise UsageError(f"{where}: the benchmark has no task {name!r}")
    readers: Mapping[str, Callable[[CodeTask, str], str]] = {
        "solution": lambda _, text: text,
        "completion": program_from_completion,
        "response": lambda task, text: EXTRACTORS[extractor](task, text) or "",
    }
    for field, read in readers.items():
        if isinstance(row.get(field), str):
            return task, read(task, row[field])
    raise UsageError(f"{where}: expected a string under `solution`, `completion` or `response`")
