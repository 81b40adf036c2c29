"""Several servers as one engine: what they are given, what is asked of whom, and what happens when one is killed."""

import asyncio

import pytest
import torch

from fake_fleets import PROMPT, SAMPLING, fleet, moved, until
from fake_vllm import FakeVLLM
from thor_tir.engines.protocol import Sampling
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.errors import EngineFault, UsageError
from tiny_models import tiny_model, tiny_tokenizer


def first_figures(engine: VLLMEngine) -> dict:
    return next(iter(engine.take_figures().values()))


def test_every_server_gets_the_weights_before_it_is_asked_and_again_at_every_update() -> None:
    async def run() -> None:
        async with fleet(2) as (engine, model, servers):
            for server in servers:
                assert not server.seen_prompts
                assert server.calls.index("/collective_rpc") < server.calls.index("/v1/completions")
            before = await engine.sample(PROMPT, SAMPLING)
            await engine.update_weights(moved(model), 3)
            answers = await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(4)))
            assert {answer.policy_version for answer in answers} == {3}
            assert all(server.label.endswith(":3") and not server.is_paused for server in servers)
            assert before.policy_version == 0
            assert (await engine.sample(PROMPT, SAMPLING)).span.logprobs != before.span.logprobs

    asyncio.run(run())


def test_a_group_goes_to_one_server_and_its_cached_prefixes_are_counted() -> None:
    async def run() -> None:
        async with fleet(2) as (engine, _, servers):
            prompts = [[*PROMPT, number] for number in range(4)]
            await asyncio.gather(*(engine.sample(p, SAMPLING) for p in prompts for _ in range(3)))
            for prompt in prompts:
                assert sorted(server.seen_prompts.count(prompt) for server in servers) == [0, 3]
            assert sum(len(server.seen_prompts) for server in servers) == 12
            figures = engine.take_figures()
            assert [figures[server.address]["requests"] for server in servers] == [6, 6]
            # Of three members of a group the first finds nothing, the other two their whole prompt.
            assert [figures[server.address]["prefix_hit_rate"] for server in servers] == [pytest.approx(2 / 3)] * 2
            assert [figures[server.address]["sampled_tokens"] for server in servers] == [48, 48]
            assert engine.take_figures()[servers[0].address]["requests"] == 0

    asyncio.run(run())


def test_what_a_killed_server_owed_is_asked_of_the_others_with_the_same_seeds_and_counted() -> None:
    async def run() -> None:
        said: list[str] = []
        async with fleet(2, say=said.append) as (engine, _, (victim, _other)):
            asks = [([*PROMPT, n], Sampling(max_tokens=10, seed=n)) for n in range(6)]
            expected = await asyncio.gather(*(engine.sample(*ask) for ask in asks))
            victim.token_s = 0.01
            engine.take_figures()
            tasks = [asyncio.create_task(engine.sample(*ask)) for ask in asks]
            await until(lambda: victim.in_flight == 3)
            await victim.kill()
            found = await asyncio.gather(*tasks)
            assert [each.span.token_ids for each in found] == [each.span.token_ids for each in expected]
            lost, kept = engine.take_figures().values()
            assert (lost["resent"], lost["losses"], kept["requests"]) == (3, 1, 6)
            assert said[0].startswith("engine 0 at")
            assert "is lost" in said[0]

    asyncio.run(run())


def test_a_server_that_comes_back_gets_the_weights_in_force_first_and_then_requests_again() -> None:
    async def run() -> None:
        said: list[str] = []
        async with fleet(2, say=said.append) as (engine, model, (victim, other)):
            await victim.kill()
            await engine.update_weights(moved(model), 7)  # finds it gone, and renews the other one
            assert other.label.endswith(":7")
            victim.calls.clear()
            await victim.start()
            await until(lambda: any("is back, with the weights in force" in line for line in said))
            assert victim.label.endswith(":7")
            assert victim.calls.index("/collective_rpc") < victim.calls.index("/v1/completions")  # the probe
            assert not victim.seen_prompts
            answers = await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(4)))
            assert victim.seen_prompts
            assert {answer.policy_version for answer in answers} == {7}

    asyncio.run(run())


def test_a_server_that_comes_back_at_another_address_is_found_there_with_the_weights_in_force() -> None:
    async def run() -> None:
        said: list[str] = []
        servers = [FakeVLLM(tiny_model(seed=2), tiny_tokenizer()) for _ in range(3)]
        async with servers[2] as elsewhere:
            now = [1, 0]  # places in `servers`
            options = {"say": said.append, "anew": lambda: [servers[n].address for n in now]}
            async with fleet(servers=[servers[1], servers[0]], **options) as (engine, model, (victim, _)):
                await victim.kill()
                now[0] = 2
                await engine.update_weights(moved(model), 7)
                await until(lambda: any("is back, with the weights in force" in line for line in said))
                assert f"engine 0 at {elsewhere.address} is back" in said[-1]
                assert elsewhere.label.endswith(":7")
                await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(4)))
                assert elsewhere.seen_prompts

    asyncio.run(run())


