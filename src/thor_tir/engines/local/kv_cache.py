"""Keys and values of the rows that are being decoded, in slots of one buffer, and copies of finished ones.

`SlotCache` stores new keys and values at each row's own position, in blocks of so many tokens of all rows, each of
which lies in memory as one piece: a processor reads such a block three times as fast as rows cut out of a longer
buffer. A Hugging Face model that takes it for its cache gets back what a block of rows may see. `ParkedCache` keeps
keys and values of sequences that left their row, to be copied into the row of any later request that begins with the
same tokens: the next turn after a tool call, a cut back to an earlier token, other samples of one prompt.

Letters in names of tensors: J blocks, L layers, S slots, H key-value heads, C tokens of a block, D size of a head,
B rows of one call, T tokens of one call, K tokens visible to it, N tokens stored by it.
"""

import math
import mmap
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache

from thor_tir.engines.local.loans import Loans

CAPACITY_BLOCK = 64
"""Tokens of a block: a call reads whole ones, so larger ones read more in vain, and smaller ones are more calls."""
PREFIX_BLOCK = 8
"""Tokens after which a parked sequence is indexed once more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Slots for the tokens of one forward call, and the positions that its rows may attend to."""

    rows: slice
    """Contiguous slots, in the order of the batch."""
    visible: int
    """K: how many positions of these rows the model is shown; its mask hides what a row has not stored yet."""
    slot_N: Tensor
    """Slot of each stored token."""
    position_N: Tensor
    """Its position within the sequence."""
    source_N: Tensor | None = None
    """Its index into the B * T tokens of the call; None where the call has no padding."""


