"""The servers of one process among several that sample and train together."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from thor_tir.distributed import Ranks
from thor_tir.engines.options import EngineOptions
from thor_tir.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """This process among those that sample and train together, as far as servers are concerned."""

    rank: int = 0
    """Number of this process."""
    size: int = 1
    """Number of all."""

    @classmethod
    def found(cls) -> "Place":
        """The place of this process."""
        group = torch.distributed
        if not group.is_available() or not group.is_initialized():
            return cls()
        return cls(rank=group.get_rank(), size=group.get_world_size())

    def share(self, addresses: Sequence[str]) -> list[str]:
        """The addresses of this process: its part of them, or one that it shares where there are too few."""
        if self.has_to_share(addresses):
            return [addresses[self.rank % len(addresses)]]
        return list(addresses[self.rank :: self.size])

    def has_to_share(self, addresses: Sequence[str]) -> bool:
        """True where there are fewer addresses than processes."""
        return 0 < len(addresses) < self.size

    def check_way(self, options: EngineOptions, addresses: Sequence[str]) -> None:
        """Raise UsageError where weights cannot get into servers that are shared."""
        if options.weights == "nccl" and self.has_to_share(addresses):
            raise UsageError("processes that share a server bring weights by path: leave out --engine.weights nccl")

    def agreed(self, name: str) -> str:
        """The name that the first process gives. All must call it."""
        return Ranks(rank=self.rank, size=self.size).gather(name)[0]