def test_a_server_that_comes_back_while_the_model_is_trained_in_place_gets_the_weights_of_its_last_update() -> None:
    async def run() -> None:
        said: list[str] = []
        async with fleet(1, say=said.append) as (engine, model, (server,)):
            expected = await engine.sample(PROMPT, SAMPLING)
            await engine.rest()
            with torch.no_grad():
                for weight in model.parameters():
                    weight.mul_(1.3)
            await server.kill()
            await server.start()
            answer = await engine.sample(PROMPT, SAMPLING)
            assert answer.span == expected.span
            assert answer.policy_version == 0
            await engine.update_weights(model.named_parameters(), 1)
            assert (await engine.sample(PROMPT, SAMPLING)).span.logprobs != expected.span.logprobs

    asyncio.run(run())


def test_an_answer_of_a_server_whose_engine_is_dead_is_a_loss_and_no_fault_of_the_request() -> None:
    async def run() -> None:
        async with fleet(2) as (engine, _, servers):
            servers[0].is_dead = True
            answers = await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(4)))
            assert len(answers) == 4
            assert first_figures(engine)["losses"] == 1
            servers[0].is_dead = False

    asyncio.run(run())


def test_a_server_that_was_started_again_unseen_is_found_out_by_its_first_answer() -> None:
    async def run() -> None:
        async with fleet(1) as (engine, _, (server,)):
            expected = await engine.sample(PROMPT, SAMPLING)
            engine.take_figures()
            await server.kill()
            await server.start()  # with the weights that it was made with
            found = await engine.sample(PROMPT, SAMPLING)
            assert found.span == expected.span
            figures = first_figures(engine)
            assert figures["stale"] + figures["resent"] == 1
            assert figures["losses"] == 1

    asyncio.run(run())


@pytest.mark.parametrize("is_open", [True, False], ids=["ids", "completions"])
def test_other_weights_behind_our_back_are_found_out_on_both_routes(is_open: bool) -> None:
    async def run() -> None:
        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer(), is_open=is_open)
        async with fleet(servers=[server]) as (engine, _, _):
            server.label = "another run:0"
            answer = await engine.sample(PROMPT, SAMPLING)
            assert answer.policy_version == 0
            assert first_figures(engine)["stale"] == 1
            assert not server.label.startswith("another run")

    asyncio.run(run())


def test_weights_that_change_on_the_way_leave_a_version_for_each_token() -> None:
    async def run() -> None:
        async with fleet(1) as (engine, model, (server,)):
            server.token_s = 0.001
            asked = asyncio.create_task(engine.sample(PROMPT, Sampling(max_tokens=40, seed=1)))
            await until(lambda: server.in_flight == 1)
            await engine.update_weights(moved(model), 4)
            answer = await asked
            assert answer.versions is not None
            assert set(answer.versions) == {0, 4}
            assert answer.versions == tuple(sorted(answer.versions))
            assert len(answer.versions) == len(answer.span)
            assert answer.policy_version == 4
            assert (await engine.sample(PROMPT, SAMPLING)).versions is None

    asyncio.run(run())


def test_a_route_that_says_no_versions_takes_weights_only_while_nothing_is_asked() -> None:
    async def run() -> None:
        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer(), is_open=False)
        async with fleet(servers=[server]) as (engine, model, _):
            asked = asyncio.create_task(engine.sample(PROMPT, Sampling(max_tokens=40, seed=1)))
            await until(lambda: server.in_flight == 1)
            with pytest.raises(ValueError, match="1 requests are active"):
                await engine.update_weights(moved(model), 4)
            await asked
            await engine.update_weights(moved(model), 4)
            assert (await engine.sample(PROMPT, SAMPLING)).policy_version == 4

    asyncio.run(run())


def test_a_server_that_does_not_hold_the_weights_ends_the_run_and_the_weight_is_named() -> None:
    async def run() -> None:
        async with fleet(2) as (engine, model, servers):
            servers[1].keeps_weights = True
            norm = next(name for name, _ in model.named_parameters() if "layernorm" in name)
            other = [(name, w.detach() + 0.5 if name == norm else w.detach()) for name, w in model.named_parameters()]
            with pytest.raises(EngineFault, match=f"log-probabilities of engine 1 at.*{norm}"):
                await engine.update_weights(other, 2)
            with pytest.raises(EngineFault, match="does not hold the trained weights"):
                await engine.sample(PROMPT, SAMPLING)

    asyncio.run(run())


