"""GPUs that a run can be planned for, and the options of such a plan; nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

ChipName = Literal["a100-80gb", "h100", "h200"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """What a GPU has, from its maker's data sheet."""

    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes of its memory read a second."""
    flops: float
    """Operations a second of dense products in bfloat16."""
    link: float
    """Bytes a second that it sends to the GPUs of its own host."""


CHIPS: Mapping[ChipName, Chip] = {
    "a100-80gb": Chip(memory=80e9, bandwidth=2.04e12, flops=312e12, link=300e9),
    "h100": Chip(memory=80e9, bandwidth=3.35e12, flops=989e12, link=450e9),
    "h200": Chip(memory=141e9, bandwidth=4.8e12, flops=989e12, link=450e9),
}
"""GPUs by the names of `--cluster.gpu`."""
A_HOST = 8
"""GPUs of one host."""
NETWORK = 50e9
"""Bytes a second that each GPU sends to other hosts: a link of 400 Gbit/s for each."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """GPUs for which `--dry-run` plans; the run itself does not read this."""

    gpus: int = 0
    """GPUs in all, eight a host; 0 plans for this machine."""
    gpu: ChipName = "h100"
    """Their kind."""
    model: str = ""
    """Model whose shape is planned for where --model is not there yet: one of the paper's needs no hub."""
    engine_gpus: int = 0
    """GPUs that only sample, with vLLM; 0 lets all of them sample and train in turns."""
    tensor_parallel: int = 1
    """GPUs that hold one replica of vLLM together."""
    mean_tokens: int = 0
    """Tokens of a mean response, which the times depend on; 0 takes half of the limit."""
    tool_seconds: float = 2.0
    """Seconds that a trajectory waits for its programs in all."""
    efficiency: float = 0.4
    """Share of the chip's limits that products and reads reach."""

    def __post_init__(self) -> None:
        sampling = self.engine_gpus or self.gpus
        least = {"gpus": 0, "engine_gpus": 0, "mean_tokens": 0, "tool_seconds": 0, "tensor_parallel": 1}
        for name, bound in least.items():
            if (found := getattr(self, name)) < bound:
                raise ValueError(f"--cluster.{name.replace('_', '-')} is {found}: at least {bound} is wanted")
        if not 0 < self.efficiency <= 1:
            raise ValueError(f"--cluster.efficiency is {self.efficiency}; a share above 0, at most 1")
        if self.engine_gpus and self.engine_gpus >= self.gpus:
            raise ValueError(
                f"--cluster.engine-gpus is {self.engine_gpus} of {self.gpus}: some must be left that train; 0 lets all "
                "sample and train in turns"
            )
        if sampling % self.tensor_parallel:
            raise ValueError(
                f"--cluster.tensor-parallel is {self.tensor_parallel}, and {sampling} GPUs that sample are no multiple"
            )

    @property
    def learners(self) -> int:
        """GPUs that train."""
        return self.gpus - self.engine_gpus

    @property
    def replicas(self) -> int:
        """Engines that sample side by side."""
        return (self.engine_gpus or self.gpus) // self.tensor_parallel
