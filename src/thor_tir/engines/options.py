"""The table of engines, the options of a run for the one that samples, and the bounds of the engine of this process."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

EngineName = Literal["local", "vllm"]
ENGINES: Mapping[EngineName, str] = {
    "local": "thor_tir.engines.local.engine",
    "vllm": "thor_tir.engines.vllm.engine",
}
"""Engines by name: modules with a function `open_engine`, imported when one is asked for. A new engine adds its own
file, a name and a line here, and its packages to the extras."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine that samples, and what it may use."""

    name: EngineName = "local"
    """Engine that samples: `local` decodes in this process, over any transformers model; `vllm` starts a vLLM server
    beside it and gives it every new version of the weights (docs/vllm.md)."""
    python: str = ""
    """Interpreter of the environment that has vLLM; empty for this one."""
    arguments: str = ""
    """Further arguments of vLLM's server, in one string, such as `--tensor-parallel-size 2`."""
    max_num_seqs: int = 128
    """Largest number of sequences that are decoded together."""
    num_threads: int | None = None
    """CPU threads of the engine; None for all. Training always uses all."""
    bf16: bool = False
    """True loads a model that is only sampled from in bfloat16, which a GPU does in any case: half the memory, and
    faster on processors with products in bfloat16. In RL `--bf16` says it."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}; at least one sequence is decoded")


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Bounds of the engine of this process (`engines/local`)."""

    max_num_seqs: int = 64
    """Largest number of sequences that are decoded together."""
    max_model_len: int | None = None
    """Longest prompt with its completion, in tokens; None for what the model was built for."""
    prefill_tokens: int = 8192
    """Prompt tokens computed in one forward call, padding included: a bound on memory, not on the length of prompts."""
    parked_tokens: int = 131_072
    """Tokens whose keys and values are kept for sequences that hold no row."""
    num_threads: int | None = None
    """CPU threads of a step; None leaves torch's setting. Small models decode fastest on one."""
    deterministic: bool = False
    """Step only when every attending trajectory waits, so that equal seeds give equal bits whatever time tools take.
    Whoever starts another trajectory when one ends must do so without waiting for anything else in between."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.prefill_tokens < 1 or self.parked_tokens < 0:
            raise ValueError(f"max_num_seqs >= 1, prefill_tokens >= 1 and parked_tokens >= 0 are allowed, found {self}")
