"""Curves of a run where people watch them. The JSONL file of a run stays the truth; these are copies of its numbers."""

import os
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal, Protocol

from thor_tir.extras import installation, is_installed, need

TrackerName = Literal["tensorboard", "trackio", "wandb"]


class Tracker(Protocol):
    """Takes the numbers of one step after another."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Write them so that whoever watches sees them now."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class TensorBoard:
    """Event files in the run's folder, for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder / "tensorboard"))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar a curve, on disk when this returns."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


class Hosted:
    """A run of trackio or wandb, which share their calls; what leaves the machine is their settings' business."""

    def __init__(self, module: Any, folder: Path) -> None:
        self._module = module
        self._run = module.init(project="thor", name=folder.name)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """All curves at once."""
        self._module.log(dict(values), step=step)

    def close(self) -> None:
        """Send what is left."""
        self._module.finish()


def open_trackers(names: Sequence[TrackerName], folder: Path, say: Callable[[str], None]) -> list[Tracker]:
    """The trackers of a run. TensorBoard is named by default, so its absence is a remark; any other's is a mistake."""
    found: list[Tracker] = []
    for name in dict.fromkeys(names):
        if not is_installed(name):
            if name != "tensorboard":
                need(name, f"the tracker {name}")
            say(f"no TensorBoard here, curves are in metrics.jsonl alone ({installation(name)} adds it)")
        elif name == "tensorboard":
            found.append(TensorBoard(folder))
        else:
            found.append(Hosted(_hosted(name), folder))
    return found


def _hosted(name: str) -> Any:
    from importlib import import_module

    if name == "wandb" and "WANDB_MODE" not in os.environ and "WANDB_API_KEY" not in os.environ:
        os.environ["WANDB_MODE"] = "offline"  # without an account it would ask on the terminal
    return import_module(name)


def scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The finite numbers of a record under the path of their names; lists, texts and what is not known are left out."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value):
            found[f"{prefix}{name}"] = float(value)
    return found
