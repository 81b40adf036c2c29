"""A model as it is trained: with low-rank adapters beside it (LoRA, through `peft`), or by several processes.

Adapters are small matrices beside a frozen model, trained in its place. The sum of both samples and learns, so an
engine over the model uses them at once; what training leaves is the merged model, a folder like any other.

A small model is whole in each process, which computes gradients of its own rows; these are summed once a step. A
larger one is spread out (FSDP2): each process holds a part of every parameter, of its gradient and of its moments. A
layer's parameters are whole only while the layer computes. Every forward and backward call is a meeting of all
processes, so all must make equally many of them; gradients are summed, not averaged.
"""

from collections.abc import Iterator, Sequence
from typing import TypeGuard

import torch
from torch import Tensor, distributed
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


WHOLE_UP_TO = 50_000_000
"""Parameters up to which each process keeps a model whole, with gradients and moments: 16 bytes each, 800 MB at most.
To gather such small layers for each micro-batch and to move their parts one by one costs time, for little memory."""


def shard(model: torch.nn.Module, ranks: Ranks, *, dtype: torch.dtype | None) -> None:
    """Spread `model`, which every process holds alike, over all of them, in place, unless it is small.

    `dtype` is that of the matrix products, None for the parameters' own; sums of gradients stay in float32.
    """
    if ranks.is_alone:
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if sum(parameter.numel() for parameter in model.parameters()) <= WHOLE_UP_TO:
        model.to(device)
        return
    mesh = init_device_mesh(device, (ranks.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype and torch.float32)
    for module in [*layers_of(model), model]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each process's loss is a part of one sum over the counts of all; gloo knows no other reduction than sums.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def is_in_parts(model: object) -> TypeGuard[FSDPModule]:
    """True for a model that is spread over processes."""
    return isinstance(model, FSDPModule)


def sum_gradients(parameters: Sequence[Tensor], ranks: Ranks) -> None:
    """Add up, in one message, the gradients of whole parameters that each process has of its own rows.

    A parameter that no process has a gradient of keeps none, so that the optimiser leaves it alone.
    """
    present = torch.tensor([p.grad is not None for p in parameters], device=parameters[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    sums = torch.cat([*(gradient.flatten() for gradient in gradients), present.to(gradients[0].dtype)])
    distributed.all_reduce(sums, group=ranks.group)
    *summed, counts = torch.split(sums, [*(p.numel() for p in parameters), len(parameters)])
    for parameter, gradient, count in zip(parameters, summed, counts.tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter) if count else None


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
