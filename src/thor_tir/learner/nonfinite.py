"""What an update was made of whose loss or gradient was no number: one JSON file for a person to look into."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from math import isfinite
from pathlib import Path
from typing import Any

from torch import Tensor

from thor_tir.learner.sample import TrainingSample
from thor_tir.storage.journal import write_atomically


def dump(
    path: Path,
    rows: Sequence[TrainingSample],
    *,
    losses: Mapping[str, float],
    gradient_norm: float,
    parameters: Sequence[str],
) -> None:
    """Write the loss of each component, the gradient's norm, the parameters that were hit, and every row whole."""
    content = {
        "losses": losses,
        "gradient_norm": gradient_norm,
        "parameters": parameters,
        "rows": [asdict(row) for row in rows],
    }
    write_atomically(path, json.dumps(_told(content), indent=1) + "\n")


def hit(gradients: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Names of the parameters whose gradient holds something that is no finite number."""
    return [name for name, gradient in gradients if not bool(gradient.isfinite().all())]


def _told(value: Any) -> Any:
    """JSON knows no NaN: such numbers as text."""
    match value:
        case float() if not isfinite(value):
            return str(value)
        case dict():
            return {str(key): _told(entry) for key, entry in value.items()}
        case list() | tuple():
            return [_told(entry) for entry in value]
    return value
