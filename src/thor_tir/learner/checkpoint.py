"""Checkpoints from which a run continues bit for bit: weights, optimiser, counters, random states, the caller's state.

A checkpoint is a directory `<serial>-step-<steps>` that appears whole, by rename, or not at all; a kill at any instant
leaves the one before it in place. Its files are listed with digests, so that damage is found before it is trained on.
Several processes write one checkpoint together, each its own part of weights and moments, and any number of processes
can read it. Where their hosts share no folder, the first writes and reads it all, and the others send and are sent.
Frozen parameters are not in it: they are those of the model that training began with. The caller's data order is its
own to save, in `extra`. One run at a time writes to a root (`storage/run_lock.py`).
"""

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, TypedDict

from transformers import PreTrainedTokenizerBase

from thor_tir.errors import DiskFull, UsageError
from thor_tir.learner.learner import Learner
from thor_tir.learner.mirror import Mirror
from thor_tir.learner.saved_state import SavedState, Unfit, export_model, read_state, write_state
from thor_tir.provenance import versions
from thor_tir.storage.journal import JsonObject, told_when_full
from thor_tir.storage.run_lock import changes, option_changes

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"(\d+)-step-\d+")
_DRAFT = ".draft-"
_MODEL, _STATE, _MANIFEST = "model", "state", "manifest.json"
FORMAT = 2
"""Format of checkpoints; one of another format cannot be read."""
COMPUTING = ("thor-tir", "torch", "transformers")
"""Packages that compute: a run is continued to the last bit only by the same versions."""


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
    with CheckpointWriter(root, learner, tokenizer=tokenizer, options=options, keep=keep) as writer:
        return writer.save(extra)


