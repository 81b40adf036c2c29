"""Records on disk that survive SIGKILL: an append-only JSONL journal of finished units, and whole files written at once.

A unit (a problem, a trajectory, an optimiser step) is finished when its line is in the journal. A torn last line, the
only damage a kill can do to an append, is cut off when the journal is opened again, so its unit is done once more.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thor_tir.faults import UsageError


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: to a temporary neighbour first, then renamed over the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


class Journal:
    """Finished units of work, one JSON object a line, each under a key that is unique within the file.

    With `hold=True` lines gather in memory until `commit()`. Deterministic runs use it: a batch whose tokens depend on
    its composition in the last bit is then either wholly on disk or done again as the same batch.
    """

    def __init__(self, path: Path, *, hold: bool = False) -> None:
        self.path = path
        self.hold = hold
        self._held: list[str] = []
        self._rows: dict[str, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            self._recover()
        self._file = path.open("a", encoding="utf-8")

    def _recover(self) -> None:
        blob = self.path.read_bytes()
        whole = blob[: blob.rfind(b"\n") + 1]
        if len(whole) < len(blob):
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.decode("utf-8").split("\n")[:-1], 1):
            try:
                row = json.loads(line)
                self._rows[row["key"]] = row
            except (json.JSONDecodeError, TypeError, KeyError) as error:
                raise UsageError(f"{self.path}, line {number} is damaged; delete that line or the file") from error

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def __getitem__(self, key: str) -> dict[str, Any]:
        return self._rows[key]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, key: str, row: dict[str, Any]) -> None:
        """Record a finished unit. A key that is already there is our mistake: work would have been done twice."""
        assert key not in self._rows, f"{key} is already in {self.path}"
        row = {"key": key, **row}
        self._rows[key] = row
        self._held.append(json.dumps(row, ensure_ascii=False) + "\n")
        if not self.hold:
            self.commit()

    def commit(self) -> None:
        """Hand all gathered lines to the operating system in one write."""
        if self._held:
            self._file.write("".join(self._held))
            self._file.flush()
            self._held.clear()

    def close(self) -> None:
        """Commit nothing more: what is held and uncommitted is forgotten, as after a kill."""
        self._file.close()
