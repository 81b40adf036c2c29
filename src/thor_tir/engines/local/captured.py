"""A decoding step that is recorded once for each of a few sizes and replayed, without Python and without launches.

A recording knows addresses and shapes alone. So all that changes from step to step lies in buffers that stay where they
are and are overwritten before a replay, batches are filled up to the next size, and keys and values lie in the pool of
`pages.py`. What is drawn from the logits is drawn outside: its shapes depend on the settings of the rows.

Letters in names of tensors: B rows of one call, S rows at most, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from thor_tir.engines.local.kv_cache import CAPACITY_BLOCK, num_blocks
from thor_tir.engines.local.pages import PagedCache
from thor_tir.engines.local.sampling import sent
from thor_tir.errors import UsageError


class Recorder(Protocol):
    """A way to do once more what a function did on the device, at the same addresses and in the same shapes."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """The replay of a step, which may run any number of times meanwhile: it does the same again."""
        ...


class CudaRecorder:
    """CUDA graphs whose memory for what lies between input and output is one and the same: only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        """Raises UsageError for a device that has no CUDA graphs."""
        if device.type != "cuda":
            raise UsageError(f"--engine.cuda-graphs needs a GPU with CUDA, and the model is on {device}; leave it out")
        self._device = device
        self._memory = torch.cuda.graph_pool_handle()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """A graph of the step, which runs once on a side stream before it is captured: libraries set themselves up."""
        with torch.cuda.device(self._device):
            side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                step()
            torch.cuda.current_stream().wait_stream(side)
            # Other threads, such as those of a process group, may go on asking the device.
            with torch.cuda.graph(graph, pool=self._memory, capture_error_mode="thread_local"):
                step()
        replay: Callable[[], None] = graph.replay
        return replay


class CapturedSteps:
    """The recorded steps of one decoder."""

    def __init__(
        self, recorder: Recorder, cache: PagedCache, step: Callable[[Tensor, Tensor, int], Tensor], *, vocabulary: int
    ) -> None:
        """`step` gives the logits [B, V] for ids, positions and a number of visible tokens."""
        self._recorder, self._cache, self._step = recorder, cache, step
        self._asked_2S = torch.zeros(2, cache.max_num_seqs, dtype=torch.long, device=cache.device)
        self._logits_SV = torch.zeros(cache.max_num_seqs, vocabulary, dtype=cache.dtype, device=cache.device)
        self._replays: dict[tuple[int, int], Callable[[], None]] = {}

    def logits(self, last_B: Sequence[int], position_B: Sequence[int]) -> Tensor:
        """Store one more token in each of the first rows; the logits [B, V] of what follows, until the next call.

        Rows that fill up the batch have no table: they write to the rubbish page and read it.
        """
        cache, rows = self._cache, len(last_B)
        cache.grow((row, place + 1) for row, place in enumerate(position_B))
        padded = next_size(rows, most=cache.max_num_seqs)
        pages = next_size(num_blocks(max(position_B) + 1), most=cache.width)
        cache.reserve(rows=padded, tokens=CAPACITY_BLOCK * pages)
        padding = [0] * (padded - rows)
        asked_2B = self._asked_2S[:, :padded]
        asked_2B.copy_(sent([[*last_B, *padding], [*position_B, *padding]], asked_2B.device))
        if (padded, pages) not in self._replays:

            def step() -> None:
                ids_B, place_B = asked_2B.unbind()
                self._logits_SV[:padded].copy_(self._step(ids_B, place_B, CAPACITY_BLOCK * pages))

            self._replays[padded, pages] = self._recorder.record(step)
        self._replays[padded, pages]()
        return self._logits_SV[:rows]


def next_size(count: int, *, most: int) -> int:
    """The next power of two, or the most that there can be."""
    return min(1 << (count - 1).bit_length(), most)
