"""Rows that begin with the same tokens: whose keys and values each of them reads for these.

Every row stores all of its own, so a row that leaves takes nothing from the others. But a step that reads the first
keys and values of a group from one place reads them from memory once (`step.c`).

Letters in names of arrays: S slots, P first positions, N rows that leave or borrow.
"""

from collections.abc import Sequence

import numpy as np

LEAST = 80
"""Tokens in common from which on a loan pays: at 64 a step of groups of eight was a little slower, at 400 faster."""
LONGEST = 4096
"""Tokens of a row that are compared with those of others."""


class Loans:
    """The owner of each row's first tokens, and how many these are: even numbers, as `step.c` wants them."""

    def __init__(self, *, max_num_seqs: int, max_tokens: int, least: int = LEAST) -> None:
        self.owner_S = np.arange(max_num_seqs, dtype=np.int64)
        """The row whose keys and values are read in place of the row's own; the row itself where nothing is lent."""
        self.lent_S = np.zeros(max_num_seqs, dtype=np.int64)
        """Number of first tokens that are read there."""
        self._least = least
        self._ids_SP = np.full((max_num_seqs, min(max_tokens, LONGEST)), -1, dtype=np.int32)

    def enter(self, row: int, token_ids: Sequence[int]) -> None:
        """Take in a row behind those that are there: it borrows from the one with which it has most in common."""
        count = min(len(token_ids), self._ids_SP.shape[1])
        self._ids_SP[row, :count] = token_ids[:count]
        self._ids_SP[row, count:] = -1
        self.owner_S[row], self.lent_S[row] = row, 0
        if not row or not count:
            return
        is_other_SP = self._ids_SP[:row, :count] != self._ids_SP[row, :count]
        common_S = np.where(is_other_SP.any(axis=1), is_other_SP.argmax(axis=1), count)
        best = int(common_S.argmax())
        if common_S[best] >= self._least:
            self.owner_S[row], self.lent_S[row] = best, common_S[best] // 2 * 2

    def leave(self, row: int, *, last: int) -> None:
        """Let a row go, whose place the last one takes; those who borrowed from it borrow from the first of them."""
        owner_N = self.owner_S[: last + 1]
        [heirs_N] = np.nonzero((owner_N == row) & (np.arange(last + 1) != row))
        if len(heirs_N):
            heir = heirs_N[0]
            self.owner_S[heirs_N] = heir
            self.lent_S[heirs_N] = np.minimum(self.lent_S[heirs_N], self.lent_S[heir])
            self.lent_S[heir] = 0
        if row != last:
            self.owner_S[row], self.lent_S[row] = self.owner_S[last], self.lent_S[last]
            self._ids_SP[row] = self._ids_SP[last]
            owner_N[owner_N == last] = row