class CheckpointWriter:
    """Saves one checkpoint after another, as a context: at once, or beside the steps that follow.

    Beside them what is saved is a copy of weights and moments that is taken at once, and files are written from it
    meanwhile; at most one such copy is there, so a kill costs the steps since the checkpoint before at most.
    """

    def __init__(
        self,
        root: Path,
        learner: Learner,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        options: Mapping[str, Any] | None = None,
        keep: int = 2,
        is_beside: bool = False,
        mirror: str = "",
    ) -> None:
        """Arguments as those of `save_checkpoint`; `mirror` is the address of a store that gets a copy of each.

        All processes that share a learner make one together.
        """
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least the checkpoint just written must stay")
        self._root, self._learner, self._tokenizer = root, learner, tokenizer
        self._options, self._keep, self._is_beside = options, keep, is_beside
        self._is_shared = learner.ranks.see_one(root)
        self._ranks = learner.ranks.on_their_own() if is_beside and self._is_shared else learner.ranks
        self._writing: tuple[Thread, Future[Path]] | None = None
        self._mirror = Mirror(mirror) if mirror and learner.ranks.leads else None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._finish()
        elif self._writing is not None and self._ranks.is_alone:
            self._writing[0].join()  # what is being written may well be whole

    def save(self, extra: Mapping[str, Any] | None = None) -> Path:
        """Save the learner as it is now; returns the directory, which is there once nothing is being written."""
        self._finish()
        final = self._learner.ranks.lead(lambda: _place(self._root, self._learner.num_steps))
        saved = SavedState.of(self._learner, extra=dict(extra or {}), is_copy=self._is_beside, ranks=self._ranks)
        if not self._is_shared:
            saved = saved.sent_to_first()
            if not self._ranks.leads:
                return final
        if self._is_beside:
            result: Future[Path] = Future()
            writer = Thread(target=_settle, args=(result, partial(self._write, final, saved)), daemon=True)
            writer.start()
            self._writing = writer, result
            return final
        return self._write(final, saved)

    def _finish(self) -> None:
        """Wait for what is being written; whatever it met is raised."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writer, result = writing
            writer.join()  # not its result alone: a thread that frees tensors where Python ends aborts the process
            result.result()

    def _write(self, final: Path, saved: "SavedState") -> Path:
        draft = self._root / f"{_DRAFT}{final.name}"
        try:
            with told_when_full(self._root):
                write_state(draft / _STATE, saved)
                export_model(draft / _MODEL, saved, self._tokenizer)
                saved.ranks.lead(lambda: _seal(draft, final, saved, self._options))
        except DiskFull:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        if saved.ranks.leads:
            _remove(_complete(self._root)[: -self._keep])
        if self._mirror is not None:
            self._mirror.put(final, keep=self._keep)
        return final


def _settle(result: "Future[Path]", act: Callable[[], Path]) -> None:
    try:
        result.set_result(act())
    except BaseException as error:
        result.set_exception(error)


def newest_checkpoint(root: Path, mirror: str = "") -> Path | None:
    """The newest complete checkpoint under `root`, None where there is none, in the store `mirror` neither."""
    if mirror and not _complete(root):
        Mirror(mirror).fetch_newest(root, _DRAFT)
    return next(reversed(_complete(root)), None)


def load_checkpoint(
    path: Path,
    learner: Learner,
    *,
    options: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    may_grow: str = "",
) -> JsonObject:
    """Put weights, optimiser, counters and random states back as they were saved; returns `extra`.

    `defaults` are what options had that are younger than the checkpoint; `may_grow` names an option whose number may
    have become larger since. Raises UsageError where files are missing or damaged, and where the model or the run's
    options are others. The random states are those of torch, process-wide, which dropout reads; nothing here reads
    Python's.
    """
    manifest = learner.ranks.lead(lambda: _verified(path))
    if moved := changes(manifest["versions"], versions(COMPUTING)):
        _LOG.warning(
            "%s was made with other versions (%s): the last bits may differ from now on", path, "; ".join(moved)
        )
    found = [] if options is None else option_changes(manifest["options"], options, defaults)
    if others := [change for change in found if change.name != may_grow or change.new < change.old]:
        raise UsageError(
            f"the checkpoint {path} was made with other options ({'; '.join(map(str, others))}): give the same ones "
            "to continue, or begin in another folder"
        )
    try:
        read_state(path / _STATE, learner)
    except Unfit as error:
        raise UsageError(
            f"the checkpoint {path} cannot be loaded into this model ({error}); {_advice(path)}"
        ) from error
    learner.num_steps, learner.num_skipped, learner.failures_in_a_row = manifest["counters"]
    return manifest["extra"]


def recorded_options(path: Path) -> Mapping[str, Any]:
    """The options that a checkpoint was saved with."""
    manifest: Manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
    return manifest["options"] or {}


def _place(root: Path, num_steps: int) -> Path:
    """The place of the next checkpoint; leftovers of kills are removed."""
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{_DRAFT}*"):
        shutil.rmtree(leftover)
    older = _complete(root)
    serial = _serial(older[-1]) + 1 if older else 1
    return root / f"{serial:06d}-step-{num_steps}"


class Manifest(TypedDict):
    """The content of a checkpoint's manifest.json."""

    format: int
    """Format of the checkpoint."""
    versions: dict[str, str]
    """Versions of the packages that compute."""
    processes: int
    """Processes that wrote it."""
    counters: list[int]
    """Steps taken, steps skipped, and steps skipped in a row."""
    options: Mapping[str, Any] | None
    """Options that the run must be continued with."""
    extra: JsonObject
    """State of the caller."""
    digests: dict[str, str]
    """SHA-256 of each file, by its place in the checkpoint."""


def _seal(draft: Path, final: Path, saved: SavedState, options: Mapping[str, Any] | None) -> None:
    """Write the manifest, put everything on disk, and only then give the directory its name."""
    manifest: Manifest = {
        "format": FORMAT,
        "versions": versions(COMPUTING),
        "processes": saved.ranks.size,
        "counters": list(saved.counters),
        "options": options,
        "extra": saved.extra,
        "digests": {str(f.relative_to(draft)): _digest(f) for f in sorted(draft.rglob("*")) if f.is_file()},
    }
    (draft / _MANIFEST).write_text(json.dumps(manifest, indent=1, default=str), encoding="utf-8")
    for entry in [*draft.rglob("*"), draft]:
        _sync(entry)
    os.rename(draft, final)
    _sync(final.parent)


def _verified(path: Path) -> Manifest:
    """The manifest of a checkpoint whose files are what they were when they were written."""
    try:
        manifest: Manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
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
    """Advice about a checkpoint that cannot be used; it is never followed unasked, since it costs work."""
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
