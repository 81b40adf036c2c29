"""One forward call for many sequences of different lengths: the batch as a Hugging Face causal model wants to see it.

Knows rows, tokens and positions; knows nothing of requests, sampling or time.

Letters in names of tensors: B rows of one call, T tokens of one call, K visible tokens, N stored tokens, V vocabulary.
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from random import Random
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from thor_tir.engines.local.captured import CapturedSteps, Recorder
from thor_tir.engines.local.fast_decoder import FAMILIES, TOLERANCE, Decoder, attend, decoder_of, is_plain
from thor_tir.engines.local.kv_cache import CAPACITY_BLOCK, SlotCache, Window, num_blocks
from thor_tir.engines.local.pages import PagedCache
from thor_tir.engines.local.sampling import Draws, draw, sent
from thor_tir.engines.protocol import ContextFull
from thor_tir.errors import UsageError
from thor_tir.pretrained import CausalLM, attending

_LOG = logging.getLogger(__name__)

OTHER_WINDOWS = (
    "attention_chunk_size",
    "attention_window_size",
    "local_attention_window",
    "sliding_window_size",
    "window_size",
)
"""Settings by which families limit what some layers see in a way that this engine does not compute."""
BEYOND = 24
"""Tokens beyond twice a window that the self-test reads: so much that the last ones cannot see the first."""
AFFORDABLE = 2e12
"""Multiplications that the self-test may cost on a CPU: some seconds. On a GPU it is always made."""


def longest_context(config: Any, wanted: int | None) -> int:
    """Tokens a sequence may have: what is wanted, within what the model was built for.

    Raises UsageError where `wanted` goes beyond it, and for layers whose state is not keys and values of all tokens.
    """
    limits = [limit for limit in (getattr(config, "max_position_embeddings", None),) if limit]
    layer_types = set(getattr(config, "layer_types", None) or ["full_attention"])
    if not layer_types <= {"full_attention", "sliding_attention"}:
        raise UsageError(
            f"this engine keeps keys and values of attention layers, but the model has layers of types "
            f"{', '.join(sorted(layer_types))}; serve it behind another engine"
        )
    longest = min(limits, default=wanted or 0)
    if not longest or (wanted or 0) > longest:
        raise UsageError(
            f"max_model_len is {wanted}, but this model can hold {longest or 'an unknown number of'} tokens"
        )
    return wanted or longest


def sliding_window(config: Any) -> int | None:
    """Tokens that the sliding layers of a model see, the last one included; None where all layers see everything."""
    layer_types = getattr(config, "layer_types", None)
    slides = "sliding_attention" in layer_types if layer_types else getattr(config, "use_sliding_window", True)
    window = getattr(config, "sliding_window", None)
    return window if slides and isinstance(window, int) and window > 0 else None


class MaskForm(StrEnum):
    """The form of the attention masks that a model takes."""

    CAUSAL = "causal"
    """One mask, of everything before."""
    SLIDING = "sliding"
    """One mask, of a window, for every layer."""
    BY_LAYER = "by layer"
    """A mask for each type of layer."""


class CachedModel:
    """A causal language model with the keys and values of its active rows."""

    def __init__(
        self,
        model: CausalLM,
        *,
        max_num_seqs: int,
        max_model_len: int | None,
        compiles: bool = True,
        recorder: Callable[[], Recorder] | None = None,
        cache_tokens: int | None = None,
    ) -> None:
        """With a `recorder`, made anew for each decoder, steps are captured over a pool of so many tokens."""
        config = model.config.get_text_config()
        self.model = model
        self.device: torch.device = model.device
        self.max_model_len = longest_context(config, max_model_len)
        self.vocabulary: int = config.vocab_size
        self.cache: SlotCache | PagedCache = SlotCache(
            num_layers=config.num_hidden_layers, max_num_seqs=max_num_seqs, max_tokens=self.max_model_len
        )
        longest = max(max_num_seqs, self.cache.max_tokens)
        self._count = torch.arange(longest, device=self.device)
        self._lowest = torch.finfo(model.dtype).min
        self._zero = torch.zeros((), dtype=model.dtype, device=self.device)
        self._decoder: Decoder | None = None
        self._is_tried = False
        self._compiles = compiles
        self._window: int | None = None
        self._form = MaskForm.CAUSAL
        self._recorder: Callable[[], Recorder] | None = None
        self._captured: CapturedSteps | None = None
        self._respect_windows(config)
        if recorder is not None:
            self._capture(recorder, max_num_seqs, cache_tokens)

    def _capture(self, recorder: Callable[[], Recorder], max_num_seqs: int, cache_tokens: int | None) -> None:
        """Decode by captured steps from now on. Raises UsageError where they do not compute the same as the model."""
        if self._form is MaskForm.BY_LAYER or not is_plain(self.model):
            raise self._unknown()
        self._recorder = recorder
        self.cache = PagedCache(
            self.model, max_num_seqs=max_num_seqs, max_model_len=self.max_model_len, tokens=cache_tokens
        )
        error = self._error(min(CAPACITY_BLOCK + BEYOND, self.max_model_len, self.cache.max_tokens))
        if not error <= TOLERANCE.get(self.model.dtype, 0.0):
            raise UsageError(
                f"the captured step's logits differ by {error:.1g} from the model's: leave out --engine.cuda-graphs"
            )

    def _unknown(self) -> UsageError:
        return UsageError(
            f"--engine.cuda-graphs knows {', '.join(sorted(FAMILIES))}, whole and without adapters or hooks, and this "
            f"{type(self.model).__name__} is none of them or does not compute as they do: leave the option out"
        )

    def _respect_windows(self, config: Any) -> None:
        """Find the masks under which this pass computes what the model does beyond its window.

        Tried once, with a text that is longer than the window; where that costs too much, or no masks do, the context
        ends with the window, within which sliding attention is full attention.
        """
        limits = [
            limit for name in OTHER_WINDOWS if isinstance(limit := getattr(config, name, None), int) and limit > 0
        ]
        window = sliding_window(config)
        if window is not None and window < self.max_model_len:
            self._window = window
            forms = (
                (MaskForm.BY_LAYER, MaskForm.SLIDING) if getattr(config, "layer_types", None) else (MaskForm.SLIDING,)
            )
            if not any(self._computes_the_same(form) for form in forms):
                self._window, self._form = None, MaskForm.CAUSAL
                limits.append(window)
        if limits and min(limits) < self.max_model_len:
            self.max_model_len = min(limits)
            _LOG.warning(
                "%s sees a window of %d tokens in some layers, and this engine does not compute what lies beyond: its "
                "context ends there; serve it behind another engine for longer texts",
                type(self.model).__name__,
                self.max_model_len,
            )

    def _computes_the_same(self, form: MaskForm) -> bool:
        """True if these masks give the model's own logits right behind its window. Keeps the form if so."""
        assert self._window is not None
        length = min(2 * self._window + BEYOND, self.max_model_len)
        if self.device.type == "cpu" and 2.0 * length * self.model.num_parameters() > AFFORDABLE:
            return False
        self._form = form
        try:
            return self._error(length) <= TOLERANCE.get(self.model.dtype, 0.0)
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):  # not the form that it takes
            return False

    @torch.inference_mode()
    def _error(self, length: int) -> float:
        """Largest difference from the model's own logits behind a text of this length, as a share of the largest logit.
        It is read in two pieces, and its last two tokens are decoded: a step that is captured is replayed once."""
        draw_id = Random(0)
        ids = [draw_id.randrange(self.vocabulary) for _ in range(length)]
        was_training, middle = self.model.training, length // 2
        self.model.eval()
        try:
            self.cache.admits(length)
            self.cache.enter(0, ids, longest=length)
            self.prefill(0, [ids[:middle]], [0])
            self.prefill(0, [ids[middle:-2]], [middle])
            self.decode(ids[-2:-1], [length - 2])
            found = self.decode(ids[-1:], [length - 1])
            expected = self.model(torch.tensor([ids], device=self.device), use_cache=False).logits[:, -1]
        finally:
            self.model.train(was_training)
            self.release()
        return float((found - expected).abs().max() / expected.abs().max())

    def refuse_unfit(self, token_ids: Sequence[int], longest: int) -> None:
        """Raise ValueError for ids that are no prompt of this model, or that may grow beyond what has room here."""
        if not token_ids:
            raise ValueError("a prompt has at least one token, found none")
        if len(token_ids) >= self.max_model_len:
            raise ContextFull(f"the prompt has {len(token_ids)} tokens, which fill the context of {self.max_model_len}")
        if min(token_ids) < 0 or max(token_ids) >= self.vocabulary:
            # Left to the model, this would take down every other request, and on a GPU the whole process.
            raise ValueError(f"the prompt has ids outside the model's vocabulary of {self.vocabulary} tokens")
        if longest > self.cache.max_tokens:
            raise UsageError(
                f"a prompt of {len(token_ids)} tokens that may grow to {longest} never fits into the pool of keys and "
                f"values, which holds {self.cache.max_tokens}: raise --engine.cache-tokens, or allow fewer tokens"
            )

    def sample(
        self, last_B: Sequence[int], position_B: Sequence[int], draws: Draws, uniform_B: Sequence[float]
    ) -> tuple[list[int], list[float]]:
        """Store one more token in each of the first rows, and draw what follows, with its log-probability in nats."""
        logits_BV, decoder = self.decode(last_B, position_B), self._decoder
        if decoder is not None and decoder.step is not None and draws.plain_B is not None:
            return decoder.step.draw(logits_BV, draws.plain_B, uniform_B)
        token_B, logp_B = draw(logits_BV, draws, sent(uniform_B, self.device, dtype=torch.float64))
        tokens, logprobs = torch.stack((token_B.double(), logp_B.double())).tolist()  # the one time that a step waits
        return [int(token) for token in tokens], logprobs

    def decode(self, last_B: Sequence[int], position_B: Sequence[int]) -> Tensor:
        """Store one more token in each of the first rows and return the logits [B, V] of what follows."""
        decoder = self._quick()
        if self._captured is not None:
            return self._captured.logits(last_B, position_B)
        visible = self._make_room(rows=len(last_B), tokens=max(position_B) + 1)
        if decoder is not None and decoder.step is not None:
            return decoder.step.logits(last_B, position_B, window=self._window)
        ids_B, place_B = sent([last_B, position_B], self.device).unbind()
        return self._logits(ids_B, place_B, visible)

    def _logits(self, ids_B: Tensor, place_B: Tensor, visible: int) -> Tensor:
        rows, decoder = slice(0, len(ids_B)), self._decoder
        window = Window(rows=rows, visible=visible, slot_N=self._count[rows], position_N=place_B)
        mask_BK = self._mask(place_B, visible, self._window if self._form is MaskForm.SLIDING else None)
        if decoder is not None:
            return decoder.logits(ids_B, place_B, window, mask_BK)
        with decoding(self.model.config):
            return self._forward(ids_B[:, None], place_B[:, None], mask_BK[:, None], window)[:, -1]

    def prefill(self, first_row: int, pieces: Sequence[Sequence[int]], starts: Sequence[int]) -> None:
        """Store a piece of tokens in each of the rows from `first_row` on, beginning at each one's own position."""
        lengths = [len(piece) for piece in pieces]
        longest, num_rows = max(lengths), len(pieces)
        visible = self._make_room(
            rows=first_row + num_rows, tokens=max(s + n for s, n in zip(starts, lengths, strict=True))
        )
        start_B1 = sent(starts, self.device)[:, None]
        position_BT = (start_B1 + self._count[:longest]).clamp(max=self.max_model_len - 1)
        source_N = sent([row * longest + place for row, n in enumerate(lengths) for place in range(n)], self.device)
        window = Window(
            rows=slice(first_row, first_row + num_rows),
            visible=visible,
            slot_N=first_row + source_N // longest,
            position_N=position_BT.flatten()[source_N],
            source_N=source_N,
        )
        mask_BTK = self._mask(position_BT, visible, self._window if self._form is MaskForm.SLIDING else None)
        if (decoder := self._quick()) is not None:
            ids_N = sent([token for piece in pieces for token in piece], self.device)
            decoder.prefill(ids_N, window.position_N, window, mask_BTK)
            return
        padded = [[*piece, *[0] * (longest - len(piece))] for piece in pieces]
        self._forward(sent(padded, self.device), position_BT, mask_BTK, window)

    def release(self) -> None:
        """Free keys and values; whether the model can be decoded quickly is tried anew at the next call. Captured steps
        stay, which read whatever weights lie where they were."""
        self.cache.release()
        if self._captured is None or not is_plain(self.model):
            self._decoder, self._is_tried, self._captured = None, False, None

    def _quick(self) -> Decoder | None:
        if self._decoder is not None and not self._decoder.is_current:
            self._is_tried = False
        if not self._is_tried:
            may_be_quick = self._form is not MaskForm.BY_LAYER
            self._is_tried = True
            self._decoder = (
                decoder_of(self.model, self.cache, max_model_len=self.max_model_len, compiles=self._compiles)
                if may_be_quick
                else None
            )
            if self._recorder is not None and isinstance(self.cache, PagedCache):
                self._captured = CapturedSteps(self._recorder(), self.cache, self._logits, vocabulary=self.vocabulary)
        if self._recorder is not None and self._decoder is None:
            raise self._unknown()
        return self._decoder

    def _make_room(self, *, rows: int, tokens: int) -> int:
        visible = CAPACITY_BLOCK * num_blocks(tokens)
        self.cache.reserve(rows=rows, tokens=visible)
        return visible

    def _mask(self, position: Tensor, visible: int, window: int | None = None) -> Tensor:
        """The additive mask of the positions that each position may not attend to, with one more dimension, K."""
        # Additive, because the eager attention of transformers adds it and the fused one takes it as it is. The lowest
        # finite number, not minus infinity: it never makes a NaN.
        is_hidden = self._count[:visible] > position.unsqueeze(-1)
        if window is not None:
            is_hidden = is_hidden | (self._count[:visible] <= position.unsqueeze(-1) - window)
        return self._zero.masked_fill(is_hidden, self._lowest)

    def _forward(self, ids_BT: Tensor, position_BT: Tensor, mask_BTK: Tensor, window: Window) -> Tensor:
        self.cache.aim(window)
        mask_B1TK = mask_BTK[:, None]
        masks: Tensor | dict[str, Tensor] = mask_B1TK
        if self._form is MaskForm.BY_LAYER:
            sliding_B1TK = self._mask(position_BT, window.visible, self._window)[:, None]
            masks = {"full_attention": mask_B1TK, "sliding_attention": sliding_B1TK}
        output = self.model(
            input_ids=ids_BT,
            attention_mask=masks,
            position_ids=position_BT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits_BTV: Tensor = output.logits
        return logits_BTV


NAME = "thor_decode"
"""Name of this implementation."""


def decode_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(q k^T * scaling + mask) v for one query per row, softmax in float32; heads may share keys and values.

    The general kernel costs two to five times these two products on a CPU, and where heads share keys and values it
    copies the whole cache once per group and layer. `query` is [B, heads, 1, D], `key` and `value`
    [B, key-value heads, K, D], `attention_mask` additive [B, 1, 1, K]; the result is [B, 1, heads, D]. Anything else,
    such as a bias by position, goes to the implementation replaced.
    """
    rows, heads, queries, size = query.shape
    if queries != 1 or attention_mask is None or kwargs.get("position_bias") is not None:
        other: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return other
    scale = size**-0.5 if scaling is None else scaling
    query_BHD = (query * scale).reshape(rows, heads, size).contiguous()
    return attend(query_BHD, [key], [value], attention_mask[:, :, 0]).view(rows, 1, heads, size), None


AttentionInterface.register(NAME, decode_attention)


def decoding(config: Any) -> AbstractContextManager[None]:
    """Let the model with this config attend through `decode_attention`, and leave the config as it was."""
    return attending(config, NAME)
