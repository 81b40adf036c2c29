"""What a checkpoint keeps of a learner at one moment, and how it is written to files and put back.

Several processes write their own parts of weights and moments, and any number of processes reads them. Where their
hosts share no folder, the first writes and reads it all, and the others send and are sent.
"""

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import torch
from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedTokenizerBase

from thor_tir.distributed import ALONE, Ranks
from thor_tir.learner.learner import Learner
from thor_tir.learner.trainable import is_in_parts, local, whole
from thor_tir.storage.journal import JsonObject

_PARTS, _RANDOM = "parts", "random-{}.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """Everything that a checkpoint holds, of one moment."""

    model: Any
    """Model whose class and configuration write its folder."""
    whole: Mapping[str, Tensor] | None
    """Weights of that folder; None for those that the model has."""
    parts: Mapping[str, Any]
    """Trained weights, and their moments."""
    random: Mapping[int, bytes]
    """Random states of processes that this one writes, by their number."""
    counters: Sequence[int]
    """Steps taken, steps skipped, and steps skipped in a row."""
    extra: JsonObject
    """State of the caller."""
    ranks: Ranks
    """Processes that write it."""

    @classmethod
    def of(cls, learner: Learner, *, extra: JsonObject, is_copy: bool, ranks: Ranks) -> "SavedState":
        """What `learner` is now; a copy of it where it goes on meanwhile. All processes must call it."""
        learner.optimizer.zero_grad(set_to_none=True)
        states = io.BytesIO()  # a disk without room then fails as a file does
        torch.save(_random_states(), states)
        weights: Mapping[str, Any] | None = None
        model: torch.nn.Module = learner.model
        if is_in_parts(learner.model):
            options = StateDictOptions(full_state_dict=True, cpu_offload=True)
            weights = get_model_state_dict(model, options=options)
        elif is_copy:
            weights = _copied(learner.model.state_dict())
        return cls(
            model=learner.model,
            whole=weights,
            parts=_copied(_parts(learner)) if is_copy else _parts(learner),
            random={ranks.rank: states.getvalue()},
            counters=(learner.num_steps, learner.num_skipped, learner.failures_in_a_row),
            extra=extra,
            ranks=ranks,
        )

    def sent_to_first(self) -> "SavedState":
        """The same, whole, for the first process to write alone; all must call it."""
        random = {rank: state for part in self.ranks.gather(self.random) for rank, state in part.items()}

        def sent(value: Any) -> Any:
            found = whole(value.detach())
            return found.to("cpu", copy=True) if self.ranks.leads else None

        return replace(self, parts=_mapped(sent, self.parts), random=random, ranks=ALONE)


def _copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of tensors in dictionaries, in the memory of the host; what is one tensor under two names stays one."""
    copies: dict[tuple[int, torch.Size], Tensor] = {}

    def copied(value: Any) -> Any:
        key = (local(value).data_ptr(), value.shape)
        if key not in copies or not local(value).numel():
            copies[key] = value.detach().to("cpu", copy=True).requires_grad_(value.requires_grad)
        return copies[key]

    return _mapped(copied, tensors)


class _Writer(FileSystemWriter):
    """Writes nothing that differs between equal runs, such as the place and a name drawn at random."""

    def storage_meta(self) -> None:
        """No remark on the file."""
        return


class Unfit(ValueError):
    """A saved state that is of another model, or cannot be read."""


def write_state(folder: Path, saved: SavedState) -> None:
    """Weights and moments, and the random states of each process; all processes must call it.

    Random states first: when weights and moments are written all processes have met, and the first one may go on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for rank, states in saved.random.items():
        (folder / _RANDOM.format(rank)).write_bytes(states)
    with _plainly():
        writer = _Writer(folder / _PARTS, sync_files=False)  # the checkpoint is synchronised as a whole
        save(
            dict(saved.parts),
            storage_writer=writer,
            process_group=saved.ranks.group,
            no_dist=saved.ranks.is_alone,
        )


def export_model(folder: Path, saved: SavedState, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """The model as a Hugging Face folder, written by the first process."""
    if not saved.ranks.leads:
        return
    saved.model.save_pretrained(folder, state_dict=saved.whole)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def read_state(folder: Path, learner: Learner) -> None:
    """Put weights, moments and random states back, in place. Raises Unfit."""
    own = folder / _RANDOM.format(learner.ranks.rank)
    if not learner.ranks.see_one(folder):
        _read_sent(folder, learner)
        return
    with _unfit(), _plainly():
        load(_parts(learner), checkpoint_id=folder / _PARTS)
    if own.exists():  # a process that was not there before keeps its own
        _restore_random_states(own.read_bytes())


def _read_sent(folder: Path, learner: Learner) -> None:
    """As `read_state`, where the first process alone has the files: it sends the others what they need."""
    ranks, parts = learner.ranks, _parts(learner)

    def read() -> dict[str, Any]:
        found = _mapped(lambda part: torch.empty(part.shape, dtype=part.dtype), parts)
        with _unfit(), _plainly():
            load(found, checkpoint_id=folder / _PARTS, no_dist=True)
        return found

    outcome = read() if ranks.leads else None
    ranks.wait()
    wholes = _mapped(lambda part: torch.empty(part.shape, dtype=part.dtype), parts) if outcome is None else outcome
    with torch.no_grad():
        for part, found in zip(_leaves(parts), _leaves(wholes), strict=True):
            distributed.broadcast(found, 0)
            local(part).copy_(local(_as_part(found.to(part.device), part)))
    states = ranks.lead(lambda: {rank: path.read_bytes() for rank, path in _random_files(folder, ranks.size)})
    if ranks.rank in states:
        _restore_random_states(states[ranks.rank])


def _as_part(found: Tensor, part: Tensor) -> Tensor:
    """A whole tensor that every process has, cut as `part` is."""
    if not isinstance(part, DTensor):
        return found
    return distribute_tensor(found, part.device_mesh, part.placements, src_data_rank=None)


def _random_files(folder: Path, size: int) -> Iterator[tuple[int, Path]]:
    for rank in range(size):
        if (path := folder / _RANDOM.format(rank)).exists():
            yield rank, path


def _mapped(act: Callable[[Any], Any], tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Dictionaries of tensors of the same form, each tensor as `act` makes it."""
    return {name: _mapped(act, each) if isinstance(each, Mapping) else act(each) for name, each in tensors.items()}


def _leaves(tensors: Mapping[str, Any]) -> Iterator[Tensor]:
    for each in tensors.values():
        if isinstance(each, Mapping):
            yield from _leaves(each)
        else:
            yield each


@contextmanager
def _unfit() -> Iterator[None]:
    """Raise Unfit for whatever a saved state that is no such state makes of itself."""
    try:
        yield
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
            fault = next(iter(error.failures.values()))[0]
            raise fault from fault.__cause__ or fault.__context__  # such as the full disk that a writer stumbled over


class RandomStates(TypedDict):
    """States of torch's random numbers in one process."""

    torch: Tensor
    """State on the CPU."""
    cuda: list[Tensor]
    """State on each GPU."""


def _random_states() -> RandomStates:
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_states(saved: bytes) -> None:
    with _unfit():
        states: RandomStates = torch.load(io.BytesIO(saved), map_location="cpu", weights_only=True)
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
