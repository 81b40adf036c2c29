"""A data set that TIRGen wrote, as attempts for the cold start."""

import json
from pathlib import Path

from thor_tir.attempt import Attempt, attempt_from_json
from thor_tir.faults import UsageError
from thor_tir.problem import Problem


def read_dataset(path: Path) -> list[Attempt]:
    """The attempts of a data set that TIRGen wrote. Raises UsageError naming the first bad line."""
    if not path.is_file():
        raise UsageError(f"no data set at {path}; `thor tirgen` writes one")
    attempts = []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").split("\n"), 1):
        if not line:
            continue
        try:
            row = json.loads(line)
            attempts.append(attempt_from_json(row, Problem(**row["problem"])))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}, line {number} is no TIRGen sample: {error}") from error
    return attempts
