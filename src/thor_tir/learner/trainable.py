"""A model as it is trained: with low-rank adapters beside it (LoRA, through `peft`), or spread over processes (FSDP2).

Adapters are small matrices beside a frozen model, trained in its place. The sum of both samples and learns, so an
engine over the model uses them at once; what training leaves is the merged model, a folder like any other.

Of a model that is spread out each process holds a part of every parameter, of its gradient and of its moments. A
layer's parameters are whole only while the layer computes. Every forward and backward call is a meeting of all
processes, so all must make equally many of them; gradients are summed, not averaged.
"""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from thor_tir.distributed import Ranks
from thor_tir.extras import need
from thor_tir.learner.config import AdapterConfig
from thor_tir.pretrained import CausalLM


def with_adapters(model: CausalLM, config: AdapterConfig) -> CausalLM:
    """The model with fresh adapters, which change nothing yet; alike in every process. Rank 0 leaves it as it is."""
    if not config.lora_r:
        return model
    need("peft", "an adapter (--lora-r)")
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,  # with dropout, what is trained would not be what sampled
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        adapted: CausalLM = get_peft_model(model, lora).eval()
        return adapted


def merged(model: CausalLM) -> CausalLM:
    """The model with its adapters added into its weights; one without adapters as it is."""
    if not hasattr(model, "merge_and_unload"):
        return model
    joined: CausalLM = model.merge_and_unload()
    return joined


SUMMED_ONCE = 50_000_000
"""Parameters up to which a process keeps its own sums of gradients until the last micro-batch of a step, instead of
adding them up between processes for each: four bytes a parameter more."""


def shard(model: torch.nn.Module, ranks: Ranks, *, dtype: torch.dtype | None) -> None:
    """Spread `model`, which every process holds alike, over all of them, in place.

    `dtype` is that of the matrix products, None for the parameters' own; sums of gradients stay in float32.
    """
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype and torch.float32)
    for module in [*layers_of(model), model]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each process's loss is a part of one sum over the counts of all; gloo knows no other reduction than sums.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def sum_gradients_at(model: torch.nn.Module, *, is_last: bool) -> None:
    """Let the next backward call add gradients up between processes, of a small sharded model only in the last call of
    a step."""
    if isinstance(model, FSDPModule) and sum(parameter.numel() for parameter in model.parameters()) <= SUMMED_ONCE:
        model.set_requires_gradient_sync(is_last)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, which needs all processes; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def layers_of(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The blocks that a Hugging Face model says belong on one device each."""
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in kinds:
            yield module
