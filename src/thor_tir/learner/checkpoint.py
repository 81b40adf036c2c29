"""Checkpoints from which a run continues bit for bit: weights, optimiser, counters, random states, the caller's state.

A checkpoint is a directory `<serial>-step-<steps>` that appears whole, by rename, or not at all; a kill at any instant
leaves the one before it in place. Its files are listed with digests, so that damage is found before it is trained on.
Several processes write one checkpoint together, and any number of processes can read it. The caller's data order is its
own to save, in `extra`. One run at a time writes to a root (`storage/run_lock.py`).
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from thor_tir.errors import DiskFull, UsageError
from thor_tir.learner import state
from thor_tir.learner.learner import Learner
from thor_tir.provenance import versions
from thor_tir.storage.journal import told_when_full
from thor_tir.storage.run_lock import changes

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"(\d+)-step-\d+")
_DRAFT = ".draft-"
_MODEL, _STATE, _MANIFEST = "model", "state", "manifest.json"
FORMAT = 2
COMPUTING = ("thor-tir", "torch", "transformers")
"""Packages that compute: a run is continued to the last bit only by the same versions."""
"""Of what stands in a checkpoint; one of another format cannot be read."""


def save_checkpoint(
    root: Path,
    learner: Learner,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    extra: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint under `root`, remove all but the newest `keep`, and return its directory.

    `extra` holds JSON values, `options` those the run must be continued with. The directory's `model/` is a Hugging
    Face folder of its own, with the tokenizer if given; of a model with adapters it holds these alone. Raises DiskFull.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least the checkpoint just written must stay")
    final = learner.ranks.lead(lambda: _place(root, learner.num_steps))
    draft = root / f"{_DRAFT}{final.name}"
    try:
        with told_when_full(root):
            state.write(draft / _STATE, learner)
            state.export(draft / _MODEL, learner, tokenizer)
            learner.ranks.lead(lambda: _seal(draft, final, learner, dict(extra or {}), options))
    except DiskFull:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    if learner.ranks.leads:
        _remove(_complete(root)[:-keep])
    return final


def newest_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint under `root`, None where there is none."""
    return next(reversed(_complete(root)), None)


def load_checkpoint(path: Path, learner: Learner, *, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Put weights, optimiser, counters and random states back as they were saved; returns `extra`.

    Raises UsageError where files are missing or damaged, and where the model or the run's options are others. The
    random states are those of Python and torch, process-wide.
    """
    manifest = learner.ranks.lead(lambda: _verified(path))
    if others := changes(manifest["versions"], versions(COMPUTING)):
        _LOG.warning(
            "%s was made with other versions (%s): the last bits may differ from now on", path, "; ".join(others)
        )
    if options is not None and (found := changes(manifest["options"], options)):
        raise UsageError(
            f"the checkpoint {path} was made with other options ({'; '.join(found)}): give the same ones to continue, "
            "or begin in another folder"
        )
    try:
        state.read(path / _STATE, learner)
    except state.Unfit as error:
        raise UsageError(
            f"the checkpoint {path} cannot be loaded into this model ({error}); {_advice(path)}"
        ) from error
    learner.num_steps, learner.num_skipped, learner.failures_in_a_row = manifest["counters"]
    extra: dict[str, Any] = manifest["extra"]
    return extra


def _place(root: Path, num_steps: int) -> Path:
    """Where the next checkpoint goes; what kills left of earlier ones is removed."""
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{_DRAFT}*"):
        shutil.rmtree(leftover)
    older = _complete(root)
    serial = _serial(older[-1]) + 1 if older else 1
    return root / f"{serial:06d}-step-{num_steps}"


def _seal(draft: Path, final: Path, learner: Learner, extra: dict[str, Any], options: Mapping[str, Any] | None) -> None:
    """Write the manifest, put everything on disk, and only then give the directory its name."""
    manifest = {
        "format": FORMAT,
        "versions": versions(COMPUTING),
        "processes": learner.ranks.size,
        "counters": [learner.num_steps, learner.num_skipped, learner.failures_in_a_row],
        "options": options,
        "extra": extra,
        "digests": {str(f.relative_to(draft)): _digest(f) for f in sorted(draft.rglob("*")) if f.is_file()},
    }
    (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
    for entry in [*draft.rglob("*"), draft]:
        _sync(entry)
    os.rename(draft, final)
    _sync(final.parent)


def _verified(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint whose files are what they were when they were written."""
    try:
        manifest: dict[str, Any] = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT:
            raise UsageError(
                f"the checkpoint {path} has format {manifest['format']}, this version of THOR reads {FORMAT}; continue "
                f"with the version that wrote it"
            )
        damaged = [name for name, digest in manifest["digests"].items() if _digest(path / name) != digest]
    except (OSError, KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "its manifest is unreadable"
        raise UsageError(f"the checkpoint {path} is damaged ({reason}); {_advice(path)}") from error
    if damaged:
        raise UsageError(f"the checkpoint {path} is damaged in {', '.join(damaged)}; {_advice(path)}")
    return manifest


def _advice(path: Path) -> str:
    """What to do about a checkpoint that cannot be used: never done unasked, since it costs work."""
    before = [other for other in _complete(path.parent) if _serial(other) < _serial(path)]
    where = f"from the one before, {before[-1].name}" if before else "from the beginning of this stage"
    return f"after `rm -r {path}` the same command continues {where}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(root: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    return sorted((p for p in root.glob("*") if p.is_dir() and _NAME.fullmatch(p.name)), key=_serial)


def _serial(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _remove(checkpoints: list[Path]) -> None:
    """Under a name that is no checkpoint's first, so that a kill halfway leaves nothing that looks complete."""
    for path in checkpoints:
        doomed = path.with_name(f"{_DRAFT}{path.name}")
        os.rename(path, doomed)
        shutil.rmtree(doomed)


def _sync(path: Path) -> None:
    """Ask the operating system to put a file or a directory's entries on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
