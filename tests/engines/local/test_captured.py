"""Steps that are recorded and replayed give what the engine gives without, whatever comes, goes, waits and changes.

A recording on a CPU (`TracedRecorder`) has the properties of a CUDA graph for which these tests look: Python does not
run again, and tensors and shapes are those of the recording.
"""

import asyncio
from contextlib import suppress
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine_cases import GREEDY, TEXTS, encoded, engine_of, sample_all, tokens
from thor_tir.engines.local.captured import next_size
from thor_tir.engines.local.model import CachedModel
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault, UsageError
from thor_tir.trajectory import Completion
from tiny_models import tiny_model
from traced_steps import RunAgain, TracedRecorder, captured_engine

PIECES = [[3, 4, 5, 6, 7, 8], [9, 10], [11, 12, 13]]


def scrambled(kind: str = "qwen3", *, seed: int = 0) -> torch.nn.Module:
    """A tiny model whose norms and biases are random too; heads share keys, and Qwen3 has norms of heads."""
    model = tiny_model(kind, seed=seed, sharpness=1.0)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def assert_same(found: Completion, expected: Completion) -> None:
    assert (tokens(found), found.stop) == (tokens(expected), expected.stop)
    ours, theirs = (torch.tensor(completion.span.logprobs) for completion in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def assert_all_free(engine) -> None:
    cache = engine._model.cache
    assert (cache.num_free, cache._promised, sum(cache._users)) == (cache.max_tokens // 64, 0, 0)
    assert sorted(cache._free) == list(range(1, 1 + cache.num_free))


@pytest.mark.parametrize(
    ("kind", "recorder"),
    [("qwen3", TracedRecorder), ("qwen2", RunAgain), ("llama", RunAgain), ("mistral", RunAgain)],
)
def test_both_turns_of_rows_of_many_lengths_are_those_of_the_engine_without(kind, recorder) -> None:
    model = scrambled(kind)
    prompts = [*map(encoded, TEXTS), encoded(" ".join(TEXTS))]
    asks = [(ids, Sampling(max_tokens=8 + 16 * i, seed=i)) for i, ids in enumerate(prompts)]

    async def turns(engine) -> list[Completion]:
        async with engine:
            first = await asyncio.gather(*(engine.sample(*ask) for ask in asks))
            later = [[*ids, *tokens(c), *encoded("77\n")] for (ids, _), c in zip(asks, first, strict=True)]
            again = [engine.sample(ids, Sampling(max_tokens=20, seed=9)) for ids in later]
            return [*first, *await asyncio.gather(*again)]

    captured, plain = captured_engine(model, recorder(), max_num_seqs=2), engine_of(model, max_num_seqs=2)
    found, expected = (asyncio.run(turns(engine)) for engine in (captured, plain))
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs)
    assert captured.stats.reused_tokens == plain.stats.reused_tokens > 100
    assert captured.stats.prefilled_tokens == plain.stats.prefilled_tokens
    assert_all_free(captured)


ASKS = [
    (encoded(" ".join([*TEXTS, *TEXTS])[: 17 + 31 * i]), Sampling(max_tokens=(5, 40, 90, 1)[i % 4], seed=i))
    for i in range(8)
]
"""Prompts of which each begins with those before it."""
MODEL = scrambled()


@cache
def alone(number: int) -> Completion:
    return sample_all(engine_of(MODEL), [ASKS[number]])[0]


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 30), st.none() | st.integers(0, 40)), min_size=1, max_size=9),
    st.integers(4, 8),
    st.integers(1, 3),
)
def test_any_schedule_gives_the_same_and_leaves_no_page_behind(schedule, pages, rows) -> None:
    engine = captured_engine(MODEL, max_num_seqs=rows, cache_tokens=64 * pages)

    async def one(number: int, begin: int, end: int | None) -> Completion | None:
        for _ in range(begin):
            await asyncio.sleep(0)
        asked = asyncio.create_task(engine.sample(*ASKS[number]))
        if end is not None:
            for _ in range(end):
                await asyncio.sleep(0)
            asked.cancel()
        with suppress(asyncio.CancelledError):
            return await asked
        return None

    async def run() -> list[Completion | None]:
        async with engine:
            found = await asyncio.gather(*(one(*each) for each in schedule))
            await asyncio.sleep(0)
            return list(found)

    for (number, _, end), found in zip(schedule, asyncio.run(run()), strict=True):
        assert found is not None or end is not None
        if found is not None:
            assert_same(found, alone(number))
    assert_all_free(engine)


