"""Pretrains an embedded model from scratch on generated text: `python -m nano_models --role actor`, in `tools`."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from nano_models.pretrain import PretrainConfig, Role, pretrain
from thor_tir.console import ConsoleReporter


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """Pretrain an embedded model from scratch on text that this folder generates. Resumes where it was killed."""

    role: Role = "actor"
    """Model that is made."""
    num_steps: int = 3000
    """Optimiser steps of the whole training."""
    seed: int = 0
    """Seed of weights and text."""
    output: Path | None = None
    """Folder of the finished model; by default runs/nano/<role>."""

    def run(self) -> None:
        """Train and write weights and card."""
        output = self.output or Path("runs/nano") / self.role
        config = PretrainConfig(role=self.role, num_steps=self.num_steps, seed=self.seed)
        reporter = ConsoleReporter()
        with reporter.stage(f"pretraining nano/{self.role}", self.num_steps) as progress:
            pretrain(config, output, output.with_name(f"{output.name}.work"), progress)
        reporter.say(f"model: {output}")


if __name__ == "__main__":
    tyro.cli(Pretrain).run()
