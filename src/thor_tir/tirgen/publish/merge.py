"""Unite raw folders: the shards of one run, or runs of different attempts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thor_tir.errors import UsageError
from thor_tir.rollout.sample_many import DROPPED
from thor_tir.storage.journal import writing_atomically
from thor_tir.tirgen.provenance import read_provenance, write_provenance
from thor_tir.tirgen.raw_rows import NO_TOOLS_FILE, PROVENANCE, RAW, RowPlace, raw_files, rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """How many rows the united files hold."""

    attempts: int
    """Number of attempts."""
    lost: int
    """Number of these that a machine fault ended and no folder made."""
    words: int
    """Tool-free samples."""


def merge(sources: Sequence[Path], folder: Path) -> Merged:
    """Write `raw.jsonl`, `words.jsonl` and `provenance.json` of all sources into one folder.

    Lines are copied byte for byte in the order of their keys, so that the order of the sources changes nothing. The
    same attempt in two sources is one; raises UsageError, naming both lines, where they tell it differently.
    """
    files = raw_files(sources)
    if any(file.parent.resolve() == folder.resolve() for file in files):
        raise UsageError(f"{folder} is one of the folders to be united; give another --output")
    attempts, lost = _unite(files, folder / RAW)
    words, _ = _unite(raw_files(sources, NO_TOOLS_FILE), folder / NO_TOOLS_FILE)
    write_provenance(folder / PROVENANCE, read_provenance(raw_files(sources, PROVENANCE)))
    return Merged(attempts=attempts, lost=lost, words=words)


def _unite(files: Sequence[Path], target: Path) -> tuple[int, int]:
    places: dict[str, RowPlace] = {}
    lost = 0
    for place, row in rows(files):
        places[str(row["key"])] = place
        lost += DROPPED in row
    with writing_atomically(target) as out:
        for key in sorted(places):
            out.write(places[key].text())
    return len(places), lost
