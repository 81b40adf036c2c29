"""What the engine of this process may hold, and what it has done."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """What an engine may hold at once."""

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


@dataclass(slots=True, kw_only=True)
class Stats:
    """What an engine has done since it was made."""

    sampled_tokens: int = 0
    """Tokens drawn."""
    prefilled_tokens: int = 0
    """Prompt tokens computed."""
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were parked and copied instead."""
    forwards: int = 0
    """Calls of the model."""
    busy_s: float = 0.0
    """Seconds spent in steps."""
    idle_s: float = 0.0
    """Seconds without a step to take: waiting for tools, or for requests at all."""
