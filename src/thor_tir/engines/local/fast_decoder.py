"""The forward pass of the common decoder without Hugging Face's layers in between: Llama, Mistral, Qwen2 and Qwen3.

A small model's step through `model(...)` is mostly Python and small operations: at a million parameters and 26 rows on
one core about 10 ms, of which matrix products and attention are 1.5. This pass makes about twenty calls a layer instead
of two hundred, computes no padding outside attention and, where only keys and values are wanted, no more of the last
layer than those. What is left is the limit it approaches: the matrix products, and reading the keys and values of all
rows from memory once a step.

It reads the model's own parameters, so training moves them here too. Whether it computes the same as the model is not
believed but tried, once, when an engine starts (`decoder_of`); where it does not, or where the model is of another
family, was changed by adapters or hooks, or is spread over devices, the engine goes through `model(...)`.

Letters in names of tensors: N tokens of one call, B rows, T tokens a row, K visible tokens, E width of the model,
H query heads, X query and key and value heads, D size of a head, V vocabulary.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from thor_tir.engines.local.compiled import compiled_step
from thor_tir.engines.local.kv_cache import SlotCache, Window
from thor_tir.engines.local.pages import PagedCache, attend_pages
from thor_tir.products import usual_products

_LOG = logging.getLogger(__name__)

FAMILIES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
ROTARY = frozenset({"default", "linear", "llama3", "yarn"})
"""Kinds of rotary positions whose angles depend on the position alone."""
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}
"""Largest difference of logits from the model's, as a share of the largest: a few roundings. In double precision
they are those of float32, in which models compute norms and angles whatever they are in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's parameters, the model's own."""

    norm: Tensor
    """Weight of the norm before attention."""
    projections: tuple[tuple[Tensor, Tensor | None], ...]
    """Weight, transposed, and bias of queries, keys and values."""
    head_norms: tuple[Tensor, Tensor] | None
    """Weights of the norms of queries and of keys, where the family has them."""
    output: Tensor
    """Transposed, as is `down`."""
    inner_norm: Tensor
    """Weight of the norm before the feed-forward part."""
    gate: Tensor
    """Weight of the feed-forward gate."""
    up: Tensor
    """Weight of the feed-forward projection up."""
    down: Tensor
    """Weight of the feed-forward projection down."""


class Decoder:
    """A model's layers, applied to the tokens of many rows at once."""

    def __init__(self, model: Any, cache: SlotCache | PagedCache, *, max_model_len: int, compiles: bool = True) -> None:
        body, config = model.model, model.config
        self._cache = cache
        self._attend = attend_pages if isinstance(cache, PagedCache) else attend
        self._embedding: Tensor = body.embed_tokens.weight
        self._layers = [_layer(layer) for layer in body.layers]
        self._norm: Tensor = body.norm.weight
        self._output: Tensor = model.lm_head.weight
        self._eps: float = config.rms_norm_eps
        self._size: int = body.layers[0].self_attn.head_dim
        self._heads: int = config.num_attention_heads
        self._shared: int = config.num_key_value_heads
        positions = torch.arange(max_model_len, device=model.device)[None]
        cos_1PD, sin_1PD = body.rotary_emb(self._embedding[:1], positions)
        self._cos_PD, self._sin_PD = cos_1PD[0], sin_1PD[0, :, : self._size // 2].contiguous()
        self.step = (
            compiled_step(model, cache, (self._cos_PD[:, : self._size // 2], self._sin_PD))
            if compiles and isinstance(cache, SlotCache)
            else None
        )
        """The compiled step, where there is one."""
        self._places = [
            (m._parameters, name) for m in model.modules() for name, p in m._parameters.items() if p is not None
        ]
        self._addresses = self._found()

    @property
    def is_current(self) -> bool:
        """False where a weight lies elsewhere than when the decoder was made: it would read what is no longer there."""
        return self._found() == self._addresses

    def _found(self) -> list[int]:
        return [0 if (p := weights.get(name)) is None else p.data_ptr() for weights, name in self._places]

    def logits(self, ids_B: Tensor, position_B: Tensor, window: Window, mask_BK: Tensor) -> Tensor:
        """Store one token in each row of the window; the logits [B, V] of what follows."""
        mask_B1K = mask_BK[:, None]
        self._cache.aim(window)
        hidden_BE = embedding(ids_B, self._embedding)
        cos_B1D, sin_B1D = self._angles(position_B)
        for number, layer in enumerate(self._layers):
            query_BHD = self._store(number, layer, hidden_BE, cos_B1D, sin_B1D)
            hidden_BE = self._rest(layer, hidden_BE, self._attend(query_BHD, *self._cache.blocks(number), mask_B1K))
        return linear(self._normed(hidden_BE, self._norm), self._output)

    def prefill(self, ids_N: Tensor, position_N: Tensor, window: Window, mask_BTK: Tensor) -> None:
        """Store the tokens of some rows; `window.source_N` is each one's place among the B * T of the mask."""
        assert window.source_N is not None
        rows, longest, _ = mask_BTK.shape
        self._cache.aim(window)
        hidden_NE = embedding(ids_N, self._embedding)
        cos_N1D, sin_N1D = self._angles(position_N)
        for number, layer in enumerate(self._layers):
            query_NHD = self._store(number, layer, hidden_NE, cos_N1D, sin_N1D)
            if number + 1 == len(self._layers):
                return
            padded = query_NHD.new_zeros(rows * longest, self._heads, self._size)
            padded.index_copy_(0, window.source_N, query_NHD)
            key, value = self._cache.visible(number)
            with usual_products():
                mixed_BHTD = scaled_dot_product_attention(
                    padded.view(rows, longest, self._heads, self._size).transpose(1, 2),
                    key,
                    value,
                    attn_mask=mask_BTK[:, None],
                    scale=1.0,
                    enable_gqa=self._heads != self._shared,
                )
            mixed_NE = mixed_BHTD.transpose(1, 2).reshape(rows * longest, -1).index_select(0, window.source_N)
            hidden_NE = self._rest(layer, hidden_NE, mixed_NE)

    def _angles(self, position_N: Tensor) -> tuple[Tensor, Tensor]:
        return self._cos_PD[position_N][:, None], self._sin_PD[position_N][:, None]

    def _normed(self, hidden_NE: Tensor, weight_E: Tensor) -> Tensor:
        return rms_norm(hidden_NE, (hidden_NE.shape[-1],), weight_E, self._eps)

    def _store(self, number: int, layer: Layer, hidden_NE: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
        """Store this layer's keys and values; the queries, scaled."""
        heads_NXD = _projected(self._normed(hidden_NE, layer.norm), layer.projections).view(
            len(hidden_NE), -1, self._size
        )
        turned_NXD = heads_NXD[:, : self._heads + self._shared]
        if layer.head_norms is not None:
            of_query, of_key = layer.head_norms
            weight_XD = torch.cat((of_query.expand(self._heads, -1), of_key.expand(self._shared, -1)))
            turned_NXD = rms_norm(turned_NXD, (self._size,), None, self._eps) * weight_XD
        turned_NXD = rotated(turned_NXD, cos_N1D, sin_N1D)
        self._cache.write(number, turned_NXD[:, self._heads :], heads_NXD[:, self._heads + self._shared :])
        query_NHD: Tensor = turned_NXD[:, : self._heads] * self._size**-0.5
        return query_NHD

    def _rest(self, layer: Layer, hidden_NE: Tensor, mixed_NE: Tensor) -> Tensor:
        """The part after attention: its output projection and the gated feed-forward part, each added to its input."""
        hidden_NE = torch.addmm(hidden_NE, mixed_NE, layer.output)
        normed_NE = self._normed(hidden_NE, layer.inner_norm)
        inner = silu(linear(normed_NE, layer.gate)).mul_(linear(normed_NE, layer.up))
        return torch.addmm(hidden_NE, inner, layer.down)


def _layer(layer: Any) -> Layer:
    attention, feed = layer.self_attn, layer.mlp
    has_norms = hasattr(attention, "q_norm")
    return Layer(
        norm=layer.input_layernorm.weight,
        projections=tuple((p.weight.t(), p.bias) for p in (attention.q_proj, attention.k_proj, attention.v_proj)),
        head_norms=(attention.q_norm.weight, attention.k_norm.weight) if has_norms else None,
        output=attention.o_proj.weight.t(),
        inner_norm=layer.post_attention_layernorm.weight,
        gate=feed.gate_proj.weight,
        up=feed.up_proj.weight,
        down=feed.down_proj.weight.t(),
    )


def _projected(input_NE: Tensor, projections: Sequence[tuple[Tensor, Tensor | None]]) -> Tensor:
    """All projections side by side, each written where it belongs."""
    widths = [weight.shape[1] for weight, _ in projections]
    output = input_NE.new_empty(len(input_NE), sum(widths))
    for part, (weight, bias) in zip(torch.split(output, widths, dim=1), projections, strict=True):
        if bias is None:
            torch.mm(input_NE, weight, out=part)
        else:
            torch.addmm(bias, input_NE, weight, out=part)
    return output


def rotated(heads_NXD: Tensor, cos_N1D: Tensor, sin_N1D: Tensor) -> Tensor:
    """Rotary positions: halves (a, b) of each head become (a cos - b sin, b cos + a sin); `sin` is of one half."""
    half = heads_NXD.shape[-1] // 2
    turned_NXD = heads_NXD * cos_N1D
    turned_NXD[..., :half].addcmul_(heads_NXD[..., half:], sin_N1D, value=-1)
    turned_NXD[..., half:].addcmul_(heads_NXD[..., :half], sin_N1D)
    return turned_NXD


def attend(query_BHD: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor], mask_B1K: Tensor) -> Tensor:
    """softmax(q k^T + mask) v for one scaled query per row and head, [B, H * D]; softmax in float32 or better.

    `keys` and `values` are blocks [B, shared heads, tokens, D] that hold K tokens together. Two batched products a
    block: fused kernels are made for many queries and cost two to five times as much on a CPU.
    """
    rows, heads, size = query_BHD.shape
    shared = keys[0].shape[1]
    query_NGD = query_BHD.view(rows * shared, heads // shared, size)
    with usual_products():
        scores = [torch.bmm(query_NGD, key.flatten(0, 1).transpose(1, 2)) for key in keys]
    scores_BHK = _joined(scores).view(rows, heads, -1).add_(mask_B1K)
    precise = scores_BHK.dtype if scores_BHK.dtype == torch.float64 else torch.float32
    weights_NGK = scores_BHK.softmax(dim=-1, dtype=precise).to(values[0].dtype).view(*query_NGD.shape[:2], -1)
    parts = torch.split(weights_NGK, [value.shape[2] for value in values], dim=2)
    mixed_NGD = torch.bmm(parts[0], values[0].flatten(0, 1))
    for part, value in zip(parts[1:], values[1:], strict=True):
        mixed_NGD += torch.bmm(part, value.flatten(0, 1))
    return mixed_NGD.view(rows, heads * size)


def _joined(scores: Sequence[Tensor]) -> Tensor:
    return scores[0] if len(scores) == 1 else torch.cat(list(scores), dim=2)


def decoder_of(
    model: Any, cache: SlotCache | PagedCache, *, max_model_len: int, compiles: bool = True
) -> Decoder | None:
    """A decoder for this model that stores into `cache`, or None where it would not compute the same as the model."""
    if not is_plain(model):
        return None
    error, error_compiled = _errors(model, compiles=compiles)
    tolerance = TOLERANCE.get(model.dtype, 0.0)
    if not error <= tolerance:
        _LOG.warning(
            "the logits of %s differ by %.1g from those of the quick forward pass: decoding through transformers",
            type(model).__name__,
            error,
        )
        return None
    if not error_compiled <= tolerance:
        _LOG.warning(
            "the compiled step's logits differ by %.1g from the model's: decoding through torch", error_compiled
        )
    compiles = compiles and error_compiled <= tolerance
    return Decoder(model, cache, max_model_len=max_model_len, compiles=compiles)


def is_plain(model: Any) -> bool:
    """True if nothing but the layers of a family that is known, whole and on one device, makes the logits."""
    if type(model).__name__ not in FAMILIES:
        return False
    plain = [module for layer in model.model.layers for module in (*_biased(layer), *_unbiased(layer))]
    return (
        model.model.rotary_emb.rope_type in ROTARY
        and model.config.hidden_act == "silu"
        and all(type(module) is torch.nn.Linear for module in (*plain, model.lm_head))
        and all(module.bias is None for layer in model.model.layers for module in _unbiased(layer))
        and model.lm_head.bias is None
        and type(model.model.embed_tokens) is torch.nn.Embedding
        and all(type(parameter) is torch.nn.Parameter for parameter in model.parameters())
        and len({(parameter.device, parameter.dtype) for parameter in model.parameters()}) == 1
        and not any(
            module._forward_hooks or module._forward_pre_hooks or hasattr(module, "_hf_hook")
            for module in model.modules()
        )
    )


def _biased(layer: Any) -> tuple[Any, ...]:
    return layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj


def _unbiased(layer: Any) -> tuple[Any, ...]:
    return layer.self_attn.o_proj, layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj


@torch.inference_mode()
def _errors(model: Any, *, compiles: bool) -> tuple[float, float]:
    """Largest difference from the model's logits, as a share of the largest logit, where rows of two lengths read a few
    tokens and then one more: through torch, and of the compiled step, 0 without one."""
    lengths = (5, 9)
    vocabulary, device = model.config.vocab_size, model.device
    draw = Random(0)
    rows = [[draw.randrange(vocabulary) for _ in range(n + 1)] for n in lengths]
    cache = SlotCache(num_layers=len(model.model.layers), max_num_seqs=len(rows), max_tokens=max(lengths) + 1)
    cache.reserve(rows=len(rows), tokens=max(lengths) + 1)
    decoder = Decoder(model, cache, max_model_len=max(lengths) + 1, compiles=compiles)
    visible = torch.arange(max(lengths) + 1, device=device)
    ids_N = torch.tensor([token for row in rows for token in row[:-1]], device=device)
    slot_N = torch.tensor([slot for slot, n in enumerate(lengths) for _ in range(n)], device=device)
    position_N = torch.tensor([place for n in lengths for place in range(n)], device=device)
    everything = slice(0, len(rows))
    source_N = slot_N * max(lengths) + position_N
    read = Window(rows=everything, visible=len(visible), slot_N=slot_N, position_N=position_N, source_N=source_N)
    position_B = torch.tensor(lengths, device=device)
    one_more = Window(rows=everything, visible=len(visible), slot_N=visible[: len(rows)], position_N=position_B)
    causal_TK = _mask(visible > visible[: max(lengths), None], model)
    decoder.prefill(ids_N, position_N, read, causal_TK.expand(len(rows), -1, -1))
    last_B = torch.tensor([row[-1] for row in rows], device=device)
    found = decoder.logits(last_B, position_B, one_more, _mask(visible > position_B[:, None], model))
    was_training = model.training
    model.eval()
    expected = torch.cat([model(torch.tensor([row], device=device), use_cache=False).logits[:, -1] for row in rows])
    model.train(was_training)
    compiled = decoder.step.logits([row[-1] for row in rows], lengths) if decoder.step is not None else expected
    error, error_compiled = (float((f - expected).abs().max() / expected.abs().max()) for f in (found, compiled))
    return error, error_compiled


def _mask(is_hidden: Tensor, model: Any) -> Tensor:
    zero = torch.zeros((), dtype=model.dtype, device=model.device)
    return zero.masked_fill(is_hidden, torch.finfo(model.dtype).min)
