"""The decoding step of `native/step.c`, called by address over the model's own parameters and the cache's buffers.

A decoder of a million parameters makes about a hundred calls of torch a token, each of which costs some microseconds
beside its work; this is one call. Larger models gain from attention that reads every key and value once, and from
products that do not lose the time in which oneDNN arranges small matrices. Where it cannot be had, torch decodes.

Letters in names of tensors: B rows of one call, S slots, V vocabulary, P positions.
"""

import ctypes
from collections.abc import Sequence
from ctypes import c_double, c_int64, c_void_p
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from thor_tir.engines.local.kv_cache import CAPACITY_BLOCK, SlotCache
from thor_tir.native.library import compiled_library


class _Layer(ctypes.Structure):
    _fields_ = [
        (name, c_void_p)
        for name in (
            *("norm", "query", "key", "value", "query_bias", "key_bias", "value_bias", "query_norm", "key_norm"),
            *("output", "inner_norm", "gate", "up", "down"),
        )
    ]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("num_layers", "width", "heads", "shared", "size", "inner")),
        *((name, c_int64) for name in ("vocabulary", "block")),
        ("eps", c_double),
        *((name, c_void_p) for name in ("embedding", "norm", "output", "cosine", "sine", "layers")),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("keys", "values")),
        *((name, c_int64) for name in ("block_stride", "layer_stride", "slot_stride", "rows", "window", "threads")),
        *((name, c_void_p) for name in ("ids", "positions", "owner", "lent", "order", "scratch", "logits")),
    ]


class _Draw(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("rows", "vocabulary", "threads")),
        *((name, c_void_p) for name in ("logits", "temperatures", "uniforms", "scratch", "tokens", "logprobs")),
    ]


