"""log pi of tokens from the hidden states in front of the output head, a part of the vocabulary at a time.

Logits of all trained tokens over a vocabulary of 49 thousand, their softmax and their gradient are most of what a
micro-batch of a small model would hold. Here they live for one part of the vocabulary only: the forward pass keeps the
logarithm of each token's sum, the backward pass computes the part's logits again. Where everything fits into one part,
its logits are kept instead.

Legend: `N` tokens, `H` width of the model, `V` vocabulary, `C` words of one part.
"""

from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable
from torch.distributed.fsdp import FSDPModule
from torch.nn.functional import linear
from transformers import PreTrainedModel

from thor_tir.products import product_dtype

LOGITS_AT_ONCE = 2**22
"""Entries of the float32 logits that are alive at a time: 16 MiB, which a processor's cache holds."""
LEAST_WORDS = 1024
"""Words of the smallest part."""

_known: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def is_linear(model: PreTrainedModel) -> bool:
    """True where the model's logits are its last hidden states times one matrix, and nothing else.

    Tried once with two tokens: some families cap or scale their logits, and a shared model has its matrix in parts.
    """
    if model not in _known:
        _known[model] = _is_linear(model)
    return _known[model]


def _is_linear(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None or isinstance(model, FSDPModule):
        return False
    if isinstance(head.weight, FakeTensor):
        return True  # nothing to compare where memory is planned without weights
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _head, inputs: seen.append(inputs[0]))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[0, 1]], device=head.weight.device), use_cache=False).logits
            return len(seen) == 1 and torch.equal(linear(seen[0], head.weight).to(logits.dtype), logits)
    finally:
        hook.remove()
        model.train(was_training)


def head_logprobs(
    hidden_NH: Tensor, weight_VH: Tensor, target_ids_N: Tensor, *, logits_at_once: int = LOGITS_AT_ONCE
) -> Tensor:
    """log softmax(hidden weight^T)[target] in nats, shape N: float32, or float64 where the input is.

    Products are computed in the type of an autocast, if there is one.
    """
    dtype = product_dtype(hidden_NH)
    words = max(LEAST_WORDS, logits_at_once // max(1, len(hidden_NH)))
    logp_N: Tensor = _HeadLogprobs.apply(hidden_NH, weight_VH, target_ids_N, dtype, words)  # type: ignore[no-untyped-call]
    return logp_N


class _HeadLogprobs(torch.autograd.Function):
    """The log-probabilities, and their gradient without the logits of the whole vocabulary."""

    @staticmethod
    def forward(
        ctx: Any, hidden_NH: Tensor, weight_VH: Tensor, target_ids_N: Tensor, dtype: torch.dtype, words: int
    ) -> Tensor:
        precise = torch.float64 if dtype == torch.float64 else torch.float32
        product_NH = hidden_NH.to(dtype)
        chosen_N = product_NH.new_zeros(len(hidden_NH), dtype=precise)
        total_N = torch.full_like(chosen_N, float("-inf"))
        kept = None
        with torch.autocast(hidden_NH.device.type, enabled=False):
            for start, weight_CH in _parts(weight_VH, words):
                logits_NC = linear(product_NH, weight_CH.to(dtype)).to(precise)
                at_N, is_here_N = _within(target_ids_N, start, len(weight_CH))
                chosen_N += logits_NC.gather(1, at_N[:, None])[:, 0].where(is_here_N, 0.0)
                total_N = torch.logaddexp(total_N, logits_NC.logsumexp(dim=1))
                kept = logits_NC if len(weight_CH) == len(weight_VH) else None
        ctx.words, ctx.kept = words, kept
        ctx.save_for_backward(product_NH, weight_VH, target_ids_N, total_N)
        ctx.hidden_dtype = hidden_NH.dtype
        return chosen_N - total_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_N: Tensor) -> tuple[Tensor | None, ...]:
        product_NH, weight_VH, target_ids_N, total_N = ctx.saved_tensors
        needs_hidden, needs_weight = ctx.needs_input_grad[:2]
        grad_NH = torch.zeros_like(product_NH, dtype=total_N.dtype) if needs_hidden else None
        grad_VH = torch.empty_like(weight_VH) if needs_weight else None
        grad_N1 = grad_N.to(total_N.dtype)[:, None]
        for start, weight_CH in _parts(weight_VH, ctx.words):
            weight_CH = weight_CH.to(product_NH.dtype)
            logits_NC = ctx.kept if ctx.kept is not None else linear(product_NH, weight_CH).to(total_N.dtype)
            ctx.kept = None
            grad_NC = logits_NC.sub_(total_N[:, None]).exp_().mul_(-grad_N1)
            at_N, is_here_N = _within(target_ids_N, start, len(weight_CH))
            grad_NC.scatter_add_(1, at_N[:, None], grad_N1.where(is_here_N[:, None], 0.0))
            grad_NC = grad_NC.to(product_NH.dtype)
            if grad_NH is not None:
                grad_NH += grad_NC @ weight_CH
            if grad_VH is not None:
                grad_VH[start : start + len(weight_CH)] = grad_NC.t() @ product_NH
        return grad_NH.to(ctx.hidden_dtype) if grad_NH is not None else None, grad_VH, None, None, None


def _parts(weight_VH: Tensor, words: int) -> Iterator[tuple[int, Tensor]]:
    """The rows of a part of the vocabulary after another, each with its first word."""
    for start in range(0, len(weight_VH), words):
        yield start, weight_VH[start : start + words]


def _within(target_ids_N: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
    """Place of each target in a part of the vocabulary, clamped into it, and True where the part holds it."""
    at_N = target_ids_N - start
    return at_N.clamp(0, length - 1), (at_N >= 0) & (at_N < length)