def test_requests_wait_for_pages_in_their_order_and_a_row_that_leaves_lets_them_in() -> None:
    engine = captured_engine(MODEL, max_num_seqs=4, cache_tokens=64 * 3)
    asks = [(encoded(TEXTS[i]), Sampling(max_tokens=70, seed=i)) for i in range(4)]  # 2 pages each: one at a time
    seen = []
    logits = engine._model._captured.logits
    engine._model._captured.logits = lambda last, places: seen.append(len(last)) or logits(last, places)
    for found, expected in zip(sample_all(engine, asks), sample_all(engine_of(MODEL), asks), strict=True):
        assert_same(found, expected)
    assert set(seen) == {1}
    assert_all_free(engine)


def test_a_request_that_can_never_fit_is_refused_and_others_go_on() -> None:
    engine = captured_engine(MODEL, cache_tokens=130)  # two pages
    engine._end_ids = frozenset()

    async def run() -> Completion:
        async with engine:
            with pytest.raises(
                UsageError, match=r"of 5 tokens that may grow to 129 never fits .* holds 128: raise --eng"
            ):
                await engine.sample([5] * 5, Sampling(max_tokens=124))
            return await engine.sample([5] * 5, Sampling(max_tokens=123))

    assert len(asyncio.run(run()).span) == 123


def test_as_many_steps_are_recorded_as_there_are_sizes() -> None:
    recorder = RunAgain()
    engine = captured_engine(MODEL, recorder, max_num_seqs=6)
    engine._end_ids = frozenset()
    # a trial in the beginning, of one row and two pages; then rows of 5 + 60 tokens, which end one after another
    asks = [([5, 6, 7, 8, 9 + i], Sampling(max_tokens=62 + i, seed=i)) for i in range(5)]
    for _ in range(2):
        sample_all(engine, asks)
    # five rows are filled up to six, of one page and, from token 65 on, of two; then four (three), two and one
    assert set(engine._model._captured._replays) == {(1, 2), (6, 1), (6, 2), (4, 2), (2, 2)}
    sample_all(engine, [([5], Sampling(max_tokens=140))])  # alone, into a third page, for which there are four
    assert set(engine._model._captured._replays) == {(1, 1), (1, 2), (1, 4), (6, 1), (6, 2), (4, 2), (2, 2)}
    assert recorder.num_recorded == 7


def test_sizes_are_powers_of_two_up_to_the_most() -> None:
    assert [next_size(n, most=6) for n in range(1, 7)] == [1, 2, 4, 4, 6, 6]
    assert [next_size(n, most=8) for n in (5, 8)] == [8, 8]


@torch.inference_mode()
def read(model, recorder) -> CachedModel:
    cached = CachedModel(model, max_num_seqs=4, max_model_len=256, recorder=lambda: recorder)
    for row, piece in enumerate(PIECES):
        cached.cache.admits(100)
        cached.cache.enter(row, [*piece, 1], longest=100)
    cached.prefill(0, PIECES, [0] * len(PIECES))
    return cached


@torch.inference_mode()
def test_rows_that_fill_up_a_batch_and_pages_that_nobody_has_change_nothing() -> None:
    sound, poisoned = (read(MODEL, RunAgain()) for _ in range(2))
    pool = poisoned.cache._pool_XLHPCD
    held = [page for row in poisoned.cache._rows for page in row.pages]
    for page in {*range(pool.shape[3])} - {*held}:
        pool[:, :, :, page] = torch.nan
    for step in range(70):  # into each row's second page
        ids, positions = [1 + step, 2, 3], [6 + step, 2 + step, 3 + step]
        found, expected = (cached.decode(ids, positions) for cached in (poisoned, sound))
        assert torch.equal(found, expected)
        assert found.isfinite().all()
    assert len(poisoned.cache._rows[0].pages) == 2


@torch.inference_mode()
def test_what_fills_up_the_place_of_a_row_that_left_writes_no_longer_where_that_row_did() -> None:
    left, never = (read(MODEL, RunAgain()) for _ in range(2))
    left.cache.admits(20)
    left.cache.enter(3, [1, 2], longest=20)
    left.prefill(3, [[1]], [0])
    left.decode([1, 2, 3, 4], [6, 2, 3, 1])
    [page] = left.cache._rows[3].pages
    left.cache.leave(3, last=3, tokens=2)
    never.decode([1, 2, 3], [6, 2, 3])
    for place in range(7, 70):
        asked = [1, 2, 3], [place, 3, 4]
        found, expected = (cached.decode(*asked) for cached in (left, never))
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    assert left.cache._rows[0].pages[1] == page  # which the first row has by now


def test_what_a_recording_knows_are_tensors_not_names() -> None:
    """A stale replay is possible here: so the tests of weights below could fail."""
    weight, total = [torch.ones(2)], torch.zeros(2)
    replay = TracedRecorder().record(lambda: total.add_(weight[0]))
    total.zero_()
    weight[0].fill_(3)
    replay()
    assert total.tolist() == [3, 3]
    weight[0] = torch.full((2,), 100.0)
    replay()
    assert total.tolist() == [6, 6]


