"""Keys and values of active rows in pages of one pool, which has its whole size from the beginning and never moves.

A row has a table of pages. It takes one when it grows into it and gives them back when it leaves, so to move a row is
to move its table, and rows and parked sequences that begin with the same tokens share the full pages of these. What
reads and writes by tables on the device may be captured and replayed (`captured.py`): nothing in it depends on Python.

Letters in names of tensors: X keys or values, L layers, H key-value heads, P pages, C tokens of a page, D size of a
head, S rows at most, W pages of a row, B rows of one call, N tokens stored by it, K tokens visible to it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from thor_tir.engines.local.kv_cache import CAPACITY_BLOCK, Window, num_blocks
from thor_tir.engines.local.sampling import sent
from thor_tir.errors import UsageError

RUBBISH = 0
"""The page that rows write to and read which only fill up a batch."""
FREE_SHARE = 0.5
"""Part of a GPU's free memory that the pool takes at most where nobody says how large it is."""


@dataclass(slots=True)
class _Row:
    pages: list[int]
    """Numbers of its pages, in order."""
    promised: int
    """Pages that it has when it is as long as it may become."""


class PagedCache:
    """The cache of all active rows; it does for engine and decoder what `SlotCache` does."""

    def __init__(self, model: Any, *, max_num_seqs: int, max_model_len: int, tokens: int | None = None) -> None:
        """A pool of so many tokens for a plain decoder; see `pool_tokens`."""
        shape = (len(model.model.layers), model.config.num_key_value_heads)
        size: int = model.model.layers[0].self_attn.head_dim
        token_bytes = 2 * shape[0] * shape[1] * size * model.dtype.itemsize
        wanted = max_num_seqs * CAPACITY_BLOCK * num_blocks(max_model_len)
        self._num_pages = pool_tokens(tokens, wanted, token_bytes, model.device) // CAPACITY_BLOCK
        self.max_tokens = CAPACITY_BLOCK * self._num_pages
        """Tokens that the pool holds."""
        self.max_num_seqs = max_num_seqs
        """Rows at most."""
        self.width = num_blocks(max_model_len)
        """Pages of the longest row."""
        self.device: torch.device = model.device
        self.dtype: torch.dtype = model.dtype
        pool = (2, *shape, 1 + self._num_pages, CAPACITY_BLOCK, size)
        self._pool_XLHPCD = torch.zeros(pool, dtype=self.dtype, device=self.device)
        self._tables_SW = torch.zeros(max_num_seqs, self.width, dtype=torch.long, device=self.device)
        self._known_SW = np.zeros((max_num_seqs, self.width), dtype=np.int64)
        self.release()

    def release(self) -> None:
        """Forget all rows. The pool stays: captured steps know its address."""
        self._rows: list[_Row] = []
        self._promised = 0
        self._users = [0] * (1 + self._num_pages)
        self._free = list(range(self._num_pages, RUBBISH, -1))
        self._known_SW[:] = RUBBISH

    @property
    def num_free(self) -> int:
        """Pages that nobody uses."""
        return len(self._free)

    def admits(self, tokens: int) -> bool:
        """Promise pages to the next row but those promised to, for its longest length; False where too few are left."""
        if self._promised + num_blocks(tokens) > self._num_pages:
            return False
        self._promised += num_blocks(tokens)
        return True

    @property
    def is_short(self) -> bool:
        """True while parked sequences hold pages that are promised to rows."""
        return self.num_free < self._promised - sum(len(row.pages) for row in self._rows)

    def enter(
        self, row: int, ids: Sequence[int], *, longest: int, states: tuple[Tensor, ...] | None = None, reused: int = 0
    ) -> None:
        """Take in a row, which was admitted with this length, behind those that are there. Its first tokens are the
        first of what `copy_out` gave: full pages are shared, and the rest of them is copied."""
        assert row == len(self._rows), f"row {row} enters behind {len(self._rows)} rows"
        kept: list[int] = [] if states is None else states[0].tolist()
        full, rest = divmod(reused, CAPACITY_BLOCK)
        self._use(kept[:full])
        self._rows.append(_Row(pages=kept[:full], promised=num_blocks(longest)))
        self.grow([(row, len(ids))])
        if rest:
            pages = self._pool_XLHPCD.unbind(3)
            pages[self._rows[row].pages[full]][..., :rest, :] = pages[kept[full]][..., :rest, :]

    def grow(self, needs: Iterable[tuple[int, int]]) -> None:
        """Give rows pages for so many tokens each. They are blank: what one row left is no part of another's sums."""
        taken: list[int] = []
        for row, tokens in needs:
            pages = self._rows[row].pages
            if missing := max(0, num_blocks(tokens) - len(pages)):
                fresh = [self._free.pop() for _ in range(missing)]
                taken, pages[:] = [*taken, *fresh], [*pages, *fresh]
                self._known_SW[row, : len(pages)] = pages
                self._known_SW[row, len(pages) :] = pages[0]  # hidden, and no other row's either
        self._use(taken)
        if taken:
            self._pool_XLHPCD.index_fill_(3, sent(taken, self.device), 0)

    def leave(self, row: int, *, last: int, tokens: int) -> None:
        """Let a row go, whose place the last one takes."""
        gone, self._rows[row] = self._rows[row], self._rows[-1]
        self._rows.pop()
        self._promised -= gone.promised
        self._give_back(gone.pages)
        self._known_SW[row] = self._known_SW[last]
        self._known_SW[last] = RUBBISH

    def blank(self, row: int, tokens: int) -> None:
        """No effect: pages are blank when a row gets them."""

    def copy_out(self, row: int, tokens: int) -> tuple[Tensor, ...]:
        """The pages of a row's first tokens, by number; they stay until `let_go`."""
        pages = self._rows[row].pages[: num_blocks(tokens)]
        self._use(pages)
        return (torch.tensor(pages),)

    def let_go(self, states: tuple[Tensor, ...]) -> None:
        """What `copy_out` gave is not needed any more."""
        self._give_back(states[0].tolist())

    def _use(self, pages: Iterable[int]) -> None:
        for page in pages:
            self._users[page] += 1

    def _give_back(self, pages: Iterable[int]) -> None:
        for page in pages:
            self._users[page] -= 1
            if not self._users[page]:
                self._free.append(page)

    def reserve(self, *, rows: int, tokens: int) -> None:
        """Bring the tables of the first rows, as wide as so many tokens need, to the device."""
        width = num_blocks(tokens)
        self._tables_SW[:rows, :width].copy_(sent(self._known_SW[:rows, :width], self.device))

    def aim(self, window: Window) -> None:
        """Choose the rows and positions of the next forward call; their tables are on the device."""
        self._shown_BW = self._tables_SW[window.rows, : num_blocks(window.visible)]
        page_N = self._tables_SW[window.slot_N, window.position_N // CAPACITY_BLOCK]
        self._place_N = page_N * CAPACITY_BLOCK + window.position_N % CAPACITY_BLOCK

    def write(self, layer: int, key_NHD: Tensor, value_NHD: Tensor) -> None:
        """Store the keys and values of one layer where the window says."""
        for pool_HPCD, states_NHD in zip(self._pool_XLHPCD[:, layer], (key_NHD, value_NHD), strict=True):
            pool_HPCD.flatten(1, 2).index_copy_(1, self._place_N, states_NHD.transpose(0, 1))

    def blocks(self, layer: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of one layer that the window shows, [B, H, K, D] each, in one piece."""
        key, value = self.visible(layer)
        return [key], [value]

    def visible(self, layer: int) -> tuple[Tensor, Tensor]:
        """The same without lists around them."""
        rows, page_N = len(self._shown_BW), self._shown_BW.flatten()
        key, value = (
            pool_HPCD.index_select(1, page_N).unflatten(1, (rows, -1)).flatten(2, 3).transpose(0, 1)
            for pool_HPCD in self._pool_XLHPCD[:, layer]
        )
        return key, value


def pool_tokens(asked: int | None, wanted: int, token_bytes: int, device: torch.device) -> int:
    """Tokens of a pool: those asked for, or else what the rows want at most, within half of a GPU's free memory.

    Raises UsageError where that is not one page.
    """
    tokens = wanted if asked is None else asked
    if asked is None and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        tokens = min(wanted, int(FREE_SHARE * free) // token_bytes)
    if tokens < CAPACITY_BLOCK:
        raise UsageError(
            f"the pool of keys and values would hold {tokens} tokens, less than one page of {CAPACITY_BLOCK}: "
            "raise --engine.cache-tokens, or free memory of the GPU"
        )
    return tokens


def attend_pages(query_BHD: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], mask_B1K: Tensor) -> Tensor:
    """What `fast_decoder.attend` computes, by torch's fused attention over one block; queries that share keys and
    values are rows of one product, so that nothing is repeated for them."""
    rows, heads, size = query_BHD.shape
    shared = keys[0].shape[1]
    mixed = scaled_dot_product_attention(
        query_BHD.reshape(rows, shared, heads // shared, size),
        keys[0],
        values[0],
        attn_mask=mask_B1K[:, :, None],
        scale=1.0,
    )
    return mixed.reshape(rows, heads * size)
