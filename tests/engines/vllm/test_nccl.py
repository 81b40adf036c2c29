"""Weights in vLLM's four phases: their order, what is sent, and a trainer that dies between two of them."""

import asyncio

import pytest

from fake_fleets import PROMPT, SAMPLING, FakeNCCL, fleet, moved, until
from fake_vllm import FakeVLLM
from thor_tir.engines.vllm.weights import OverNCCL
from thor_tir.errors import EngineFault
from tiny_models import tiny_model, tiny_tokenizer

PHASES = (
    "/pause",
    "/start_weight_update",
    "/update_weights",
    "/finish_weight_update",
    "/reset_prefix_cache",
    "/resume",
)


def test_the_phases_come_in_order_and_the_weights_arrive() -> None:
    async def run() -> None:
        model = tiny_model(seed=1)
        async with fleet(2, model=model, way=OverNCCL(model, FakeNCCL)) as (engine, _, servers):
            for server in servers:
                assert server.calls.count("/init_weight_transfer_engine") == 1
                server.calls.clear()
            await engine.update_weights(moved(model), 2)
            for server in servers:
                assert [call for call in server.calls if call in PHASES] == list(PHASES)
                assert server.label.endswith(":2")
                info = server.bodies[[*server.calls].index("/update_weights") - len(server.calls)]["update_info"]
                assert info["names"] == [name for name, _ in model.named_parameters()]
                assert set(info["dtype_names"]) == {"float32"}
            assert (await engine.sample(PROMPT, SAMPLING)).policy_version == 2

    asyncio.run(run())


def test_a_server_that_comes_back_while_the_model_is_trained_gets_weights_with_the_next_update() -> None:
    async def run() -> None:
        model = tiny_model(seed=1)
        async with fleet(2, model=model, way=OverNCCL(model, FakeNCCL)) as (engine, _, (victim, _other)):
            await engine.rest()
            await victim.kill()
            await engine._fleet.each(lambda replica: replica.post("/is_paused"))  # finds it gone
            await victim.start()
            await until(lambda: "/v1/models" in victim.calls)
            assert victim.label == "default"
            await engine.update_weights(moved(model), 1)
            await until(lambda: victim.label.endswith(":1") and not victim.is_paused)

    asyncio.run(run())


class Dying(FakeNCCL):
    """A trainer that is gone after the first two weights."""

    def send(self, tensors: list) -> None:
        super().send(tensors[:2])
        self.wire.put(None)
        raise ConnectionError("the trainer is gone")


def test_a_trainer_that_dies_between_start_and_finish_leaves_nothing_that_samples_from_half_of_the_weights() -> None:
    async def run() -> None:
        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with server:
            model = tiny_model(seed=1)
            with pytest.raises((ConnectionError, EngineFault)):
                async with fleet(servers=[server], model=model, way=OverNCCL(model, Dying)):
                    pass

    asyncio.run(run())


@pytest.mark.parametrize("is_receiving", [True, False], ids=["open-session", "closed-session"])
def test_a_server_that_was_left_paused_in_the_middle_is_recovered_by_the_next_trainer(is_receiving: bool) -> None:
    async def run() -> None:
        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with server:
            await server.pause({}, {})
            server.is_updating = is_receiving
            server.load({name: weight * 3 for name, weight in list(server.model.named_parameters())[:2]})
            asking = asyncio.create_task(_ask(server))
            for _ in range(20):
                await asyncio.sleep(0.001)
            assert not asking.done()
            assert server.label == "default"
            asking.cancel()
            model = tiny_model(seed=1)
            from thor_tir.engines.vllm.engine import VLLMEngine

            way = OverNCCL(model, FakeNCCL)
            async with VLLMEngine(model, tiny_tokenizer(), addresses=[server.address], way=way) as engine:
                assert not server.is_paused
                assert not server.is_updating
                assert (await engine.sample(PROMPT, SAMPLING)).policy_version == 0  # after a probe that agreed

    asyncio.run(run())


async def _ask(server: FakeVLLM) -> object:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        body = {"token_ids": PROMPT, "sampling_params": {"max_tokens": 1, "temperature": 0, "seed": 0, "stop": []}}
        body["sampling_params"]["stop_token_ids"] = []
        async with session.post(f"{server.address}/inference/v1/generate", json=body) as reply:
            return await reply.json()
