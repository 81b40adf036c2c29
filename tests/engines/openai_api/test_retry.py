import asyncio
import random

import pytest
import torch

from engine_cases import GREEDY, TEXTS, encoded, engine_of, sample_all, tokens
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault
from thor_tir.trajectory import Completion
from tiny_models import tiny_model


async def with_tools(engine: TransformersEngine, number: int, delays: random.Random) -> list[Completion]:
    """A trajectory of three turns with a tool of unpredictable duration between them."""
    completions = []
    with engine.attend():
        context = encoded(TEXTS[number % 4])
        for turn in range(3):
            sampling = Sampling(max_tokens=6 + number % 5, seed=10 * number + turn)
            completions.append(await engine.sample(context, sampling))
            context = [*context, *tokens(completions[-1]), *encoded("```output\n7\n```\n")]
            await asyncio.sleep(delays.random() * 0.01)
    return completions


def test_a_deterministic_engine_gives_the_same_bits_whatever_time_tools_take():
    async def run(delay_seed: int) -> list[list[Completion]]:
        delays = random.Random(delay_seed)
        gate = asyncio.Semaphore(5)  # more trajectories than may run at once: one ends, the next one starts

        async def gated(number: int) -> list[Completion]:
            async with gate:
                return await with_tools(engine, number, delays)

        async with engine_of(deterministic=True, max_num_seqs=4) as engine:
            return await asyncio.gather(*map(gated, range(9)))

    first, *others = [asyncio.run(run(seed)) for seed in range(4)]
    assert all(other == first for other in others)  # equality of floats: every bit of every log-probability


@pytest.mark.parametrize("is_ended_first", [True, False])
def test_a_deterministic_engine_waits_for_the_trajectory_that_starts_when_another_ends(is_ended_first):
    model, batches = tiny_model(), []
    model.register_forward_pre_hook(lambda _, __, kwargs: batches.append(len(kwargs["input_ids"])), with_kwargs=True)

    async def run() -> None:
        gate = asyncio.Semaphore(2)
        tools = {name: asyncio.Event() for name in ("ends", "continues")}

        async def trajectory(name: str) -> None:
            async with gate:
                with engine.attend():
                    await engine.sample(encoded("So")[:1], Sampling(max_tokens=2))
                    if name in tools:
                        await tools[name].wait()
                    if name == "continues":
                        await engine.sample(encoded("So")[:1], Sampling(max_tokens=2))

        async with engine_of(model, deterministic=True) as engine:
            tasks = [asyncio.create_task(trajectory(name)) for name in ("ends", "continues", "starts late")]
            for name in sorted(tools, reverse=not is_ended_first, key="ends continues".index):
                await asyncio.sleep(0.01)
                tools[name].set()
            await asyncio.gather(*tasks)

    asyncio.run(run())
    # two tokens for the first two, then two for the one that continues together with the one that starts late
    assert batches == [2, 2, 2, 2]


def test_a_deterministic_engine_gives_a_batch_the_same_bits_after_other_batches():
    async def batch(engine: TransformersEngine, numbers: range) -> list[list[Completion]]:
        delays = random.Random(0)
        completions = await asyncio.gather(*(with_tools(engine, number, delays) for number in numbers))
        await asyncio.sleep(0.01)
        return completions

    async def run(*batches: range) -> list[list[Completion]]:
        async with engine_of(deterministic=True) as engine:
            return [await batch(engine, numbers) for numbers in batches][-1]

    assert asyncio.run(run(range(4, 8))) == asyncio.run(run(range(4), range(4, 8)))


