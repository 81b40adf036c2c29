"""The table of engines, and what a run may say about the one that samples; each takes from it what it knows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EngineName = Literal["local"]
ENGINES: Mapping[EngineName, str] = {"local": "thor_tir.engines.local.engine"}
"""Engines by name: modules with a function `open_engine`, imported when one is asked for. A new engine adds its own
file, a name and a line here, and its packages to the extras."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine that samples, and what it may use."""

    name: EngineName = "local"
    """Engine that samples: `local` decodes in this process, over any transformers model."""
    max_num_seqs: int = 128
    """Largest number of sequences that are decoded together."""
    num_threads: int | None = None
    """CPU threads of the engine; None for all. Training always uses all."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}; at least one sequence is decoded")
