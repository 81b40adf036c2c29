"""The command that compares selectors on attempts that were made already."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from thor_tir.app.config import ResourceConfig
from thor_tir.commands.evaluation import finish
from thor_tir.commands.options import NANO
from thor_tir.console import ConsoleReporter
from thor_tir.engines.openai_api.reward_endpoint import RewardOptions
from thor_tir.inference.best_of_n import NAMES, expanded


@dataclass(frozen=True, kw_only=True)
class EvalSelect:
    """Compare selectors on the stored attempts of an evaluation: nothing is sampled again.

    What a selector asks is asked once and kept; the model is loaded only where it is asked itself.
    """

    folder: tyro.conf.Positional[Path]
    """Folder of a finished evaluation."""
    select: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{{all,{','.join(NAMES)},FILE.py:FUNCTION}} ...")] = (
        "all",
    )
    """Selectors that are compared, besides those that are already."""
    rewards: RewardOptions = field(default_factory=RewardOptions)
    """Reward models behind addresses, for selectors that ask them."""
    resources: Annotated[ResourceConfig, tyro.conf.arg(name="")] = NANO.resources
    """Parts of the machine that may be used."""

    def run(self) -> None:
        """Ask, and write and print the results anew."""
        from thor_tir.app.stages.select import compare_more
        from thor_tir.eval.folder import EvalFolder

        folder, reporter = EvalFolder(path=self.folder), ConsoleReporter()
        asyncio.run(compare_more(folder, expanded(self.select), self.rewards, self.resources, reporter))
        finish(folder, reporter)
