"""The command that tests programs on benchmarks of code."""

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.eval.code.extract_program import ExtractorName

if TYPE_CHECKING:
    from thor_tir.eval.code.benchmark import CodeSummary


@dataclass(frozen=True, kw_only=True)
class CodeCheck:
    """Test programs against HumanEval, MBPP, their EvalPlus editions or LiveCodeBench, in the sandbox.

    Verdicts go to a JSONL file, one a line; the same command continues where it was stopped.
    """

    benchmark: str
    """Benchmark: humaneval, humaneval_plus, mbpp, mbpp_plus, livecodebench (v1, public tests) or
    livecodebench_v1 to _v6."""
    data: Path
    """The benchmark's file, or a folder that holds it."""
    solutions: str = "canonical"
    """JSONL with task_id and solution, completion or response; or canonical (the references), or none (a control)."""
    output: Path
    """File of the verdicts; the summary goes beside it, as NAME.summary.json."""
    extractor: ExtractorName = "thor"
    """Way from a response to its program: thor's own, or that of EvalPlus or LiveCodeBench."""
    first: int | None = None
    """Number of tasks taken from the beginning of the file; all of them by default."""
    ks: tuple[int, ...] = (1, 10, 100)
    """Values of k in pass@k; one is left out where a task has fewer samples than k."""
    any_version: bool = False
    """True accepts a file whose number of tasks or digest is not the known one."""
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Programs that run at the same time."""

    def run(self) -> None:
        """Check and print the summary."""
        from thor_tir.eval.code.benchmark import control_programs, evaluate_code, read_programs, summarise
        from thor_tir.problems.code_sources import code_tasks
        from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
        from thor_tir.storage.journal import Journal, check_place, write_atomically

        if min(1 if self.first is None else self.first, *self.ks, self.workers) < 1:
            raise UsageError(f"--first {self.first}, --ks {self.ks}, --workers {self.workers}: each must be at least 1")
        check_place(self.output, besides=[self.data, Path(self.solutions)])
        tasks = code_tasks(self.benchmark, self.data, verify=not self.any_version)[: self.first]
        if not tasks:
            raise UsageError(f"{self.data} holds no tasks of {self.benchmark}")
        is_control = self.solutions in ("canonical", "none")
        programs = (
            control_programs(tasks, self.solutions)
            if is_control
            else read_programs(Path(self.solutions), tasks, self.extractor)
        )
        reporter, journal = ConsoleReporter(), Journal(self.output)

        async def work() -> Any:
            async with LocalSandbox(LocalSandboxConfig(workers=self.workers)) as sandbox:
                with reporter.stage(self.benchmark, sum(map(len, programs.values()))) as bar:
                    return await evaluate_code(tasks, programs, sandbox, journal=journal, advance=bar.advance)

        summary = summarise(asyncio.run(work()), self.benchmark, num_tasks=len(tasks), ks=self.ks)
        write_atomically(self.output.with_suffix(".summary.json"), json.dumps(summary, indent=1) + "\n")
        reporter.say(_summary_line(summary))
        if missing := summary["without_program"]:
            reporter.say(f"{missing} of {len(tasks)} tasks have no program and are left out of these figures")
        reporter.say(f"verdicts: {self.output}")


def _summary_line(summary: "CodeSummary") -> str:
    from thor_tir.eval.tables import score

    figures = {f"pass@{k}": estimate for k, estimate in summary["pass_at"].items()}
    if summary["base_pass_at_1"] is not None:
        figures["base pass@1"] = summary["base_pass_at_1"]
    parts = [f"{summary['benchmark']}: {summary['passed']} of {summary['samples']} programs pass"]
    parts += [f"{name} {score(estimate)} %" for name, estimate in figures.items()]
    parts += [f"{summary['timeouts']} ran out of time"] if summary["timeouts"] else []
    return "; ".join(parts)
