"""The command that trains a reward model."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from thor_tir.console import ConsoleReporter
from thor_tir.reward.train import RewardConfig

DEFAULT = RewardConfig()


@dataclass(frozen=True, kw_only=True)
class RewardTrain:
    """Train a small reward model on the verdicts of a run's trajectories, for --select reward:FOLDER.

    Its base is the model that wrote them. Figures are printed for problems that were held out.
    """

    runs: tuple[Path, ...] = (Path("runs/quickstart"),)
    """Folders of runs of `thor rl`, `quickstart` or `eval` whose trajectories are trained on. The evaluations in a
    quickstart's folder are not."""
    model: str = "runs/quickstart/rl/model"
    """Model that wrote them: hub name, local folder, or nano/actor."""
    output: Path = Path("runs/reward")
    """Folder of the reward model."""
    reward: Annotated[RewardConfig, tyro.conf.arg(name="")] = DEFAULT
    """Options of training."""

    def run(self) -> None:
        """Train, print, and say where the model is."""
        from thor_tir.app.stages.reward import train_reward
        from thor_tir.storage.run_lock import claim, option_defaults

        reporter = ConsoleReporter()
        with claim(self.output, dataclasses.asdict(self), inputs=(self.model,), defaults=option_defaults(self)):
            train_reward(self.runs, self.model, self.reward, self.output, reporter)
            reporter.say(f"reward model: {self.output}; `thor eval --samples 8 --select reward:{self.output}` uses it")
