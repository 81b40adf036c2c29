"""Memory of a run by part, in bytes of one process, from a model's configuration alone: no weights are read.

One micro-batch is computed, forward and backward, with tensors that have a shape and no content, and what would be
allocated is counted: so whatever a model keeps for its backward pass is in the sum, with adapters, recomputation and
half precision as the trainer has them. Python and torch themselves are not in these parts; a plan adds them.
"""

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from thor_tir.engines.local.kv_cache import CAPACITY_BLOCK
from thor_tir.engines.options import EngineConfig
from thor_tir.learner.batch import collate
from thor_tir.learner.config import AdapterConfig
from thor_tir.learner.forward import trained_logprobs
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.learner.trainable import WHOLE_UP_TO, layers_of, with_adapters

FULL = 4
"""Bytes of a number in float32, in which weights are trained."""
HALF = 2
"""Bytes of a number in bfloat16."""
WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, CACHE = "weights", "gradients", "optimizer", "activations", "KV cache"
GATHERED = "gathered layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The largest micro-batch."""

    rows: int
    """Rows."""
    tokens: int
    """Tokens of each row."""
    trained: int
    """Tokens of each row whose loss is taken, at its end."""

    @classmethod
    def within(cls, budget: int, *, tokens: int, trained: int) -> "Shape":
        """As many rows of this length as a budget of tokens holds; a row beyond it is read alone."""
        return cls(rows=max(1, budget // tokens), tokens=tokens, trained=min(trained, tokens - 1))


class Training(Protocol):
    """The options of a command that trains on which its memory depends."""

    @property
    def adapters(self) -> AdapterConfig:
        """Low-rank adapters."""

    @property
    def bf16(self) -> bool:
        """True where products are computed in bfloat16."""

    @property
    def gradient_checkpointing(self) -> bool:
        """True where layers are computed again."""


def training_memory(config: Any, shape: Shape, training: Training, *, processes: int = 1) -> dict[str, int]:
    """Bytes of each part while a micro-batch of that shape is trained.

    `processes` share weights, gradients and moments of a model that is not small; each gathers a layer's weights while
    it computes it, in the type of the products.
    """
    bf16 = training.bf16
    if parameters(config, training.adapters) <= WHOLE_UP_TO:
        processes = 1
    batch = collate([_row(shape, number) for number in range(shape.rows)])
    width = HALF if bf16 and processes > 1 else FULL  # alone, autocast makes copies, which are activations
    dtype = torch.float32 if width == FULL else torch.bfloat16
    with torch.device("meta"):
        model = with_adapters(AutoModelForCausalLM.from_config(config, dtype=dtype), training.adapters).train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").tie_weights()  # peft moves adapters as they are made, and these cannot be moved
        if training.gradient_checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        trained = [p for p in model.parameters() if p.requires_grad]
        for parameter in trained:  # those of the micro-batches before: this one's are added to them
            parameter.grad = torch.zeros_like(parameter)
        with _Allocated() as made:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                logprobs = trained_logprobs(model, batch)
            logprobs.sum().backward()  # type: ignore[no-untyped-call]
        size, share = _size(model), sum(p.numel() for p in trained)
        gathered = {GATHERED: _gathered(model, width)} if processes > 1 else {}
    parts = {WEIGHTS: FULL * size, GRADIENTS: FULL * share, OPTIMIZER: 2 * FULL * share}
    return {name: count // processes for name, count in parts.items()} | gathered | {ACTIVATIONS: made.peak}


def parameters(config: Any, adapters: AdapterConfig) -> int:
    """Parameters of a model, those of adapters included."""
    with torch.device("meta"):
        model = with_adapters(AutoModelForCausalLM.from_config(config), adapters)
    return sum(p.numel() for p in model.parameters())


def _gathered(model: torch.nn.Module, width: int) -> int:
    """Bytes of what a process holds whole for a moment: what stands outside of the layers, two layers (the next one is
    fetched while one computes), and the gradient of the larger of both, also in float32 while it is summed.
    """
    layer = max(map(_size, layers_of(model)), default=0)
    outside = _size(model) - sum(map(_size, layers_of(model)))
    return width * (outside + 2 * layer) + (width + FULL) * max(layer, outside)


def head_size(config: Any) -> int:
    """Numbers of one attention head's key."""
    text = config.get_text_config()
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def token_bytes(config: Any, width: int) -> int:
    """Bytes of the keys and values of one token, in numbers of `width` bytes."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * head_size(config) * width)


def sampling_memory(
    config: Any, *, rows: int, tokens: int, parked: bool = True, width: int = FULL, pool: int | None = None
) -> dict[str, int]:
    """Bytes of each part while `rows` sequences of `tokens` are decoded, in numbers of `width` bytes.

    The cache is that of sequences that all reach their limit, and what is kept of those that wait for tools or ended;
    or else the `pool` of so many tokens in which both are.
    """
    kept = pool or rows * -(-tokens // CAPACITY_BLOCK) * CAPACITY_BLOCK
    waiting = min(EngineConfig().parked_tokens, kept) * token_bytes(config, width) if parked and not pool else 0
    read = collate([_row(Shape(rows=1, tokens=min(EngineConfig().prefill_tokens, rows * tokens), trained=1), 0)])
    dtype = torch.float32 if width == FULL else torch.bfloat16
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
        with _Allocated() as made:
            trained_logprobs(model, read)
        size = _size(model)
    logits = 2 * FULL * rows * config.get_text_config().vocab_size
    cache = kept * token_bytes(config, width) + min(EngineConfig().parked_bytes, waiting)
    return {WEIGHTS: width * size, CACHE: cache, ACTIVATIONS: max(made.peak, logits)}


def of_both(training: Mapping[str, int], sampling: Mapping[str, int]) -> dict[str, int]:
    """The parts of a process that samples from the weights that it trains: gradients and cache stay in turn."""
    return {**training, CACHE: sampling[CACHE], ACTIVATIONS: max(training[ACTIVATIONS], sampling[ACTIVATIONS])}


def _row(shape: Shape, number: int) -> TrainingSample:
    prompt = shape.tokens - shape.trained
    return TrainingSample(
        id=str(number),
        token_ids=(number + 1, *(1,) * (shape.tokens - 1)),
        trained=(False,) * prompt + (True,) * shape.trained,
        old_logprobs=(float("nan"),) * shape.tokens,
        terms=(Term(name="memory", formula="nll"),),
    )


def _size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


class _Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that are made within, and the most that lived at a time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._live = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation; what it was given and nobody has seen made was there before, such as weights."""
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self._take(tensor.untyped_storage(), is_new=False)
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor):
                self._take(tensor.untyped_storage(), is_new=True)
        return found

    def _take(self, storage: torch.UntypedStorage, *, is_new: bool) -> None:
        key, count = storage._cdata, storage.nbytes() if is_new else 0
        if key in self._known:
            return
        self._known.add(key)
        self._live += count
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._drop, key, count)

    def _drop(self, key: int, count: int) -> None:
        self._known.discard(key)
        self._live -= count
