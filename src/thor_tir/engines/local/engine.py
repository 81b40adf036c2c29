"""Continuous batching over any Hugging Face causal language model, in the process and thread of its caller.

Many coroutines ask for completions; one task decodes them together, a token for every row a step. A trajectory that
waits for a tool holds no row, so the batch never stalls, and its keys and values are parked until it comes back.

Not here: models over several devices (whatever `model(...)` does is used as it is), speculative decoding, and layers
that keep another state than keys and values of every token.
"""

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from time import perf_counter
from types import TracebackType

import torch

from thor_tir.chat_template import sampled_ends
from thor_tir.engines.local.captured import CudaRecorder, Recorder
from thor_tir.engines.local.kv_cache import ParkedCache
from thor_tir.engines.local.model import CachedModel
from thor_tir.engines.local.sampling import Draws, Uniforms
from thor_tir.engines.local.scheduler import SamplingRequest, prefill_groups, waves
from thor_tir.engines.local.step_barrier import StepBarrier
from thor_tir.engines.local.stop_strings import StopFinder, byte_pieces
from thor_tir.engines.options import EngineConfig, EngineOptions
from thor_tir.engines.protocol import Sampling, Serverless
from thor_tir.errors import EngineFault
from thor_tir.pretrained import CausalLM, ModelTokenizer, copy_weights
from thor_tir.products import quick_products, threads
from thor_tir.trajectory import Completion, StopReason

GATHER_REQUESTS, GATHER_STEPS = 8, 6
"""While rows are being decoded, newcomers wait until so many have come or so many steps have passed: each admission is
a forward call of its own, and one call for several costs little more than for one."""

QUIET_ROUNDS = 8
"""Rounds of the event loop without news after which a deterministic engine believes that nothing more comes by itself:
a trajectory that ends may let the next one start, which takes a few rounds through semaphores and tasks."""


