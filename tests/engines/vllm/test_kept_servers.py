"""Servers of one stage that the next stage takes over, with its own weights."""

import asyncio
from typing import Any

import pytest

from fake_fleets import PROMPT, SAMPLING
from fake_vllm import FakeVLLM
from thor_tir.distributed import free_port
from thor_tir.engines.loading import keeping_servers
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm import engine
from thor_tir.engines.vllm.connection import Connection
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.server import VLLMConfig
from tiny_models import tiny_model, tiny_tokenizer

OPTIONS = EngineOptions(name="vllm")


class Started:
    """A server that an engine starts by itself, which is a fake in this process."""

    def __init__(self, model: str, config: VLLMConfig) -> None:
        self.model, self.config, self.num_starts, self.pid = model, config, 0, None
        self.fake = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        self.fake.port = free_port("127.0.0.1")
        self.is_alive = False

    def connection(self) -> Connection:
        return Connection(self.fake.address)

    async def start(self) -> None:
        await self.fake.start()
        self.num_starts += 1
        self.is_alive = True

    async def stop(self) -> None:
        await self.fake.kill()
        self.is_alive = False

    def remove(self) -> None:
        pass


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """The servers that engines made."""
    found: list[Started] = []

    def make(*args: Any) -> Started:
        found.append(Started(*args))
        return found[-1]

    monkeypatch.setattr(engine, "VLLMServer", make)
    return found


async def sampled(seed: int, **options: Any) -> Any:
    async with VLLMEngine(tiny_model(seed=seed), tiny_tokenizer(), VLLMConfig(), pauses_s=(0.0,), **options) as opened:
        return await opened.sample(PROMPT, SAMPLING)


def test_the_next_stage_takes_the_server_with_weights_of_its_own(made: list[Started]) -> None:
    async def run() -> None:
        async with keeping_servers(OPTIONS):
            first, second = await sampled(1), await sampled(3)
            assert len(made) == 1
            assert made[0].is_alive
            assert made[0].fake.calls.count("/pause") == 2
            assert first.span != second.span
        assert not made[0].is_alive

    asyncio.run(run())


def test_a_server_that_the_next_stage_cannot_take_ends_and_so_does_every_one_where_none_is_to_come(
    made: list[Started],
) -> None:
    async def run() -> None:
        async with keeping_servers(OPTIONS):
            await sampled(1)
            async with VLLMEngine(tiny_model(), tiny_tokenizer(), VLLMConfig(max_num_seqs=7), pauses_s=(0.0,)):
                assert [server.is_alive for server in made] == [False, True]
        await sampled(1)
        await sampled(1, devices=[("0",)])
        assert len(made) == 4
        assert not any(server.is_alive for server in made)

    asyncio.run(run())
