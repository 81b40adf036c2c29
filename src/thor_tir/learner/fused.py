"""Norms, gates and attention of the common decoder in one pass each, forwards and backwards, for training on a CPU.

A norm is five operations of torch and ten more in its gradient, each a pass over memory; here it is one and one
(`native/train.c`). Attention takes projections as they are and norms, turns and mixes one head after another, in the
caches. Float32 alone: under an autocast, on another device, in other families, where a parameter is in
parts or no C compiler is found, the model's own forward runs.

Legend: `N` tokens, or tokens times heads; `E` their width; `C` chunks; `B` rows, `T` tokens of each.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from thor_tir.learner.attention import NAME
from thor_tir.native.library import compiled_library

FAMILIES = ("Llama", "Mistral", "Qwen2", "Qwen3")
NORMS = frozenset(f"{family}RMSNorm" for family in FAMILIES)
GATES = frozenset(f"{family}MLP" for family in FAMILIES)
MIXERS = frozenset(f"{family}Attention" for family in FAMILIES)
BLOCK = 32
"""Queries that `native/train.c` takes at once."""


class _Attention(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("rows", "length", "heads", "shared", "size", "angle_stride", "threads")),
        *((name, ctypes.c_double) for name in ("eps", "scale")),
        *((name, ctypes.c_void_p) for name in ("query", "key", "value", "query_norm", "key_norm", "cosine", "sine")),
        *((name, ctypes.c_void_p) for name in ("mixed", "logsum", "grad", "of_query", "of_key", "of_value")),
        *((name, ctypes.c_void_p) for name in ("of_norms", "scratch")),
    ]


@cache
def _library() -> Any | None:
    built = compiled_library("train.c")
    if built is not None:
        pointer, count = ctypes.c_void_p, ctypes.c_int64
        built.norm.argtypes = [count, count, ctypes.c_double, *[pointer] * 4, count]
        built.norm_gradient.argtypes = [count, count, *[pointer] * 6, count]
        built.gated.argtypes = [count, *[pointer] * 3, count]
        built.gated_gradient.argtypes = [count, *[pointer] * 5, count]
        built.chunks.restype = built.attention_floats.restype = count
        built.attention_floats.argtypes = built.attention.argtypes = built.attention_gradient.argtypes = [pointer]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """The numbers of an attention layer."""

    query: int
    """Heads of queries."""
    shared: int
    """Heads of keys and values."""
    size: int
    """Numbers of a head."""
    eps: float
    """Number that the norm of a head adds to its mean square."""
    scale: float
    """Factor of scores."""


class _Mixed(torch.autograd.Function):
    """Causal attention over projections [B, T, heads * size], queries and keys normed and turned on the way."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, *given: Any) -> Tensor:
        *tables, heads = given  # weights of two norms, cosines and sines
        states = [states.contiguous() for states in (query, key, value)]
        mixed = torch.empty_like(states[0])
        rows, length, width = mixed.shape
        logsum = mixed.new_empty(rows * width // heads.size * -(-length // BLOCK) * BLOCK)
        ctx.heads = heads
        kept = (*states, *tables, mixed, logsum)
        ctx.save_for_backward(*kept)
        _attend("attention", heads, *kept)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: with layers that are computed again a second look is refused
        query, key, value, query_norm, *_ = saved
        gradients = [torch.empty_like(states) for states in (query, key, value)]
        of_norms = query.new_empty(len(key) * ctx.heads.shared, 2, ctx.heads.size)
        _attend("attention_gradient", ctx.heads, *saved, grad.contiguous(), *gradients, of_norms)
        norms = (None, None) if query_norm is None else of_norms.sum(dim=0).unbind()
        return *gradients, *norms, None, None, None


def _attend(name: str, heads: _Heads, query: Tensor, *others: Tensor | None) -> None:
    library, sine, (rows, length, _) = _library(), others[5], query.shape
    assert library is not None
    assert sine is not None
    angle_stride = sine.stride(0) if len(sine) > 1 else 0
    numbers = (rows, length, heads.query, heads.shared, heads.size, angle_stride, torch.get_num_threads())
    places = (None if tensor is None else tensor.data_ptr() for tensor in (query, *others))
    given = _Attention(*numbers, heads.eps, heads.scale, *places)
    scratch = query.new_empty(library.attention_floats(ctypes.byref(given)))
    given.scratch = scratch.data_ptr()
    getattr(library, name)(ctypes.byref(given))


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


def _mixed(module: Any, otherwise: Callable[..., Any], hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
    """The forward of an attention module, where it is plainly causal and nothing is remembered."""
    angles = kwargs.get("position_embeddings") or ()
    norms = [getattr(module, name) for name in ("q_norm", "k_norm") if hasattr(module, name)]
    weights = [norm.weight for norm in norms]
    is_known = (
        not args
        and module.config._attn_implementation == NAME
        and kwargs.get("attention_mask") is None
        and kwargs.get("past_key_values") is None
        and kwargs.get("is_causal") is not False
        and not (module.training and module.attention_dropout)
        and [table.shape[-1] for table in angles] == [module.head_dim] * 2
        and not torch.is_autocast_enabled("cpu")
        and _is_plain(hidden_states, *angles, *weights)
    )
    if not is_known:
        return otherwise(hidden_states, *args, **kwargs)
    query, key, value = module.q_proj(hidden_states), module.k_proj(hidden_states), module.v_proj(hidden_states)
    heads = _Heads(
        query=query.shape[-1] // module.head_dim,
        shared=key.shape[-1] // module.head_dim,
        size=module.head_dim,
        eps=norms[0].variance_epsilon if norms else 0.0,
        scale=module.scaling,
    )
    given = (*(weights or (None, None)), *(table.contiguous() for table in angles), heads)
    mixed = _Mixed.apply(query, key, value, *given)  # type: ignore[no-untyped-call]
    return module.o_proj(mixed), None


@contextmanager
def fused_layers(model: torch.nn.Module) -> Iterator[None]:
    """Let norms, gates and attention of `model` run fused for a while, where it has those that are known."""
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
    if name in MIXERS:
        return _mixed
    if name in NORMS:
        return _normed
    return _fed if name in GATES and module.config.hidden_act == "silu" else None