@dataclass(slots=True, kw_only=True)
class Stats:
    """Counts of an engine's work since it was made."""

    sampled_tokens: int = 0
    """Tokens drawn."""
    prefilled_tokens: int = 0
    """Prompt tokens computed."""
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were parked and copied instead."""
    forwards: int = 0
    """Calls of the model."""
    busy_s: float = 0.0
    """Seconds spent in steps."""
    idle_s: float = 0.0
    """Seconds without a step to take: waiting for tools, or for requests at all."""


def open_engine(
    model: CausalLM,
    tokenizer: ModelTokenizer,
    options: EngineOptions,
    *,
    deterministic: bool = False,
    barrier: StepBarrier | None = None,
    trains: bool = False,
    say: Callable[[str], None] | None = None,
) -> "TransformersEngine":
    """The engine of this process, as the table of engines opens it; it has no server to speak of."""
    config = EngineConfig(
        max_num_seqs=options.max_num_seqs,
        num_threads=options.num_threads,
        compiled=options.compiled,
        cache_tokens=options.cache_tokens,
        deterministic=deterministic,
    )
    recorder = partial(CudaRecorder, model.device) if options.cuda_graphs else None
    return TransformersEngine(model, tokenizer, config, barrier, recorder)


class TransformersEngine(Serverless):
    """A `Policy` over a model that this process holds, and may train while no request is active."""

    def __init__(
        self,
        model: CausalLM,
        tokenizer: ModelTokenizer,
        config: EngineConfig | None = None,
        barrier: StepBarrier | None = None,
        recorder: Callable[[], Recorder] | None = None,
    ) -> None:
        """Engines that serve the same trajectories share a `barrier`. With a `recorder` decoding steps are captured."""
        self.config = config or EngineConfig()
        self.stats = Stats()
        self.policy_version = 0
        self._model = CachedModel(
            model,
            max_num_seqs=self.config.max_num_seqs,
            max_model_len=self.config.max_model_len,
            compiles=self.config.compiled,
            recorder=recorder,
            cache_tokens=self.config.cache_tokens,
        )
        self._parked = ParkedCache(
            max_tokens=self.config.parked_tokens,
            max_bytes=self.config.parked_bytes,
            let_go=self._model.cache.let_go,
        )
        self._tokenizer = tokenizer
        self._end_ids = sampled_ends(model, tokenizer)
        self._pieces = byte_pieces(tokenizer, vocabulary=self._model.vocabulary)
        self._finders: dict[tuple[str, ...], StopFinder] = {}
        self._pending: list[SamplingRequest] = []
        self._rows: list[SamplingRequest] = []
        self._draws: Draws | None = None
        self._steps_waited = 0
        self._has_news = False
        self._wake = asyncio.Event()
        self._barrier = barrier or StepBarrier()
        self._barrier.join(self)
        self._task: asyncio.Task[None] | None = None
        self._was_training = False

    @property
    def max_model_len(self) -> int:
        """Tokens that a prompt and its completion may have together."""
        return self._model.max_model_len

    async def __aenter__(self) -> "TransformersEngine":
        self._wake = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name="decode loop")
        self._task.add_done_callback(self._fail_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self.release()

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Continue `token_ids`; see `Policy.sample`. A completion also ends, with LENGTH, where the context is full.

        Raises ValueError for ids that are no prompt of this model, UsageError where keys and values of that many tokens
        find no room, and EngineFault when the model failed.
        """
        longest = min(len(token_ids) + sampling.max_tokens, self.max_model_len)
        self._model.refuse_unfit(token_ids, longest)
        if self._task is None or self._task.done():
            raise EngineFault("the engine is not running: use it within `async with engine:`, and anew after a fault")
        request = SamplingRequest(
            ids=list(token_ids),
            prompt_tokens=len(token_ids),
            longest=longest,
            sampling=sampling,
            finder=self._finder(sampling.stop),
            uniforms=Uniforms(sampling.seed),
            future=asyncio.get_running_loop().create_future(),
        )
        self._pending.append(request)
        self._barrier.announce()
        try:
            return await request.future
        finally:
            self._barrier.announce()  # a caller that was cancelled may be the one that everybody waits for

    def attend(self) -> AbstractContextManager[None]:
        """Count one more trajectory that may ask for samples; see `Policy.attend`."""
        return self._barrier.attend()

    @property
    def num_waiting(self) -> int:
        """Requests that are not answered yet."""
        return len(self._pending) + len(self._rows)

    async def update_weights(self, named_parameters: Iterable[tuple[str, torch.Tensor]], version: int) -> None:
        """Take weights over, forget what the old ones computed, and stamp completions with `version`.

        Weights that are the model's own already, since a learner moves them in place, are not copied. Called from the
        engine's own event loop, so between two steps: requests that are active keep their tokens and are read anew
        under the new weights, which draw what follows.
        """
        for request in self._rows:
            request.renewals.append((self.policy_version, len(request.logprobs)))
        self._pending, self._rows, self._draws = [*self._rows, *self._pending], [], None
        self._parked.clear()
        self._model.release()
        copy_weights(named_parameters, self._model.model)
        self.policy_version = version

    def release(self) -> None:
        """Forget all keys and values and free their memory. Raises ValueError while requests are active."""
        if self._rows or self._pending:
            raise ValueError(f"{len(self._rows) + len(self._pending)} requests are active; let them finish first")
        self._parked.clear()
        self._model.release()

    def _finder(self, stop: tuple[str, ...]) -> StopFinder:
        if stop not in self._finders:
            self._finders[stop] = StopFinder(stop, self._tokenizer, self._pieces)
        return self._finders[stop]

    def wake(self) -> None:
        """Look again whether a step can be taken."""
        self._has_news = True
        self._wake.set()

    def all_left(self) -> None:
        """Forget what was parked if bits matter: a run that is resumed here would not have it either."""
        if self.config.deterministic:
            self._parked.clear()

    async def _run(self) -> None:
        while True:
            await self._until_ready()
            began = perf_counter()
            with threads(self.config.num_threads), quick_products():
                self._step()
            self.stats.busy_s += perf_counter() - began
            self._barrier.end_turn_of(self)
            await asyncio.sleep(0)

    async def _until_ready(self) -> None:
        await self._settle()
        if self._is_ready():
            return
        began = perf_counter()
        while not self._is_ready():
            self._rest()
            self._wake.clear()
            await self._wake.wait()
            await self._settle()
        self.stats.idle_s += perf_counter() - began

    def _is_ready(self) -> bool:
        return self.num_waiting > 0 and (not self.config.deterministic or self._barrier.is_turn_of(self))

    async def _settle(self) -> None:
        """Let everything happen that needs no waiting, where it matters who is there when a step begins."""
        if not self.config.deterministic:
            return
        quiet = 0 if self._has_news else QUIET_ROUNDS
        while quiet < QUIET_ROUNDS:
            self._has_news = False
            await asyncio.sleep(0)
            quiet = 0 if self._has_news else quiet + 1

    def _rest(self) -> None:
        """Leave the model as it was found, while no request waits for it."""
        if self._pending or self._rows:
            return
        if self._was_training:
            self._model.model.train()
            self._was_training = False
        if self.config.deterministic and not self._barrier.num_attending:
            self._parked.clear()  # so that a batch has the same bits whichever batches this process did before

    @torch.inference_mode()
    def _step(self) -> None:
        """Admit what fits, then sample one token for every row."""
        if self._model.model.training:
            self._was_training = True
            self._model.model.eval()
        self._drop_cancelled()
        self._admit()
        if self._rows:
            self._decode()

    def _drop_cancelled(self) -> None:
        self._pending = [request for request in self._pending if not request.future.done()]
        for row in range(len(self._rows) - 1, -1, -1):
            if self._rows[row].future.done():
                self._leave(row)

    def _admit(self) -> None:
        num_free = self.config.max_num_seqs - len(self._rows)
        if not self._pending or not num_free:
            return
        self._steps_waited += 1
        if self._rows and len(self._pending) < GATHER_REQUESTS and self._steps_waited < GATHER_STEPS:
            return
        self._steps_waited = 0
        if self.config.deterministic:
            self._pending.sort(key=lambda request: request.order)
        chosen = list(takewhile(lambda request: self._model.cache.admits(request.longest), self._pending[:num_free]))
        if not chosen:
            return
        self._pending = self._pending[len(chosen) :]
        while self._model.cache.is_short:
            self._parked.forget_oldest()
        self._draws = None
        rows = len(self._rows) + len(chosen)
        self._model.cache.reserve(rows=rows, tokens=max(len(request.ids) for request in chosen))
        for wave in waves(chosen):
            self._enter(wave)

    def _enter(self, wave: list[SamplingRequest]) -> None:
        """Give each request a row that stores all of its tokens but the last, which the next step decodes."""
        first_row = len(self._rows)
        finds = [(request, *self._parked.find(request.ids[:-1])) for request in wave]
        finds.sort(key=lambda find: len(find[0].ids) - 1 - find[2])
        for row, (request, entry, num_reused) in enumerate(finds, first_row):
            self._rows.append(request)
            states = None if entry is None else entry.states
            self._model.cache.enter(row, request.ids, longest=request.longest, states=states, reused=num_reused)
        starts = [num_reused for _, _, num_reused in finds]
        self.stats.reused_tokens += sum(starts)
        missing = [len(request.ids) - 1 - num_reused for request, _, num_reused in finds]
        for group in prefill_groups(missing, budget=self.config.prefill_tokens):
            self._prefill(first_row + group.start, starts[group])

    def _prefill(self, first_row: int, starts: Sequence[int]) -> None:
        """Compute the rest of some rows' prompts and park them; in pieces where one call would be too long."""
        rows = self._rows[first_row : first_row + len(starts)]
        piece = max(1, self.config.prefill_tokens // len(rows))
        longest = len(rows[-1].ids) - 1 - starts[-1]
        for offset in range(0, longest, piece):
            begins = [start + offset for start in starts]
            pieces = [r.ids[begin : min(begin + piece, len(r.ids) - 1)] for r, begin in zip(rows, begins, strict=True)]
            skipped = sum(not p for p in pieces)  # the shorter rows, which are done, come first
            self._model.prefill(first_row + skipped, pieces[skipped:], begins[skipped:])
            self.stats.forwards += 1
            self.stats.prefilled_tokens += sum(map(len, pieces))
        for row in range(first_row, first_row + len(rows)):
            self._park(row)

    def _decode(self) -> None:
        rows = self._rows
        if self._draws is None:
            samplings = [request.sampling for request in rows]
            self._draws = Draws.of(samplings, vocabulary=self._model.vocabulary, device=self._model.device)
        last, positions = [r.ids[-1] for r in rows], [len(r.ids) - 1 for r in rows]
        drawn = self._model.sample(last, positions, self._draws, [r.next_uniform for r in rows])
        self.stats.forwards += 1
        self.stats.sampled_tokens += len(rows)
        self._append(*drawn)

    def _append(self, tokens: list[int], logprobs: list[float]) -> None:
        reasons = [
            None if math.isnan(logprob) else request.append(token, logprob, self._end_ids)
            for request, token, logprob in zip(self._rows, tokens, logprobs, strict=True)
        ]
        for row in range(len(reasons) - 1, -1, -1):  # backwards: leaving moves the last row, which has been seen
            reason = reasons[row]
            if math.isnan(logprobs[row]):
                self._refuse(row)
            elif reason is not None:
                self._finish(row, reason)

    def _refuse(self, row: int) -> None:
        """End a request whose logits are not numbers; the others go on, and nothing of it is kept."""
        request = self._rows[row]
        self._model.cache.blank(row, len(request.ids))
        self._leave(row, is_kept=False)
        if not request.future.done():
            request.future.set_exception(
                EngineFault("the model's logits are not numbers; its weights have diverged or its precision is too low")
            )
            self._barrier.announce()

    def _finish(self, row: int, reason: StopReason) -> None:
        request = self._rows[row]
        self._leave(row)
        if not request.future.done():
            request.future.set_result(request.completion(reason, self.policy_version))
            self._barrier.announce()

    def _leave(self, row: int, *, is_kept: bool = True) -> None:
        """Park a row, unless it is not to be kept, and close the hole with the last one."""
        if is_kept:
            self._park(row)
        last = self._rows.pop()
        self._model.cache.leave(row, last=len(self._rows), tokens=len(last.ids) - 1)
        if row < len(self._rows):
            self._rows[row] = last
        self._draws = None

    def _park(self, row: int) -> None:
        ids = self._rows[row].ids[:-1]
        if self._parked.accepts(len(ids)):
            self._parked.park(ids, self._model.cache.copy_out(row, len(ids)))

    def _fail_all(self, task: asyncio.Task[None]) -> None:
        """The decode loop has ended: no request may wait for it any longer."""
        cause = None if task.cancelled() else task.exception()
        for request in (*self._pending, *self._rows):
            if not request.future.done():
                fault = EngineFault(f"the engine stopped: {cause}" if cause else "the engine was closed")
                fault.__cause__ = cause
                request.future.set_exception(fault)
        self._pending, self._rows, self._draws = [], [], None