def test_servers_that_hold_other_bits_than_each_other_end_the_run_though_the_probe_saw_nothing() -> None:
    async def run() -> None:
        async with fleet(2) as (engine, model, servers):
            plain = servers[1].load

            def rounded(weights: dict) -> None:
                plain({name: weight * (1 + 1e-6) if "norm" in name else weight for name, weight in weights.items()})

            servers[1].load = rounded
            with pytest.raises(EngineFault, match=r"engine 1 at .* hold other weights: the first is tp0:.*norm"):
                await engine.update_weights(moved(model), 2)

    asyncio.run(run())


def test_a_server_that_hangs_while_it_takes_weights_holds_up_nobody_for_ever(monkeypatch) -> None:
    async def run() -> None:
        async with fleet(2) as (engine, model, (stuck, _)):
            stuck.loading.clear()
            monkeypatch.setattr("thor_tir.engines.vllm.fleet.RENEW_S", 0.3)
            await engine.update_weights(moved(model), 5)
            answers = await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(3)))
            assert {answer.policy_version for answer in answers} == {5}
            assert first_figures(engine)["losses"] == 1
            stuck.loading.set()
            monkeypatch.setattr("thor_tir.engines.vllm.fleet.RENEW_S", 60.0)
            await until(lambda: stuck.label.endswith(":5") and not stuck.is_paused)

    asyncio.run(run())


def test_servers_that_share_the_device_of_training_sleep_until_the_next_weights() -> None:
    async def run() -> None:
        async with fleet(2, rests=True) as (engine, model, servers):
            await engine.rest()
            assert all(server.is_sleeping for server in servers)
            await engine.update_weights(moved(model), 1)
            assert not any(server.is_sleeping for server in servers)
            await engine.sample(PROMPT, SAMPLING)
        async with fleet(1) as (engine, _, (server,)):
            await engine.rest()
            assert not server.is_sleeping

    asyncio.run(run())


def test_servers_without_administrative_routes_and_addresses_that_answer_nothing_are_refused_in_one_sentence() -> None:
    async def run() -> None:
        closed = FakeVLLM(tiny_model(seed=2), tiny_tokenizer(), is_administrable=False)
        with pytest.raises(UsageError, match="its administrative routes are closed"):
            async with fleet(servers=[closed]):
                pass
        gone = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with gone:
            pass
        with pytest.raises(EngineFault, match=f"nothing answers at http://127.0.0.1:{gone.port}"):
            async with VLLMEngine(tiny_model(), tiny_tokenizer(), addresses=[gone.address]):
                pass

    asyncio.run(run())


def test_two_models_of_one_command_do_not_share_a_server() -> None:
    async def run() -> None:
        async with fleet(1) as (_, _, (server,)):
            with pytest.raises(UsageError, match="holds one model, and this command samples from two"):
                async with VLLMEngine(tiny_model(), tiny_tokenizer(), addresses=[server.address]):
                    pass

    asyncio.run(run())


def test_an_engine_whose_servers_are_all_gone_waits_no_longer_than_its_patience() -> None:
    async def run() -> None:
        async with fleet(1) as (engine, _, (server,)):
            engine._fleet._patience_s = 0.05
            await server.kill()
            with pytest.raises(EngineFault, match="no engine answered"):
                await engine.sample(PROMPT, SAMPLING)

    asyncio.run(run())


def test_a_request_that_is_cancelled_is_aborted_on_its_server() -> None:
    async def run() -> None:
        async with fleet(1) as (engine, _, (server,)):
            server.token_s = 0.001
            asked = asyncio.create_task(engine.sample(PROMPT, Sampling(max_tokens=200, seed=1)))
            await until(lambda: server.in_flight == 1)
            asked.cancel()
            await until(lambda: server.in_flight == 0)

    asyncio.run(run())


def test_a_connection_that_a_server_ended_while_it_was_idle_is_no_loss_of_the_server() -> None:
    async def run() -> None:
        async with fleet(1) as (engine, _, (server,)):
            expected = await engine.sample(PROMPT, SAMPLING)
            engine.take_figures()
            for connection in server._runner.server.connections:
                connection.transport.close()  # the client, which has not looked since, takes it for open
            assert (await engine.sample(PROMPT, SAMPLING)).span == expected.span
            assert first_figures(engine)["losses"] == 0

    asyncio.run(run())