def test_tools_of_some_trajectories_do_not_stall_the_others():
    async def run() -> int:
        engine = engine_of()
        release = asyncio.Event()

        async def slow() -> None:
            with engine.attend():
                first = await engine.sample(encoded("So"), Sampling(max_tokens=2))
                await release.wait()
                await engine.sample([*encoded("So"), *tokens(first)], Sampling(max_tokens=2))

        async def quick() -> None:
            with engine.attend():
                await engine.sample(encoded(TEXTS[0]), Sampling(max_tokens=30))

        async with engine:
            waiting = [asyncio.create_task(slow()) for _ in range(4)]
            await asyncio.gather(*(quick() for _ in range(4)))  # ends only if the engine steps while tools run
            steps_before = engine.stats.forwards
            release.set()
            await asyncio.gather(*waiting)
        assert not any(task.exception() for task in waiting)
        return steps_before

    # One prefill for both prompts would differ too much in length: one token needs none, since "So" is a single token
    # less its last. 30 decode steps serve all eight at first and the quick ones to the end.
    assert asyncio.run(run()) <= 30 + 2


def test_a_model_that_raises_gives_every_waiting_caller_an_engine_fault():
    model = tiny_model()
    calls = []

    def break_later(*_: object) -> None:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("out of memory")

    model.register_forward_pre_hook(break_later)

    async def run() -> list[BaseException | Completion]:
        async with engine_of(model, max_num_seqs=2) as engine:
            asks = [engine.sample(encoded(text), GREEDY) for text in TEXTS]
            faults = await asyncio.gather(*asks, return_exceptions=True)
            with pytest.raises(EngineFault, match="not running"):
                await engine.sample(encoded("So"), GREEDY)
            return faults

    faults = asyncio.run(run())
    assert [str(fault) for fault in faults] == ["the engine stopped: out of memory"] * 4
    assert all(isinstance(fault, EngineFault) and isinstance(fault.__cause__, RuntimeError) for fault in faults)


def test_weights_that_are_not_numbers_are_a_fault_and_not_a_sample():
    model = tiny_model()
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(EngineFault, match="not numbers"):
        sample_all(engine_of(model), [(encoded("So"), Sampling(max_tokens=3))])


def test_a_cancelled_caller_frees_its_row_for_the_next_one():
    async def run() -> tuple[int, Completion]:
        async with engine_of(max_num_seqs=1) as engine:
            endless = asyncio.create_task(engine.sample(encoded(TEXTS[0]), Sampling(max_tokens=400, temperature=0)))
            for _ in range(8):  # rounds of the event loop; the engine samples at most one token in each
                await asyncio.sleep(0)
            sampled_before = engine.stats.sampled_tokens
            endless.cancel()
            completion = await engine.sample(encoded(TEXTS[1]), GREEDY)
            return engine.stats.sampled_tokens - sampled_before, completion

    sampled, completion = asyncio.run(run())
    assert sampled == 24  # the only row was handed over, and the cancelled request got not one token more
    [alone] = sample_all(engine_of(), [(encoded(TEXTS[1]), GREEDY)])
    assert tokens(completion) == tokens(alone)


def test_a_cancelled_caller_does_not_hold_up_a_deterministic_engine():
    async def run() -> Completion:
        async with engine_of(deterministic=True) as engine:

            async def attend_only() -> None:
                with engine.attend():
                    await asyncio.Event().wait()

            idle = asyncio.create_task(attend_only())
            await asyncio.sleep(0)
            with engine.attend():
                asked = asyncio.create_task(engine.sample(encoded("So"), GREEDY))
                for _ in range(50):
                    await asyncio.sleep(0)
                assert engine.stats.forwards == 0  # one of two attending waits
                idle.cancel()
                return await asked

    assert len(asyncio.run(run()).span) == 24


def test_leaving_the_engine_tells_those_who_still_wait():
    async def run() -> BaseException | None:
        async with engine_of() as engine:
            asked = asyncio.create_task(engine.sample(encoded("So"), Sampling(max_tokens=400, temperature=0)))
            await asyncio.sleep(0)
        await asyncio.wait([asked])
        return asked.exception()

    assert str(asyncio.run(run())) == "the engine was closed"
