"""The command that writes data sets of three authors at the same questions."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from thor_tir.app.config import EvalConfig, ResourceConfig, RunConfig
from thor_tir.commands.options import NANO, PresetOption, identity, tell_precision
from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class EvalAuthors:
    """Three data sets for `thor sft` at the same questions with as many tokens: a model's own samples, TIRGen's, and
    TIRGen's reworded by rules; and how likely each is under the model (paper, section 2.2 and figure 4).
    """

    data: Path = Path("runs/tirgen/dataset.jsonl")
    """Data set of `thor tirgen`, made with this model as actor."""
    model: str = NANO.actor
    """The actor: hub name, local folder, or nano/actor."""
    attempts: int = 1
    """The model's own attempts at a question, of which the first that passes TIRGen's rules is kept: more for a model
    that seldom solves one alone. 0 for nothing but all of `--data` reworded."""
    output: Path = Path("runs/authors")
    """Folder of own.jsonl, tirgen.jsonl, reworded.jsonl and authors.json, or of reworded-all.jsonl."""
    preset: PresetOption = "nano"
    """Name of the values that the options begin from."""
    eval: Annotated[EvalConfig, tyro.conf.arg(name="")] = NANO.eval
    """Sampling of the model's own attempts; `--attempts` says how many, not `--samples`."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that the run may use."""

    def run(self) -> None:
        """Sample, write, and say how many there are."""
        from thor_tir.app.runtime import open_runtime
        from thor_tir.app.stages.authors import write_authors, write_reworded
        from thor_tir.storage.run_lock import claim, option_defaults
        from thor_tir.verdict import Strictness

        if not self.data.is_file():
            raise UsageError(f"{self.data} is no file; give the dataset.jsonl of `thor tirgen`")
        if self.attempts < 0:
            raise UsageError(f"--attempts is {self.attempts}; the model has some attempts at a question, or none")

        async def work() -> None:
            tell_precision(ConsoleReporter().say, engine=self.resources.engine, models=[self.model])
            config = RunConfig(
                actor=self.model, eval=replace(self.eval, samples=self.attempts), resources=self.resources
            )
            async with open_runtime(self.resources, Strictness.STRICT) as runtime:
                await write_authors(config, self.data, self.output, runtime, ConsoleReporter())

        with claim(self.output, identity(self), inputs=(self.model, self.data), defaults=option_defaults(self)):
            if self.attempts:
                asyncio.run(work())
            else:
                write_reworded(self.model, self.data, self.output)
