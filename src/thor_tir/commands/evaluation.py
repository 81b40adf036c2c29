"""Commands that measure a model."""

import asyncio
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.commands.presets import NANO
from thor_tir.console import ConsoleReporter, results_table
from thor_tir.recipes.settings import EvalConfig, Machinery, RunConfig


@dataclass(frozen=True, kw_only=True)
class Eval:
    """Accuracy, call success and cost of a model on problems, with 95 % intervals over the problems."""

    model: str = NANO.actor
    """Hub name, local folder, or nano/actor."""
    problems: str = NANO.problems
    """JSONL file, reasoning_gym:family,family, or reasoning_gym for the nano families (their test split)."""
    output: Path | None = None
    """Where attempts and results go; by default a folder of runs/eval named after these options."""
    reasoning: bool = False
    """A reasoning model: its chat template opens a thinking turn."""
    words: bool = False
    """Without tools: reasoning in words alone."""
    correct: bool = False
    """With self-correction: a failed call is backtracked and written again."""
    eval: EvalConfig = NANO.eval
    machinery: Machinery = NANO.machinery

    def run(self) -> None:
        """Sample, grade and print one row."""
        from thor_tir.dialect.prompts import TOOLS, WORDS
        from thor_tir.eval.run import result_row
        from thor_tir.journal import write_atomically
        from thor_tir.problem import digest
        from thor_tir.problems.sources import Split, load_problems
        from thor_tir.recipes.stages import Contestant, bench, claim, evaluate_model

        config = RunConfig(problems=self.problems, reasoning=self.reasoning, eval=self.eval, machinery=self.machinery)
        problems = load_problems(
            self.problems,
            split=Split.TEST,
            count=self.eval.num_problems,
            seed=self.eval.seed + 4,
            configs=config.families,
        )
        contestant = Contestant(
            name="words" if self.words else "corrected" if self.correct else "tools",
            model=self.model,
            samples=self.eval.samples,
            style=WORDS if self.words else TOOLS,
            correction=self.eval.correction if self.correct else None,
        )
        reporter = ConsoleReporter()
        options = dataclasses.asdict(self)
        output = self.output or Path("runs/eval") / digest(json.dumps(options, default=str))

        async def work() -> Any:
            async with bench(self.machinery) as tools:
                return await evaluate_model(contestant, problems, config, output, tools, reporter)

        with claim(output, options):
            row = result_row(asyncio.run(work()))
        write_atomically(output / "results.json", json.dumps([row], indent=1) + "\n")
        reporter.console.print(results_table([row]))
        reporter.say(f"attempts and results: {output}")
