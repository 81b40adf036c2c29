"""A run's folder belongs to one run at a time: its options are written down, and no second process may write there."""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.provenance import RUN, record_run
from thor_tir.storage.journal import SHARD_LOCK, WHOLE, Shard, make_folder, write_atomically

_CONFIG, _LOCK = "config.json", ".lock"
MOST_TOLD, MOST_CHARS = 8, 80
"""Of the options that differ, so that two unlike runs are still told in one sentence."""

WHERE = ("resources.sandbox.endpoints ", "resources.endpoint.")
"""How options begin that may differ when a run is continued: where its servers are, and how they are waited for."""


@contextmanager
def claim(
    folder: Path, options: Mapping[str, Any], shard: Shard = WHOLE, *, inputs: Iterable[str | Path] = ()
) -> Iterator[None]:
    """Write a run's options and record into its folder, or make sure that options and inputs are those it began with.

    A first run that ends by the user's mistake before it wrote anything gives the folder up again. Raises UsageError
    where another run lives in the folder, whose finished units would be taken for this run's, and while another process
    works there; shards of one run may work there together. The lock goes with the process, however that ends.
    """
    path = folder / _CONFIG
    new = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    with _locked(folder, is_shared=not shard.is_whole):
        is_first = not path.exists()
        if is_first:
            write_atomically(path, json.dumps(options, indent=1, default=str) + "\n")
        elif found := [change for change in changes(_read(path), options) if not change.startswith(WHERE)]:
            more = f"; and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
            raise UsageError(
                f"{folder} holds a run with other options ({'; '.join(found[:MOST_TOLD])}{more}): "
                "give the same options to continue it, or another --output"
            )
        record_run(folder, options, inputs)
        try:
            yield
        except UsageError:
            ours = {path, folder / RUN, folder / _LOCK, *folder.glob(f"{SHARD_LOCK}*")}
            if is_first and set(folder.iterdir()) <= ours:
                for file in ours:
                    file.unlink()
                with suppress(OSError):  # another run has begun beside it
                    for place in new:
                        place.rmdir()
            raise


def changes(old: Any, new: Any, name: str = "") -> list[str]:
    """Where two sets of options, as JSON holds them, differ: `rl.seed was 0, is 1`."""
    new = json.loads(json.dumps(new, default=str))
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return [] if old == new else [f"{name or 'all'} was {_short(old)}, is {_short(new)}"]
    keys = sorted(old.keys() | new.keys())
    return [c for key in keys for c in changes(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}..."


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is damaged, so nobody knows what run this is; give another --output") from error


@contextmanager
def _locked(folder: Path, *, is_shared: bool) -> Iterator[None]:
    """Hold the folder for this process. A record lock: it also works on network disks, and no child inherits it."""
    with (folder / _LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UsageError(
                f"another process (number {owner}) works in {folder}: wait until it has ended, or give another --output"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
