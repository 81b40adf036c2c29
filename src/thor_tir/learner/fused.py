"""Norms and gates of the common decoder in one pass each, forwards and backwards, for training on a CPU.

A norm is five operations of torch and ten more in its gradient, each a pass over memory; here it is one and one
(`native/train.c`). Float32 alone: under an autocast, on another device, in other families, where a parameter is in
parts or no C compiler is found, the model's own forward runs.

Legend: `N` tokens, or tokens times heads; `E` their width; `C` chunks.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thor_tir.native.library import compiled_library

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
NORMS = frozenset(f"{family}RMSNorm" for family in FAMILIES)
GATES = frozenset(f"{family}MLP" for family in FAMILIES)


@cache
def _library() -> Any | None:
    built = compiled_library("train.c")
    if built is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        built.norm.argtypes = [count, count, ctypes.c_double, *[pointer] * 4, count]
        built.norm_gradient.argtypes = [count, count, *[pointer] * 6, count]
        built.gated.argtypes = [count, *[pointer] * 3, count]
        built.gated_gradient.argtypes = [count, *[pointer] * 5, count]
        built.chunks.restype = count
    return built


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, weight_E: Tensor, eps: float) -> Tensor:
        states, output = states.contiguous(), torch.empty_like(states, memory_format=torch.contiguous_format)
        width = len(weight_E)
        factor_N = states.new_empty(states.numel() // width)
        _call("norm", len(factor_N), width, eps, states, weight_E, output, factor_N)
        ctx.save_for_backward(states, weight_E, factor_N)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight_E, factor_N = ctx.saved_tensors
        library = _library()
        assert library is not None
        of_states, of_weight_CE = torch.empty_like(states), weight_E.new_empty(library.chunks(), len(weight_E))
        given = grad.contiguous()
        _call("norm_gradient", len(factor_N), len(weight_E), states, weight_E, factor_N, given, of_states, of_weight_CE)
        return of_states, of_weight_CE.sum(dim=0), None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        gate, up = gate.contiguous(), up.contiguous()
        output = torch.empty_like(gate)
        _call("gated", gate.numel(), gate, up, output)
        ctx.save_for_backward(gate, up)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        of_gate, of_up = torch.empty_like(gate), torch.empty_like(up)
        _call("gated_gradient", gate.numel(), gate, up, grad.contiguous(), of_gate, of_up)
        return of_gate, of_up


def _call(name: str, *given: Any) -> None:
    addresses = (value.data_ptr() if isinstance(value, Tensor) else value for value in given)
    getattr(_library(), name)(*addresses, torch.get_num_threads())


def _is_plain(*tensors: Tensor) -> bool:
    kinds = (Tensor, torch.nn.Parameter)  # a part that another process has the rest of is of another kind
    return all(type(t) in kinds and t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


def _normed(module: Any, otherwise: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    if not _is_plain(states, module.weight):
        return otherwise(states)
    normed: Tensor = _Norm.apply(states, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return normed


def _fed(module: Any, otherwise: Callable[[Tensor], Tensor], states: Tensor) -> Tensor:
    if not _is_plain(states) or torch.is_autocast_enabled("cpu"):
        return otherwise(states)
    gated: Tensor = _Gated.apply(module.gate_proj(states), module.up_proj(states))  # type: ignore[no-untyped-call]
    fed: Tensor = module.down_proj(gated)
    return fed


@contextmanager
def fused_layers(model: torch.nn.Module) -> Iterator[None]:
    """Let the norms and gates of `model` run fused for a while, where it has those that are known."""
    changed = [(module, fused) for module in model.modules() if (fused := _fused(module)) is not None]
    if not changed or _library() is None:
        yield
        return
    for module, fused in changed:
        module.forward = partial(fused, module, module.forward)
    try:
        yield
    finally:
        for module, _ in changed:
            del module.forward


def _fused(module: Any) -> Callable[..., Tensor] | None:
    name = type(module).__name__
    if "forward" in vars(module) or not type(module).__module__.startswith("transformers."):
        return None
    if name in NORMS:
        return _normed
    return _fed if name in GATES and module.config.hidden_act == "silu" else None