class CompiledStep:
    """One decoding step of a plain decoder on a CPU, over the model's own parameters and the cache's buffers."""

    def __init__(self, library: Any, model: Any, cache: SlotCache, angles: tuple[Tensor, Tensor]) -> None:
        """`angles` are cosines and sines [P, D / 2] of the positions that a row may have."""
        body, config = model.model, model.config
        attention, feed = body.layers[0].self_attn, body.layers[0].mlp
        self._library, self._cache = library, cache
        self._model = model
        self._held = [parameter.data for parameter in model.parameters()]  # memory that is read stays there
        self._angles = tuple(table.float().contiguous() for table in angles)
        self._layers = (_Layer * len(body.layers))(*(_layer(layer) for layer in body.layers))
        self._shape = _Model(
            num_layers=len(body.layers),
            width=config.hidden_size,
            heads=config.num_attention_heads,
            shared=config.num_key_value_heads,
            size=attention.head_dim,
            inner=feed.gate_proj.out_features,
            vocabulary=model.lm_head.out_features,
            block=CAPACITY_BLOCK,
            eps=config.rms_norm_eps,
            embedding=body.embed_tokens.weight.data_ptr(),
            norm=body.norm.weight.data_ptr(),
            output=model.lm_head.weight.data_ptr(),
            cosine=self._angles[0].data_ptr(),
            sine=self._angles[1].data_ptr(),
            layers=ctypes.addressof(self._layers),
        )
        self._step = _Step()
        self._scratch = torch.empty(0)
        self._logits = torch.empty(0, self._shape.vocabulary)

    def logits(self, last_B: Sequence[int], position_B: Sequence[int], *, window: int | None = None) -> Tensor:
        """Store one token in each of the first rows of the cache, which has room; float32 logits [B, V] of what
        follows, until the next call."""
        rows, shape, step, cache = len(last_B), self._shape, self._step, self._cache
        ids_B, place_B = np.array((last_B, position_B), dtype=np.int64)
        keys, values = cache.buffers(shared=shape.shared, size=shape.size, like=self._model.lm_head.weight)
        if len(self._logits) < rows:  # kept from step to step: fresh memory costs a small model a tenth of its time
            self._logits = torch.empty(rows, shape.vocabulary)
        logits_BV = self._logits[:rows]
        owner_S, lent_S = cache.loans.owner_S, cache.loans.lent_S
        order_B = owner_S[:rows].argsort(kind="stable")
        positions = CAPACITY_BLOCK * (int(place_B.max()) // CAPACITY_BLOCK + 1)
        step.threads = torch.get_num_threads()
        self._reserve(self._library.scratch_floats(ctypes.byref(shape), rows, step.threads, positions))
        step.keys, step.values = keys.data_ptr(), values.data_ptr()
        step.block_stride, step.layer_stride, step.slot_stride = keys.stride()[:3]
        step.rows, step.window = rows, window or 0
        step.ids, step.positions = ids_B.ctypes.data, place_B.ctypes.data
        step.owner, step.lent, step.order = owner_S.ctypes.data, lent_S.ctypes.data, order_B.ctypes.data
        step.scratch, step.logits = self._scratch.data_ptr(), logits_BV.data_ptr()
        self._library.decode(ctypes.byref(shape), ctypes.byref(step), positions)
        return logits_BV

    def draw(
        self, logits_BV: Tensor, temperature_B: NDArray[np.float32], uniform_B: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """What `sampling.draw` gives where no row cuts by top-k or top-p; temperature 0 takes the most likely token."""
        rows, vocabulary = logits_BV.shape
        threads = torch.get_num_threads()
        self._reserve(self._library.draw_floats(vocabulary, threads))
        drawn_B, token_B, logp_B = np.array(uniform_B), np.empty(rows, dtype=np.int64), np.empty(rows)
        arrays = (temperature_B, drawn_B)
        addresses = (logits_BV.data_ptr(), *(array.ctypes.data for array in arrays), self._scratch.data_ptr())
        asked = _Draw(rows, vocabulary, threads, *addresses, token_B.ctypes.data, logp_B.ctypes.data)
        self._library.draw(ctypes.byref(asked))
        return token_B.tolist(), logp_B.tolist()

    def _reserve(self, floats: int) -> None:
        if self._scratch.numel() < floats:
            self._scratch = torch.empty(floats)


def _layer(layer: Any) -> _Layer:
    attention, feed = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    norms = (getattr(attention, "q_norm", None), getattr(attention, "k_norm", None))
    return _Layer(
        layer.input_layernorm.weight.data_ptr(),
        *(projection.weight.data_ptr() for projection in projections),
        *(None if projection.bias is None else projection.bias.data_ptr() for projection in projections),
        *(None if norm is None else norm.weight.data_ptr() for norm in norms),
        attention.o_proj.weight.data_ptr(),
        layer.post_attention_layernorm.weight.data_ptr(),
        *(projection.weight.data_ptr() for projection in (feed.gate_proj, feed.up_proj, feed.down_proj)),
    )


def compiled_step(model: Any, cache: SlotCache, angles: tuple[Tensor, Tensor]) -> CompiledStep | None:
    """A compiled step for a plain decoder, or None where its weights are not on a CPU, not contiguous, not alike in
    all layers, or of a type that this processor does not multiply, or where no compiler is found."""
    has_bf16 = torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported()
    known = (torch.float32, torch.bfloat16) if has_bf16 else (torch.float32,)
    weights = list(model.parameters())
    if model.dtype not in known or not all(w.device.type == "cpu" and w.is_contiguous() for w in weights):
        return None
    layers = {tuple((name, p.shape) for name, p in layer.named_parameters()) for layer in model.model.layers}
    if len(layers) > 1 or model.lm_head.weight.shape != model.model.embed_tokens.weight.shape:
        return None
    built = library(is_half=model.dtype == torch.bfloat16)
    return None if built is None else CompiledStep(built, model, cache, angles)


@cache
def library(*, is_half: bool) -> Any | None:
    """The compiled step for weights in float32 or in bfloat16; None, after a warning, where it cannot be had."""
    built = compiled_library("step.c", *(("-DWITH_BF16",) if is_half else ()))
    if built is not None:
        built.scratch_floats.restype = built.draw_floats.restype = c_int64
        built.scratch_floats.argtypes = [c_void_p, c_int64, c_int64, c_int64]
        built.draw_floats.argtypes = [c_int64, c_int64]
        built.draw.argtypes = [c_void_p]
        built.decode.argtypes = [c_void_p, c_void_p, c_int64]
    return built