def test_weights_that_are_overwritten_are_seen_by_recordings_that_exist() -> None:
    recorder, model = TracedRecorder(), scrambled(seed=0)
    engine, new = captured_engine(model, recorder, max_num_seqs=2), scrambled(seed=1)
    ask = (encoded(TEXTS[2]), GREEDY)

    async def run() -> tuple[Completion, int, Completion]:
        async with engine:
            before, recorded = await engine.sample(*ask), recorder.num_recorded
            await engine.update_weights(new.named_parameters(), 7)
            return before, recorded, await engine.sample(*ask)

    before, recorded, after = asyncio.run(run())
    assert recorder.num_recorded == recorded
    assert after.policy_version == 7
    assert tokens(after) != tokens(before)
    assert_same(after, sample_all(engine_of(scrambled(seed=1)), [ask])[0])


def test_requests_that_are_active_at_an_update_go_on_and_leave_no_page_behind() -> None:
    engine, new = captured_engine(scrambled(), max_num_seqs=2, cache_tokens=64 * 4), scrambled(seed=1)
    engine._end_ids = frozenset()
    asks = [(encoded(text), Sampling(max_tokens=60, seed=i)) for i, text in enumerate(TEXTS)]

    async def run() -> list[Completion]:
        async with engine:
            asked = [asyncio.create_task(engine.sample(*ask)) for ask in asks]
            for _ in range(20):
                await asyncio.sleep(0)
            await engine.update_weights(new.named_parameters(), 1)
            return list(await asyncio.gather(*asked))

    found = asyncio.run(run())
    assert {len(completion.span) for completion in found} == {60}
    assert sum(completion.versions is not None for completion in found) == 2
    assert_all_free(engine)


def test_a_weight_that_is_replaced_makes_steps_be_recorded_again() -> None:
    recorder, model = TracedRecorder(), scrambled()
    cached, asked = read(model, recorder), ([3, 5, 7], [6, 2, 3])
    with torch.inference_mode():
        before = cached.decode(*asked).clone()
        stale = cached._captured._replays[4, 1]
        weights = model.model.layers[0].mlp.up_proj
        weights.weight = torch.nn.Parameter(weights.weight.detach() * 3)
        recorded = recorder.num_recorded
        found = cached.decode(*asked).clone()
        assert recorder.num_recorded == recorded + 1
        cached.prefill(0, PIECES, [0] * 3)
        found, expected = cached.decode(*asked).clone(), read(model, RunAgain()).decode(*asked)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert (found - before).abs().max() > 1e-3
        assert recorder.num_recorded == recorded + 1
    assert stale not in cached._captured._replays.values()


def test_a_model_that_is_changed_later_ends_requests_with_the_reason() -> None:
    model = scrambled()
    engine = captured_engine(model, cache_tokens=64 * 8)

    async def run() -> None:
        async with engine:
            await engine.sample([5], Sampling(max_tokens=2))
            model.model.layers[1].register_forward_hook(lambda module, inputs, output: output)
            await engine.update_weights((), 1)
            await engine.sample([5], Sampling(max_tokens=2))

    async def again() -> None:
        async with engine:
            await engine.sample([5], Sampling(max_tokens=2))

    for ask in (run, again):
        with pytest.raises(
            EngineFault, match=r"the engine stopped: --engine\.cuda-graphs knows Llama.*leave the option out"
        ):
            asyncio.run(ask())
        assert_all_free(engine)


def test_a_fault_in_a_step_and_logits_that_are_no_numbers_leave_no_page_behind() -> None:
    model = scrambled()
    engine = captured_engine(model, max_num_seqs=2, cache_tokens=64 * 4)
    sound = sample_all(engine, [([5, 6], GREEDY)])[0]
    weight = model.model.layers[0].self_attn.v_proj.weight
    kept = weight.detach().clone()

    async def run() -> None:
        async with engine:
            with torch.no_grad():
                weight.fill_(torch.nan)
            with pytest.raises(EngineFault, match="not numbers"):
                await engine.sample([7, 8, 9], Sampling(max_tokens=9))
            with torch.no_grad():
                weight.copy_(kept)
            await engine.update_weights((), 0)
            assert_same(await engine.sample([5, 6], GREEDY), sound)  # in pages that held what is no number
            engine._model._captured.logits = lambda *_: 1 / 0
            await engine.sample([5], GREEDY)

    with pytest.raises(EngineFault, match="division by zero"):
        asyncio.run(run())
    assert_all_free(engine)
