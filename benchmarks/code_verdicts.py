"""Verdicts on programs beside those of the `evalplus` package, on the same completions: references and mutants.

    python -m venv /tmp/peer && /tmp/peer/bin/pip install evalplus==0.3.1
    python benchmarks/code_verdicts.py --peer /tmp/peer/bin/python --data ../shared/data/bench [--minutes 8]

A mutant is a reference with one operator or number changed, so that it may be right, wrong or endless. Both sides test
one program at a time with the same arguments; evalplus computes the expected results itself, from the reference. Where
they differ both are asked again with twice as much time, and each says why: a person decides who is right.
"""

import ast
import asyncio
import copy
import json
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

import tyro
from rich.console import Console

from rounds import machine, save
from thor_tir.eval.code.check import CodeVerdict, Examiner
from thor_tir.problems.code_sources import code_tasks
from thor_tir.problems.code_tasks import CallTests, CodeTask
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig

PEER = r"""
import json, os, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
from evalplus.eval import untrusted_check
from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
from evalplus.gen.util import trusted_exec
known = {}
for line in sys.stdin:
    asked = json.loads(line)
    if asked["task"] not in known:
        names = {}
        exec(asked["preamble"], names)
        exec("inputs = " + asked["inputs"], names)
        entry = asked["entry_point"]
        expected, times = trusted_exec(
            asked["reference"], names["inputs"], entry, record_time=True,
            output_not_none=entry in MBPP_OUTPUT_NOT_NONE_TASKS,
        )
        known = {asked["task"]: (names["inputs"], expected, times)}
    inputs, expected, times = known[asked["task"]]
    status, details = untrusted_check(
        asked["dataset"], asked["program"], inputs, asked["entry_point"], expected=expected, atol=asked["atol"],
        ref_time=times, fast_check=False, min_time_limit=asked["seconds"], gt_time_limit_factor=4.0 * asked["seconds"],
    )
    failed = [call + 1 for call, is_right in enumerate(details) if not is_right]
    why = f"{status}, {len(details)} of {len(inputs)} calls seen, {len(failed)} failed, the first {failed[:1]}"
    print(json.dumps([status == "pass", why]), file=out, flush=True)
"""
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Div, ast.Div: ast.FloorDiv, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Options:
    """Compare verdicts with those of evalplus."""

    peer: Path
    """A Python in whose environment evalplus is installed."""
    data: Path = Path("../shared/data/bench")
    benchmarks: tuple[str, ...] = ("humaneval_plus", "mbpp_plus")
    mutants: int = 2
    """Of each reference."""
    minutes: float = 8.0
    """For each benchmark; the tasks come in a random order, so that a part of them is a fair one."""
    seed: int = 0
    out: Path | None = None
    """Where every verdict goes as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Both verdicts on one program."""

    task: str
    kind: str
    ours: bool
    theirs: bool
    why: str
    """Of both where they differ."""
    program: str


class Evalplus:
    """The peer, in a process of its own environment."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [str(python), "-c", PEER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def check(self, task: CodeTask, program: str, *, seconds: float) -> tuple[bool, str]:
        """Whether every call is right, and how it went. `seconds` is its least time for one call."""
        assert isinstance(task.tests, CallTests)
        assert self._process.stdin
        assert self._process.stdout
        asked = {
            "task": task.id,
            "dataset": task.benchmark.removesuffix("_plus"),
            "entry_point": task.entry_point,
            "preamble": task.tests.preamble,
            "inputs": task.tests.inputs,
            "reference": task.reference,
            "atol": task.tests.tolerance,
            "program": program,
            "seconds": seconds,
        }
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        passed, why = json.loads(self._process.stdout.readline())
        return passed, why

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def programs_of(task: CodeTask, options: Options) -> Iterator[tuple[str, str]]:
    """The reference and its mutants, with their names."""
    yield "reference", task.reference
    tree = ast.parse(task.reference)
    sites = [place for place, node in enumerate(ast.walk(tree)) if changed(node)]
    draw = random.Random(f"{options.seed} {task.id}")
    for number, place in enumerate(draw.sample(sites, min(options.mutants, len(sites))), 1):
        mutant = copy.deepcopy(tree)
        changed(list(ast.walk(mutant))[place])
        yield f"mutant {number}", ast.unparse(mutant)


def changed(node: Any) -> bool:
    """Change an operator or a whole number in its place; False where the node is neither."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        node.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS:
        node.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        node.value += 1
    else:
        return False
    return True


async def compared(task: CodeTask, kind: str, program: str, examiner: Examiner, peer: Evalplus) -> Compared:
    """Both verdicts on a program; where they differ, those with more time."""
    ours, (theirs, why) = await examiner.check(task, program), peer.check(task, program, seconds=1.0)
    told = ""
    if ours.passed != theirs:
        patient: CodeVerdict = await examiner.check(replace(task, timeout_s=2 * task.timeout_s), program)
        theirs_later, why_later = peer.check(task, program, seconds=2.0)
        told = f"ours: {ours.reason}; theirs: {why}"
        if (patient.passed, theirs_later) != (ours.passed, theirs):
            told += f"; with more time ours: {patient.reason}; theirs: {why_later}"
    return Compared(task=task.id, kind=kind, ours=ours.passed, theirs=theirs, why=told, program=program)


async def compare(name: str, options: Options, console: Console) -> list[Compared]:
    """As many programs of a benchmark as the time allows."""
    tasks = code_tasks(name, options.data)
    random.Random(options.seed).shuffle(tasks)
    found, ends, peer = [], monotonic() + 60 * options.minutes, Evalplus(options.peer)
    async with LocalSandbox(LocalSandboxConfig(workers=1)) as sandbox:
        examiner = Examiner(sandbox)
        for task in tasks:
            for kind, program in programs_of(task, options):
                if monotonic() < ends:
                    found.append(await compared(task, kind, program, examiner, peer))
    peer.close()
    counts = Counter((each.ours, each.theirs) for each in found)
    agreed = counts[True, True] + counts[False, False]
    console.print(
        f"{name}: {len(found)} programs of {len({each.task for each in found})} of {len(tasks)} tasks; {agreed} alike "
        f"({counts[True, True]} right, {counts[False, False]} wrong), {counts[True, False]} right by us alone, "
        f"{counts[False, True]} by evalplus alone",
        highlight=False,
    )
    for each in found:
        if each.ours != each.theirs:
            console.print(f"  {each.task}, {each.kind}: {each.why}", highlight=False, markup=False)
    return found


async def main(options: Options) -> None:
    """Compare and print."""
    console = Console(width=160)
    found = {name: await compare(name, options, console) for name in options.benchmarks}
    console.print(machine(), highlight=False)
    save(options.out, {name: [asdict(each) for each in rows] for name, rows in found.items()})


if __name__ == "__main__":
    asyncio.run(main(tyro.cli(Options)))
