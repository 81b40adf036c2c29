"""Checkpoints from which a run continues bit for bit: weights, optimiser, counters, random states, the caller's state.

A checkpoint is a directory `<serial>-step-<steps>` that appears whole, by rename, or not at all; a kill at any instant
leaves the one before it in place. One process writes to a root at a time. The caller's data order is its own to save,
in `extra`.
"""

import json
import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerBase

from thor_tir.faults import UsageError
from thor_tir.learner.learner import Learner

_NAME = re.compile(r"(\d+)-step-\d+")
_DRAFT = ".draft-"
_MODEL, _STATE, _MANIFEST = "model", "learner.pt", "manifest.json"


def save_checkpoint(
    root: Path,
    learner: Learner,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    extra: Mapping[str, Any] | None = None,
    keep: int = 2,
) -> Path:
    """Write a checkpoint under `root`, remove all but the newest `keep`, and return its directory.

    `extra` holds JSON values. The directory's `model/` is a Hugging Face model of its own, with the tokenizer if given.
    """
    if keep < 1:
        raise ValueError(f"keep is {keep}; at least the checkpoint just written must stay")
    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{_DRAFT}*"):
        shutil.rmtree(leftover)
    older = _complete(root)
    serial = _serial(older[-1]) + 1 if older else 1
    final = root / f"{serial:06d}-step-{learner.num_steps}"
    draft = root / f"{_DRAFT}{final.name}"
    _write(draft, learner, tokenizer, dict(extra or {}))
    os.rename(draft, final)
    _sync(root)
    _remove(_complete(root)[:-keep])
    return final


def newest_checkpoint(root: Path) -> Path | None:
    """The newest complete checkpoint under `root`, None where there is none."""
    return next(reversed(_complete(root)), None)


def load_checkpoint(path: Path, learner: Learner) -> dict[str, Any]:
    """Put weights, optimiser, counters and random states back as they were saved; returns `extra`.

    Raises UsageError where files are missing, damaged or of another model. The random states are those of Python and
    torch, process-wide.
    """
    extra = _verified(path)
    try:
        saved = type(learner.model).from_pretrained(path / _MODEL, local_files_only=True)
        state = torch.load(path / _STATE, map_location="cpu", weights_only=True)
        learner.model.load_state_dict(saved.state_dict())
        learner.load_state_dict(state["learner"])
        _restore_random_states(state["random"])
    except (OSError, RuntimeError, ValueError, KeyError, UnpicklingError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"the checkpoint {path} cannot be loaded into this model ({reason}); delete it") from error
    return extra


def _write(draft: Path, learner: Learner, tokenizer: PreTrainedTokenizerBase | None, extra: dict[str, Any]) -> None:
    learner.model.save_pretrained(draft / _MODEL)
    if tokenizer is not None:
        tokenizer.save_pretrained(draft / _MODEL)
    torch.save({"learner": learner.state_dict(), "random": _random_states()}, draft / _STATE)
    sizes = {str(f.relative_to(draft)): f.stat().st_size for f in sorted(draft.rglob("*")) if f.is_file()}
    (draft / _MANIFEST).write_text(json.dumps({"sizes": sizes, "extra": extra}, indent=1), encoding="utf-8")
    for entry in [*draft.rglob("*"), draft]:
        _sync(entry)


def _verified(path: Path) -> dict[str, Any]:
    """The caller's state of a checkpoint whose files have the sizes they were written with."""
    try:
        manifest = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        extra: dict[str, Any] = manifest["extra"]
        damaged = [name for name, size in manifest["sizes"].items() if (path / name).stat().st_size != size]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"the checkpoint {path} is damaged ({error}); delete it to use the one before") from error
    if damaged:
        raise UsageError(f"the checkpoint {path} is damaged in {', '.join(damaged)}; delete it to use the one before")
    return extra


def _random_states() -> dict[str, Any]:
    states = {"python": random.getstate(), "torch": torch.get_rng_state()}
    return {**states, "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _restore_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


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
