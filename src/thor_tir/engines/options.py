"""The table of engines, the options of a run for the one that samples, and the bounds of the engine of this process."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

EngineName = Literal["local", "vllm", "sglang"]
ENGINES: Mapping[EngineName, str] = {
    "local": "thor_tir.engines.local.engine",
    "vllm": "thor_tir.engines.vllm.opening",
    "sglang": "thor_tir.engines.vllm.opening",
}
"""Engines by name: modules with a function `open_engine`, imported when one is asked for. A new engine adds its own
file, a name and a line here, and its packages to the extras."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """The engine that samples, and what it may use."""

    name: EngineName = "local"
    """Engine that samples: `local` decodes in this process, over any transformers model; `vllm` starts a vLLM server
    beside it and gives it every new version of the weights (docs/vllm.md); `sglang` asks servers of SGLang by the same
    rules, and was not run."""
    python: str = ""
    """Interpreter of the environment that has vLLM; by default that of THOR_VLLM_PYTHON, else this one."""
    arguments: str = ""
    """Further arguments of vLLM's server, in one string, such as `--tensor-parallel-size 2`."""
    replicas: int = 1
    """Servers that are started; requests are spread over them, a prompt's group and repairs to one of them."""
    address: tuple[str, ...] = ()
    """Addresses of servers that run already, in place of those that would be started, or the file of them that
    `thor engine up` wrote. They hold this run's weights while it lasts."""
    critic_address: tuple[str, ...] = ()
    """The same for TIRGen's critic, which is a second model: servers that were started with it."""
    weights: Literal["path", "nccl"] = "path"
    """Way of new weights into the servers: files that they read by `path`, or the GPUs' network (`nccl`)."""
    folder: Path | None = None
    """Folder for these files, where servers on other machines can read it; by default a temporary one."""
    placement: Literal["apart", "colocated"] = "apart"
    """Devices of the servers: `apart` from training, or `colocated`, where they give memory away while it trains."""
    max_num_seqs: int = 128
    """Largest number of sequences that are decoded together."""
    gpu_memory_utilization: float | None = None
    """Share of a GPU's memory that a server of vLLM fills; by default 0.9 apart, and 0.5 colocated, where training
    keeps weights and moments beside it."""
    num_threads: int | None = None
    """CPU threads of the engine; None for all. Training always uses all."""
    compiled: bool = True
    """False leaves the compiled decoding step of the local engine aside: one of a plain model on a CPU is C, compiled
    once by this machine's compiler; where there is none, a warning says so and torch decodes."""
    cuda_graphs: bool = False
    """True lets the local engine capture decoding steps on a GPU as CUDA graphs and replay them, over a pool of pages
    of keys and values (docs/cuda_graphs.md). It was proven on a CPU and never ran on a GPU."""
    cache_tokens: int | None = None
    """Tokens of that pool; by default what `max_num_seqs` longest sequences need, in half of the free memory."""
    bf16: bool = False
    """True loads a model that is only sampled from in bfloat16, which a GPU does in any case: half the memory, and
    faster on processors with products in bfloat16. In RL `--bf16` says it."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {self.max_num_seqs}; at least one sequence is decoded")
        if self.replicas < 1:
            raise ValueError(f"--engine.replicas is {self.replicas}; at least one server is started")
        named = self.address or self.critic_address
        if self.name == "local" and (self.replicas > 1 or named or self.placement == "colocated"):
            raise ValueError("--engine.replicas, --engine.address and --engine.placement need --engine.name vllm")
        if self.cuda_graphs and self.name != "local":
            raise ValueError(f"--engine.cuda-graphs is of the engine `local`; {self.name} has graphs of its own")
        if self.cache_tokens is not None and (self.cache_tokens < 1 or not self.cuda_graphs):
            raise ValueError("--engine.cache-tokens is the size of the pool of --engine.cuda-graphs, 1 or more tokens")
        if self.gpu_memory_utilization is not None and not 0 < self.gpu_memory_utilization <= 1:
            raise ValueError(f"--engine.gpu-memory-utilization is {self.gpu_memory_utilization}; a share above 0 to 1")
        if self.placement == "colocated" and self.weights == "nccl":
            raise ValueError(
                "NCCL joins no two processes of one GPU: --engine.placement colocated needs weights by path"
            )
        if named and self.replicas > 1:
            raise ValueError("--engine.address names the servers; leave out --engine.replicas, which starts some")

    @property
    def of_critic(self) -> "EngineOptions":
        """The engine of TIRGen's critic."""
        return replace(self, address=self.critic_address)

    @property
    def of_servers(self) -> list[str]:
        """The options that are set and that servers alone read."""
        given = {
            "--engine.python": self.python,
            "--engine.arguments": self.arguments,
            "--engine.weights": self.weights != "path",
            "--engine.folder": self.folder,
            "--engine.gpu-memory-utilization": self.gpu_memory_utilization,
        }
        return [option for option, value in given.items() if value]

    @property
    def gpu_share(self) -> float:
        """Share of a GPU's memory that a server fills."""
        return self.gpu_memory_utilization or (0.5 if self.placement == "colocated" else 0.9)


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
    parked_bytes: int = 2**30
    """Bytes that these may take at most: a token of a model of 135 million parameters has 46,080."""
    num_threads: int | None = None
    """CPU threads of a step; None leaves torch's setting. Small models decode fastest on one."""
    compiled: bool = True
    """Decode a plain model on a CPU by the compiled step, where this machine has a C compiler; False never does."""
    cache_tokens: int | None = None
    """Tokens of the pool of captured steps; None for what the rows need at most, in half of a GPU's free memory."""
    deterministic: bool = False
    """Step only when every attending trajectory waits, so that equal seeds give equal bits whatever time tools take.
    Whoever starts another trajectory when one ends must do so without waiting for anything else in between."""

    def __post_init__(self) -> None:
        if self.max_num_seqs < 1 or self.prefill_tokens < 1 or min(self.parked_tokens, self.parked_bytes) < 0:
            raise ValueError(
                "max_num_seqs >= 1, prefill_tokens >= 1, parked_tokens >= 0 and parked_bytes >= 0 are allowed, "
                f"found {self}"
            )
