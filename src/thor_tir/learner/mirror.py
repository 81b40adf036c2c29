"""Copies of checkpoints in an object store, or wherever else fsspec reaches: a new machine goes on from there.

A copy is whole once its manifest is there, which is written last and removed first. What checkpoints are is not known
here: they are folders with a number in front.
"""

import shutil
from pathlib import Path, PurePosixPath

from fsspec.core import url_to_fs  # type: ignore[import-untyped]

from thor_tir.errors import MachineFault, UsageError

MANIFEST = "manifest.json"
"""File that says that a checkpoint is whole."""


class StoreUnavailable(MachineFault):
    """A store of checkpoints did not take or give one."""


class Mirror:
    """The checkpoints of one run in a store."""

    def __init__(self, url: str) -> None:
        """Raises UsageError for an address that fsspec cannot use here."""
        self.url = url
        try:
            self._store, self._root = url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"--checkpoint-mirror {url} cannot be used here: {error}") from error

    def put(self, path: Path, *, keep: int) -> None:
        """Copy a checkpoint, and remove all but the newest `keep`. Raises StoreUnavailable."""
        try:
            files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / MANIFEST)
            for file in (*files, path / MANIFEST):
                place = f"{self._root}/{path.name}/{file.relative_to(path).as_posix()}"
                self._store.makedirs(str(PurePosixPath(place).parent), exist_ok=True)
                self._store.put_file(str(file), place)
            for name in self._whole()[:-keep]:
                self._store.rm_file(f"{self._root}/{name}/{MANIFEST}")
                self._store.rm(f"{self._root}/{name}", recursive=True)
        except Exception as error:  # each store has faults of its own
            raise StoreUnavailable(f"{self.url} did not take {path.name}: {error}") from error

    def fetch_newest(self, root: Path, draft: str) -> None:
        """Copy the newest checkpoint to `root`, if there is one; until it is whole its name begins with `draft`."""
        try:
            for name in self._whole()[-1:]:
                shutil.rmtree(root / f"{draft}{name}", ignore_errors=True)
                for place in self._store.find(f"{self._root}/{name}"):
                    file = root / f"{draft}{name}" / place.partition(f"/{name}/")[2]
                    file.parent.mkdir(parents=True, exist_ok=True)
                    self._store.get_file(place, str(file))
                (root / f"{draft}{name}").rename(root / name)
        except Exception as error:  # as above
            raise StoreUnavailable(f"{self.url} did not give its newest checkpoint: {error}") from error

    def _whole(self) -> list[str]:
        """Names of the checkpoints that are whole, oldest first."""
        if not self._store.exists(self._root):
            return []
        found = map(PurePosixPath, self._store.find(self._root))
        return sorted(place.parent.name for place in found if place.name == MANIFEST)
