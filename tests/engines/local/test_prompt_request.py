"""Work that has begun before a task is made of it."""

import asyncio

import pytest

from endpoint_server import completion, says, serving
from thor_tir.engines.local.prompt_request import begun
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy
from thor_tir.engines.openai_api.text_codec import TextTokenizer
from thor_tir.engines.protocol import Sampling


def test_what_needs_no_waiting_is_done_before_anybody_awaits_it():
    done: list[str] = []

    async def work() -> None:
        done.append("all")

    async def check() -> None:
        rest = begun(work())
        assert done == ["all"]
        await asyncio.create_task(rest)

    asyncio.run(check())
    assert done == ["all"]


def test_what_waits_goes_on_from_there_once():
    done: list[str] = []

    async def work(gate: asyncio.Future[str]) -> None:
        done.append("first")
        done.append(await gate)
        await asyncio.sleep(0)
        done.append("last")

    async def check() -> None:
        gate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(begun(work(gate)))
        await asyncio.sleep(0)
        assert done == ["first"]
        gate.set_result("second")
        await task

    asyncio.run(check())
    assert done == ["first", "second", "last"]


def test_an_error_is_met_where_the_rest_is_awaited():
    async def work() -> None:
        raise OSError("gone")

    async def check() -> None:
        rest = begun(work())
        with pytest.raises(OSError, match="gone"):
            await asyncio.create_task(rest)

    asyncio.run(check())


def test_work_that_is_cancelled_while_it_waits_cleans_up():
    done: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            done.append("cleaned")

    async def check() -> None:
        task = asyncio.create_task(begun(work()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(check())
    assert done == ["cleaned"]


def test_a_prompt_that_no_buffer_holds_arrives_whole():
    long = "word " * 1_000_000

    async def work() -> str:
        async with (
            serving(usual=says(completion("four", stop_reason=None))) as server,
            EndpointPolicy(server.address, config=EndpointConfig()) as policy,
        ):
            ids = TextTokenizer()(long)["input_ids"]
            await policy.sample(ids, Sampling(max_tokens=5))
            return str(server.asked[-1].body)

    assert long.strip() in asyncio.run(work())
