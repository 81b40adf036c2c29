"""What a checkpoint holds of a learner, whole or spread over processes (`torch.distributed.checkpoint`).

Each process writes and reads its own part of weights and moments, and the parts may be cut otherwise when they are
read. Frozen parameters are not in it: they are those of the model that training began with.
"""

import io
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from transformers import PreTrainedTokenizerBase

from thor_tir.learner.learner import Learner

_PARTS, _RANDOM = "parts", "random-{}.pt"


class Unfit(ValueError):
    """What was saved is of another model, or cannot be read."""


def write(folder: Path, learner: Learner) -> None:
    """Weights and moments, and the random states of each process; all processes must call it."""
    folder.mkdir(parents=True, exist_ok=True)
    learner.optimizer.zero_grad(set_to_none=True)
    with _plainly():
        writer = FileSystemWriter(folder / _PARTS, sync_files=False)  # the checkpoint is synchronised as a whole
        save(_parts(learner), storage_writer=writer)
    states = io.BytesIO()  # a disk without room then fails as a file does
    torch.save(_random_states(), states)
    (folder / _RANDOM.format(learner.ranks.rank)).write_bytes(states.getvalue())


def export(folder: Path, learner: Learner, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """The model as a Hugging Face folder, written by the first process; all must call it."""
    model: Any = learner.model
    whole = None
    if not learner.ranks.is_alone:
        whole = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if not learner.ranks.leads:
        return
    model.save_pretrained(folder, state_dict=whole)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def read(folder: Path, learner: Learner) -> None:
    """Put back, in place, what `write` wrote. Raises Unfit."""
    own = folder / _RANDOM.format(learner.ranks.rank)
    try:
        with _plainly():
            load(_parts(learner), checkpoint_id=folder / _PARTS)
        if own.exists():  # a process that was not there before keeps its own
            _restore_random_states(torch.load(own, map_location="cpu", weights_only=True))
    except (OSError, RuntimeError, ValueError, KeyError, UnpicklingError) as error:
        raise Unfit(str(error).strip().partition("\n")[0]) from error


def _parts(learner: Learner) -> dict[str, Any]:
    return {"weights": learner.weights, "moments": learner.moments()}


@contextmanager
def _plainly() -> Iterator[None]:
    """Without the remark that a process alone is alone, and with the fault itself in place of a collection of them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        try:
            yield
        except CheckpointException as error:  # no Exception in the sense of Python
            raise next(iter(error.failures.values()))[0] from None


def _random_states() -> dict[str, Any]:
    states = {"python": random.getstate(), "torch": torch.get_rng_state()}
    return {**states, "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []}


def _restore_random_states(states: dict[str, Any]) -> None:
    random.setstate(states["python"])
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
