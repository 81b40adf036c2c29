"""One model over several processes (FSDP2): each holds a part of every parameter, of its gradient and of its moments.

A layer's parameters are whole only while the layer computes. Every forward and backward call is a meeting of all
processes, so all must make equally many of them; gradients are summed, not averaged.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from thor_tir.distributed import Ranks


def shard(model: torch.nn.Module, ranks: Ranks, *, dtype: torch.dtype | None) -> None:
    """Spread `model`, which every process holds alike, over all of them, in place.

    `dtype` is that of the matrix products, None for the parameters' own; sums of gradients stay in float32.
    """
    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (ranks.size,))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=dtype and torch.float32)
    for module in [*_layers(model), model]:
        fully_shard(module, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # Each process's loss is a part of one sum over the counts of all; gloo knows no other reduction than sums.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together, which needs all processes; any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a sharded tensor; any other as it is."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_weights(weights: Iterable[tuple[str, Tensor]], model: torch.nn.Module) -> None:
    """Put named weights, whole or sharded, into a model of the same names, one after another."""
    places = dict(model.named_parameters())
    for name, weight in weights:
        places[name].copy_(whole(weight.detach()))


def _layers(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The blocks that a Hugging Face model says belong on one device each."""
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in kinds:
            yield module
