"""A causal language model and its tokenizer, as far as this package uses them; transformers' own classes fit.

Protocols, so that a text codec for models behind an address, a scripted tokenizer or a wrapped model fit as well.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import os

    import torch
    from torch import Tensor

ChatTurn = Mapping[str, Any]
"""One chat message: `role` and `content`, which is text or a list of parts."""


class Tokenizer(Protocol):
    """Text to token ids and back, with a chat template."""

    @property
    def eos_token_id(self) -> int | None:
        """Id of the end-of-sequence token."""
        ...

    @property
    def all_special_tokens(self) -> Sequence[str]:
        """Tokens with a name of their own, such as the end-of-sequence token."""
        ...

    @property
    def chat_template(self) -> Any:
        """Template of a prompt; None where there is none."""
        ...

    def __call__(self, text: str, **options: Any) -> Mapping[str, Any]:
        """Encode a text; the ids stand under `input_ids`."""
        ...

    def encode(self, text: str, **options: Any) -> list[int]:
        """Encode a text to ids."""
        ...

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        """Decode ids to text."""
        ...

    def get_added_vocab(self) -> Mapping[str, int]:
        """Added tokens and their ids: control tokens, and what else is never split."""
        ...

    def apply_chat_template(self, conversation: Sequence[ChatTurn], **options: Any) -> Any:
        """Render chat turns; text with `tokenize=False`."""
        ...


class ModelTokenizer(Tokenizer, Protocol):
    """A tokenizer whose model is here: it has a vocabulary, and is saved with the model."""

    named_end_ids: frozenset[int]
    chat_template: Any

    def __len__(self) -> int:
        """Number of tokens, added ones included."""
        ...

    def get_vocab(self) -> Mapping[str, int]:
        """All tokens and their ids."""
        ...

    def save_pretrained(self, save_directory: "str | os.PathLike[str]", **options: Any) -> Any:
        """Write the tokenizer's files into a folder."""
        ...


class CausalLM(Protocol):
    """A causal language model: a `torch.nn.Module` with a Hugging Face configuration."""

    config: Any
    generation_config: Any
    training: bool
    is_gradient_checkpointing: bool

    @property
    def device(self) -> "torch.device":
        """Device of its weights."""
        ...

    @property
    def dtype(self) -> "torch.dtype":
        """Precision of its weights."""
        ...

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute logits."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Compute as in training, or not."""
        ...

    def eval(self) -> Any:
        """Compute as in use, without dropout."""
        ...

    def parameters(self, recurse: bool = True) -> "Iterator[Any]":
        """All parameters."""
        ...

    def named_parameters(self) -> "Iterator[tuple[str, Any]]":
        """All parameters by name."""
        ...

    def modules(self) -> "Iterator[Any]":
        """The model and every module in it."""
        ...

    def num_parameters(self) -> int:
        """Number of weights."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Train its weights, or freeze them."""
        ...

    def to(self, *args: Any, **options: Any) -> "CausalLM":
        """Cast or move the weights, in place."""
        ...

    def state_dict(self) -> "Mapping[str, Any]":
        """Parameters and buffers by name."""
        ...

    def save_pretrained(self, save_directory: "str | os.PathLike[str]", **options: Any) -> Any:
        """Write the model's files into a folder."""
        ...


def copy_weights(named_parameters: "Iterable[tuple[str, Tensor]]", model: CausalLM) -> None:
    """Put named weights, whole tensors that come one after another, into a model that has parameters of these names.

    Weights that are the model's own already are not copied. Raises ValueError for a name that the model does not have.
    """
    import torch

    places = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in named_parameters:
            if name not in places:
                raise ValueError(f"the model has no parameter {name!r}")
            if weight.data_ptr() != places[name].data_ptr():
                places[name].copy_(weight)


def beneath(model: CausalLM) -> Any:
    """The model without its adapters; one without any is itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def plain_weights(model: CausalLM) -> "Iterator[tuple[str, Tensor]]":
    """The weights of a model by its own names, one after another; of one with adapters the sums, which a server loads
    that knows nothing of them. Nothing is changed."""
    import torch

    inner = beneath(model)
    adapted = {name: each for name, each in inner.named_modules() if hasattr(each, "get_delta_weight")}
    for name, weight in inner.named_parameters():
        place, _, last = name.rpartition(".")
        owner, _, kind = place.rpartition(".")
        if owner in adapted and kind == "base_layer":
            layer = adapted[owner]
            with torch.no_grad():
                more = sum(layer.get_delta_weight(each) for each in layer.active_adapters) if last == "weight" else 0
                yield f"{owner}.{last}", (weight + more).to(weight.dtype)
        elif not any(name.startswith(f"{each}.") for each in adapted):
            yield name, weight


def weights_digest(model: CausalLM) -> str:
    """SHA-256 over every parameter's name and bytes, as loaded: the same weights under another name are the same."""
    import torch

    found = sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


REPLACED = "sdpa"
"""The implementation of attention that ours compute the same as. Models that ask for another one keep it."""


@contextmanager
def attending(config: Any, implementation: str) -> Iterator[None]:
    """Let the model with this config attend through another implementation, and leave the config as it was."""
    asked = config._attn_implementation
    if asked != REPLACED:
        yield
        return
    config._attn_implementation = implementation
    try:
        yield
    finally:
        config._attn_implementation = asked
