"""The record of the models that rows of a folder were sampled from: how they were reached, and what all calls cost."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thor_tir.engines.figures import united_record
from thor_tir.storage.journal import JsonObject, write_atomically

CALLS = "calls"
"""Calls of the command that have begun, and those whose costs are in the record."""


class ModelRecord:
    """One file of a folder, which a command that goes on with the folder's rows adds to.

    A call that is killed adds no costs, and stays in the difference of the calls that have begun and ended.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before: JsonObject = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def begin(self) -> None:
        """Write down that one more call has begun."""
        self._write(self._before, ended=0)

    def end(self, about: Mapping[str, Any]) -> None:
        """Write down what is known of one model, or of several by their roles, with the costs of this call added."""
        self._write(united_models([about, self._before]), ended=1)

    def _write(self, record: Mapping[str, Any], *, ended: int) -> None:
        known = {"begun": 1, "ended": 1} if self._before else {}  # of a call that did not count itself
        calls: Counter[str] = Counter(self._before.get(CALLS, known))
        calls.update(begun=1, ended=ended)
        write_atomically(self._path, json.dumps({**record, CALLS: dict(calls)}, indent=1) + "\n")


def united_models(parts: Sequence[Mapping[str, Any]]) -> JsonObject:
    """One record of several: the first's, with the costs of all, for each role where models have roles."""
    roles = {name for name, value in parts[0].items() if isinstance(value, Mapping) and "model" in value}
    of_roles = {role: united_record([part.get(role, {}) for part in parts]) for role in roles}
    return {**united_record(parts), **of_roles}


def unite_parts(folder: Path, name: str) -> None:
    """Write one record from those of the parts of a folder, where there are some."""
    files = sorted(folder.glob(f"{name}.*-of-*.json"))
    if files:
        record = united_models([json.loads(file.read_text(encoding="utf-8")) for file in files])
        write_atomically(folder / f"{name}.json", json.dumps(record, indent=1) + "\n")