class SlotCache(Cache):  # type: ignore[misc]
    """The cache of all active rows. `aim` says where the next forward call writes and reads."""

    def __init__(self, *, num_layers: int, max_num_seqs: int, max_tokens: int) -> None:
        super().__init__(layers=[])
        self.num_layers = num_layers
        self.max_num_seqs = max_num_seqs
        self.max_tokens = CAPACITY_BLOCK * num_blocks(max_tokens)
        self._num_slots = 0
        self._num_blocks = 0
        self._keys_JLSHCD: Tensor | None = None
        self._values_JLSHCD: Tensor | None = None
        self._window: Window | None = None
        self._place: tuple[Tensor | slice, ...] = ()
        self.loans = Loans(max_num_seqs=max_num_seqs, max_tokens=max_tokens)
        """Rows that may read their first keys and values at another row's place."""

    def admits(self, tokens: int) -> bool:
        """True: a row has room for its longest length from the beginning, or gets it when it grows."""
        return True

    @property
    def is_short(self) -> bool:
        """False: what is parked takes nothing from rows."""
        return False

    def enter(
        self, row: int, ids: Sequence[int], *, longest: int, states: tuple[Tensor, ...] | None = None, reused: int = 0
    ) -> None:
        """Take in a row behind those that are there, with the first tokens of what `copy_out` gave."""
        self.loans.enter(row, ids[:-1])
        if states is not None:
            self.copy_in(row, states, reused)

    def leave(self, row: int, *, last: int, tokens: int) -> None:
        """Let a row go, whose place the last one takes, which stores so many tokens."""
        self.loans.leave(row, last=last)
        if row != last:
            self.move(source=last, target=row, tokens=tokens)

    def blank(self, row: int, tokens: int) -> None:
        """Overwrite a row's first tokens, which are no numbers: hidden ones get weight 0, and 0 times them is none."""
        for buffer in self._buffers():
            buffer[: num_blocks(tokens), :, row] = 0

    def aim(self, window: Window) -> None:
        """Choose the rows and positions of the next forward call; the buffers must have room for them."""
        self._window = window
        block_N, offset_N = window.position_N // CAPACITY_BLOCK, window.position_N % CAPACITY_BLOCK
        self._place = (block_N, window.slot_N, slice(None), offset_N)

    def reserve(self, *, rows: int, tokens: int) -> None:
        """Make room for this many rows of this many tokens, keeping what is stored."""
        if rows > self._num_slots:
            self._num_slots = min(self.max_num_seqs, max(rows, 2 * self._num_slots))
        if num_blocks(tokens) > self._num_blocks:
            wanted = max(num_blocks(tokens), self._num_blocks * 3 // 2)
            self._num_blocks = min(num_blocks(self.max_tokens), wanted)
        if self._keys_JLSHCD is not None and self._values_JLSHCD is not None:
            self._keys_JLSHCD = self._grown(self._keys_JLSHCD)
            self._values_JLSHCD = self._grown(self._values_JLSHCD)

    def _grown(self, old: Tensor) -> Tensor:
        blocks, layers, slots, heads, capacity, size = old.shape
        if (slots, blocks) == (self._num_slots, self._num_blocks):
            return old
        new = old.new_zeros(self._num_blocks, layers, self._num_slots, heads, capacity, size)
        new[:blocks, :, :slots] = old
        return new

    def buffers(self, *, shared: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values [J, L, S, H, C, D], allocated in the type of `like` if there are none yet."""
        if self._keys_JLSHCD is None or self._values_JLSHCD is None:
            # Zeros, not empty memory: hidden positions get weight 0, and 0 times a stray NaN would be NaN.
            whole = (num_blocks(self.max_tokens), self.num_layers, self.max_num_seqs, shared, CAPACITY_BLOCK, size)
            keys, values = (_zeros_where_written(whole, like) for _ in range(2))
            if keys is None or values is None:
                shape = (self._num_blocks, self.num_layers, self._num_slots, shared, CAPACITY_BLOCK, size)
                keys, values = like.new_zeros(shape), like.new_zeros(shape)
            self._num_blocks, self._num_slots = keys.shape[0], keys.shape[2]
            self._keys_JLSHCD, self._values_JLSHCD = keys, values
        return self._keys_JLSHCD, self._values_JLSHCD

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Store one layer's new keys and values [B, H, T, D] and return all that are visible, [B, H, K, D]."""
        self.write(layer_idx, self._stored(key_states), self._stored(value_states))
        return self.visible(layer_idx)

    def _stored(self, states_BHTD: Tensor) -> Tensor:
        states_NHD = states_BHTD.transpose(1, 2).flatten(0, 1)
        source_N = self._aimed.source_N
        return states_NHD if source_N is None else states_NHD.index_select(0, source_N)

    def write(self, layer: int, key_NHD: Tensor, value_NHD: Tensor) -> None:
        """Store the keys and values of one layer where the window says."""
        keys, values = self.buffers(shared=key_NHD.shape[1], size=key_NHD.shape[2], like=key_NHD)
        keys[:, layer][self._place] = key_NHD
        values[:, layer][self._place] = value_NHD

    def blocks(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of one layer that the window shows, [B, H, tokens, D] a block: views of the buffers."""
        keys, values = (self._blocks(buffer, layer) for buffer in self._buffers())
        return keys, values

    def _blocks(self, buffer_JLSHCD: Tensor, layer: int) -> list[Tensor]:
        window = self._aimed
        shown = [block[layer, window.rows] for block in buffer_JLSHCD[: num_blocks(window.visible)]]
        rest = window.visible - CAPACITY_BLOCK * (len(shown) - 1)
        return shown if rest == CAPACITY_BLOCK else [*shown[:-1], shown[-1][:, :, :rest]]

    def visible(self, layer: int) -> tuple[Tensor, Tensor]:
        """The same in one piece, [B, H, K, D]."""
        keys, values = self.blocks(layer)
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Visible tokens; models ask only where they were given no positions, which this engine always gives."""
        return self._aimed.visible

    def move(self, *, source: int, target: int, tokens: int) -> None:
        """Copy the first tokens of one row to another."""
        count = num_blocks(tokens)
        for buffer in self._buffers():
            buffer[:count, :, target] = buffer[:count, :, source]

    def copy_out(self, row: int, tokens: int) -> tuple[Tensor, ...]:
        """Keys and values of a row's first tokens, [L, H, tokens, D] each, independent of the buffers."""
        return tuple(
            torch.cat(
                [
                    block[:, row, :, : tokens - CAPACITY_BLOCK * number]
                    for number, block in enumerate(buffer[: num_blocks(tokens)])
                ],
                dim=2,
            )
            for buffer in self._buffers()
        )

    def let_go(self, states: tuple[Tensor, ...]) -> None:
        """What `copy_out` gave is not needed any more; it is independent of the rows."""

    def copy_in(self, row: int, states: Sequence[Tensor], tokens: int) -> None:
        """The inverse of `copy_out`, for the first tokens of what it returned."""
        for buffer, state in zip(self._buffers(), states, strict=True):
            pieces = torch.split(state[:, :, :tokens], CAPACITY_BLOCK, dim=2)
            for block, piece in zip(buffer, pieces, strict=False):
                block[:, row, :, : piece.shape[2]] = piece

    @property
    def _aimed(self) -> Window:
        assert self._window is not None, "no forward call was aimed yet"
        return self._window

    def _buffers(self) -> tuple[Tensor, Tensor]:
        assert self._keys_JLSHCD is not None, "no forward call has stored anything yet"
        assert self._values_JLSHCD is not None
        return self._keys_JLSHCD, self._values_JLSHCD

    def release(self) -> None:
        """Free the buffers; the next forward call allocates them anew, as large as they were."""
        self._keys_JLSHCD = self._values_JLSHCD = None


def _zeros_where_written(shape: Sequence[int], like: Tensor) -> Tensor | None:
    """Zeros on a CPU that take memory a page at a time, when something is written there, so that a buffer has its whole
    size from the beginning and is never made anew; None where the system has no such memory, or counts addresses."""
    if sys.platform != "linux" or like.device.type != "cpu" or _limits_addresses():
        return None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    try:
        pages = mmap.mmap(-1, math.prod(shape) * like.element_size(), flags=flags)
    except OSError:  # memory is promised to nobody who does not take it
        return None
    with suppress(OSError):  # a kernel without huge pages, of which one would be taken for each row's first few tokens
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return torch.frombuffer(pages, dtype=like.dtype).view(*shape)


def _limits_addresses() -> bool:
    """True where addresses of this process are limited (`ulimit -v`): those of empty pages would be missing later."""
    import resource  # Linux has it

    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def num_blocks(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // CAPACITY_BLOCK)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Parked:
    """Keys and values of one sequence that holds no row."""

    ids: NDArray[np.int64]
    """Token ids of the sequence."""
    states: tuple[Tensor, ...]
    """Keys and values of each layer."""

    @property
    def num_bytes(self) -> int:
        """Bytes of its keys and values."""
        return sum(each.nbytes for each in self.states)


class ParkedCache:
    """Parked sequences, the least recently used forgotten first, found by the longest prefix in common.

    Every sequence is indexed under a hash of its first 8, 16, 24, ... tokens. A search goes to the longest indexed
    prefix and compares token by token there, so what it finds falls short of the best by less than one block, and
    prefixes under one block are not reused at all: computing them again costs less than a copy.
    """

    def __init__(
        self,
        *,
        max_tokens: int,
        max_bytes: int = 2**30,
        let_go: Callable[[tuple[Tensor, ...]], None] = lambda states: None,
    ) -> None:
        """`let_go` hears of what is forgotten."""
        self.max_tokens, self.max_bytes = max_tokens, max_bytes
        self._let_go = let_go
        self.num_tokens = self.num_bytes = 0
        self._entries: OrderedDict[Parked, None] = OrderedDict()
        self._index: dict[int, list[Parked]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def accepts(self, num_tokens: int) -> bool:
        """True if a sequence of this length can be parked."""
        return PREFIX_BLOCK <= num_tokens <= self.max_tokens

    def park(self, token_ids: Sequence[int], states: tuple[Tensor, ...]) -> None:
        """Keep the keys and values of these tokens. Sequences that are prefixes of this one are then superfluous."""
        assert self.accepts(len(token_ids)), f"{len(token_ids)} tokens cannot be parked"
        entry = Parked(ids=np.asarray(token_ids, dtype=np.int64), states=states)
        for blocks, key in enumerate(_prefix_hashes(entry.ids), 1):
            holders = self._index.get(key, [])
            ending_here = [old for old in holders if len(old.ids) // PREFIX_BLOCK == blocks]
            for old in ending_here:
                if _common_prefix(old.ids, entry.ids) == len(old.ids):
                    self._forget(old)
            self._index.setdefault(key, []).append(entry)
        self._entries[entry] = None
        self.num_tokens += len(entry.ids)
        self.num_bytes += entry.num_bytes
        while self.num_tokens > self.max_tokens or self.num_bytes > self.max_bytes:
            self.forget_oldest()

    def forget_oldest(self) -> None:
        """Forget the sequence that was not looked for the longest time."""
        self._forget(next(iter(self._entries)))

    def find(self, token_ids: Sequence[int]) -> tuple[Parked | None, int]:
        """A parked sequence and how many of its first tokens these ids begin with; (None, 0) if there is none."""
        ids = np.asarray(token_ids, dtype=np.int64)
        candidates: list[Parked] = []
        for key in _prefix_hashes(ids):
            if key not in self._index:
                break
            candidates = self._index[key]
        best, best_length = None, 0
        for entry in candidates:
            length = _common_prefix(entry.ids, ids)
            if length > best_length:
                best, best_length = entry, length
        if best is not None:
            self._entries.move_to_end(best)
        return best, best_length

    def clear(self) -> None:
        """Forget everything."""
        for entry in self._entries:
            self._let_go(entry.states)
        self._entries.clear()
        self._index.clear()
        self.num_tokens = self.num_bytes = 0

    def _forget(self, entry: Parked) -> None:
        del self._entries[entry]
        self._let_go(entry.states)
        self.num_tokens -= len(entry.ids)
        self.num_bytes -= entry.num_bytes
        for key in _prefix_hashes(entry.ids):
            holders = self._index[key]
            holders.remove(entry)
            if not holders:
                del self._index[key]


def _prefix_hashes(ids: NDArray[np.int64]) -> Iterator[int]:
    """Hashes of the first 1, 2, 3, ... whole blocks, each built upon the one before."""
    key = 0
    for start in range(0, len(ids) - PREFIX_BLOCK + 1, PREFIX_BLOCK):
        key = hash((key, ids[start : start + PREFIX_BLOCK].tobytes()))
        yield key


def _common_prefix(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """Number of equal tokens at the beginning."""
    shorter = min(len(a), len(b))
    different = (a[:shorter] != b[:shorter]).argmax() if shorter else 0
    is_equal_so_far = shorter == 0 or a[different] == b[different]
    return shorter if is_equal_so_far else int(different)
