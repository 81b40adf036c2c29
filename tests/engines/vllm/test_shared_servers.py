"""Servers that several engines ask at once, as processes of one command do, and servers that come and go."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fake_fleets import PROMPT, SAMPLING, fleet, moved, until
from fake_vllm import FakeVLLM
from thor_tir.engines.figures import united
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.opening import open_engine
from thor_tir.engines.vllm.place import Place
from thor_tir.engines.vllm.weights import ByPath
from thor_tir.errors import EngineFault, UsageError
from tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folder of each time that weights are written."""
    found: list[Path] = []
    plain = ByPath._write_weights
    monkeypatch.setattr(ByPath, "_write_weights", lambda files: (found.append(files.folder), plain(files))[1])
    return found


@asynccontextmanager
async def processes(servers: int, count: int = 2) -> AsyncIterator[tuple[list[VLLMEngine], list[Any], list[FakeVLLM]]]:
    """Engines with models of their own and one name of their weights, as the processes of a run have them."""
    async with AsyncExitStack() as stack:
        made = [FakeVLLM(tiny_model(seed=2), tiny_tokenizer()) for _ in range(servers)]
        for server in made:
            await stack.enter_async_context(server)
        models = [tiny_model(seed=1) for _ in range(count)]
        shares = [Place(rank=rank, size=count).share([server.address for server in made]) for rank in range(count)]
        engines = [
            VLLMEngine(model, tiny_tokenizer(), addresses=share, run="one", pauses_s=(0.0, 0.01))
            for model, share in zip(models, shares, strict=True)
        ]
        await asyncio.gather(*(stack.enter_async_context(engine) for engine in engines))
        yield engines, models, made


def test_processes_that_share_a_server_give_it_each_version_once_and_count_its_requests_once(writes) -> None:
    async def run() -> None:
        async with processes(servers=1) as (engines, models, (server,)):
            await asyncio.gather(*(e.update_weights(moved(m), 3) for e, m in zip(engines, models, strict=True)))
            assert server.label == "one:3"
            assert server.calls.count("/pause") == 2  # of versions 0 and 3
            assert len(writes) == 2
            asks = [engine.sample([*PROMPT, n], SAMPLING) for n in range(3) for engine in engines]
            answers = await asyncio.gather(*asks)
            assert {answer.policy_version for answer in answers} == {3}
            figures = united([engine.take_figures() for engine in engines])[server.address]
            assert (figures["requests"], figures["stale"], figures["losses"]) == (6, 0, 0)
            assert figures["sampled_tokens"] == sum(len(answer.span) for answer in answers)

    asyncio.run(run())


def test_processes_of_one_host_write_each_version_once_for_all_their_servers(writes) -> None:
    async def run() -> None:
        async with processes(servers=4) as (engines, models, servers):
            await asyncio.gather(*(e.update_weights(moved(m), 1) for e, m in zip(engines, models, strict=True)))
            assert {server.label for server in servers} == {"one:1"}
            assert len(writes) == 2
            (folder,) = set(writes)
            read = [b["kwargs"]["weights_path"] for s in servers for b in s.bodies if b.get("method") == "thor_reload"]
            assert read == [str(folder)] * 8
            assert folder.exists()
        assert not folder.exists()

    asyncio.run(run())


def test_a_process_that_finds_a_restarted_server_brings_it_the_weights_for_all() -> None:
    async def run() -> None:
        async with processes(servers=1) as (engines, models, (server,)):
            await asyncio.gather(*(e.update_weights(moved(m), 2) for e, m in zip(engines, models, strict=True)))
            await server.kill()
            await server.start()
            answer = await engines[1].sample(PROMPT, SAMPLING)
            assert (answer.policy_version, server.label) == (2, "one:2")
            assert (await engines[0].sample(PROMPT, SAMPLING)).span == answer.span

    asyncio.run(run())


def test_a_process_that_is_behind_reads_no_newer_files_under_an_older_label() -> None:
    async def run() -> None:
        async with processes(servers=2) as (engines, models, (_, other)):
            await engines[0].update_weights(moved(models[0]), 1)
            await other.kill()
            await other.start()
            before = len(other.calls)
            asked = asyncio.create_task(engines[1].sample(PROMPT, SAMPLING))
            await until(lambda: other.calls[before:].count("/weight_info") >= 4)
            assert (other.label, other.is_paused) == ("default", False)  # the files hold version 1, and it version 0
            await engines[1].update_weights(moved(models[1]), 1)
            assert (await asked).policy_version == 1
            assert other.label == "one:1"

    asyncio.run(run())


def test_commands_that_sample_from_equal_weights_share_a_server_and_others_do_not_mistake_it_for_theirs() -> None:
    async def run() -> None:
        async with FakeVLLM(tiny_model(seed=2), tiny_tokenizer()) as server:
            options = EngineOptions(name="vllm", address=(server.address,))
            parts = [open_engine(tiny_model(seed=1), tiny_tokenizer(), options) for _ in range(2)]
            other = open_engine(tiny_model(seed=3), tiny_tokenizer(), options)
            trained = open_engine(tiny_model(seed=1), tiny_tokenizer(), options, trains=True)
            assert parts[0]._run == parts[1]._run
            assert len({parts[0]._run, other._run, trained._run}) == 3
            async with parts[0] as first, parts[1] as second:
                one, two = await asyncio.gather(first.sample(PROMPT, SAMPLING), second.sample(PROMPT, SAMPLING))
                assert one.span == two.span
                assert server.calls.count("/pause") == 1
            for unused in (other, trained):
                await unused.__aexit__(None, None, None)

    asyncio.run(run())


def test_a_run_that_fights_with_another_for_a_server_ends_and_says_so(monkeypatch) -> None:
    monkeypatch.setattr("thor_tir.engines.vllm.fleet.MOST_TAKEN", 3)

    async def run() -> None:
        async with fleet(1) as (engine, _, (server,)):
            for _ in range(2):
                server.label = "another:0"
                await engine.sample(PROMPT, SAMPLING)
            server.label = "another:0"
            with pytest.raises(EngineFault, match="held other weights 3 times: another run puts its own there"):
                await engine.sample(PROMPT, SAMPLING)

    asyncio.run(run())


def test_servers_are_dealt_out_and_shared_only_where_there_are_too_few() -> None:
    def shares(addresses: list[str], size: int) -> list[list[str]]:
        return [Place(rank=rank, size=size).share(addresses) for rank in range(size)]

    assert shares(["a", "b", "c"], 2) == [["a", "c"], ["b"]]
    assert shares(["a", "b"], 4) == [["a"], ["b"], ["a"], ["b"]]
    assert shares([], 2) == [[], []]


def test_processes_that_share_a_server_bring_weights_by_path(monkeypatch) -> None:
    monkeypatch.setattr(Place, "found", classmethod(lambda cls: Place(rank=1, size=2)))
    options = EngineOptions(name="vllm", address=("http://127.0.0.1:1",), weights="nccl")
    with pytest.raises(UsageError, match="processes that share a server bring weights by path"):
        open_engine(tiny_model(), tiny_tokenizer(), options)


def test_the_critic_has_servers_of_its_own() -> None:
    options = EngineOptions(name="vllm", address=("http://a:1",), critic_address=("http://b:1",))
    assert options.of_critic.address == ("http://b:1",)
    with pytest.raises(ValueError, match=r"need --engine\.name vllm"):
        EngineOptions(critic_address=("http://b:1",))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thor_tir.engines.vllm.fleet.WATCH_S", 0.01)


@asynccontextmanager
async def named(count: int, said: list[str]) -> AsyncIterator[tuple[VLLMEngine, Any, list[FakeVLLM], list[FakeVLLM]]]:
    """An engine, its model, its servers, and the list of those that the file of addresses names from now on."""
    servers = [FakeVLLM(tiny_model(seed=2), tiny_tokenizer()) for _ in range(count)]
    present = list(servers)
    options = {"say": said.append, "anew": lambda: [server.address for server in present]}
    async with fleet(servers=servers, **options) as (engine, model, _):
        yield engine, model, servers, present


def test_a_server_that_is_named_later_gets_the_weights_in_force_and_then_requests(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        newcomer = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with newcomer, named(1, said) as (engine, model, (server,), present):
            await engine.update_weights(moved(model), 7)
            present.append(newcomer)
            await until(lambda: any("has come, with the weights in force" in line for line in said))
            assert newcomer.label.endswith(":7")
            assert newcomer.calls.index("/collective_rpc") < newcomer.calls.index("/v1/completions")  # the probe
            assert not newcomer.seen_prompts
            answers = await asyncio.gather(*(engine.sample([*PROMPT, n], SAMPLING) for n in range(4)))
            assert newcomer.seen_prompts
            assert server.seen_prompts
            assert {answer.policy_version for answer in answers} == {7}
            await engine.update_weights(moved(model), 8)
            assert newcomer.label.endswith(":8")

    asyncio.run(run())


def test_a_server_that_is_named_no_more_answers_what_it_was_asked_and_nothing_else(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        async with named(2, said) as (engine, model, (leaver, other), present):
            leaver.token_s = 0.005
            asked = [asyncio.create_task(engine.sample([*PROMPT, n], SAMPLING)) for n in range(4)]
            await until(lambda: leaver.in_flight == 2)
            present.remove(leaver)
            await until(lambda: any("is named no more" in line for line in said))
            await asyncio.gather(*asked)
            assert len(leaver.seen_prompts) == 2
            await engine.update_weights(moved(model), 1)
            assert leaver.label.endswith(":0")
            await asyncio.gather(*(engine.sample([*PROMPT, 9, n], SAMPLING) for n in range(3)))
            assert len(leaver.seen_prompts) == 2
            figures = engine.take_figures()
            assert [figures[each.address]["requests"] for each in (leaver, other)] == [2, 5]
            assert list(engine.take_figures()) == [other.address]
            present.append(leaver)  # and it may come again
            await until(lambda: leaver.label.endswith(":1"))

    asyncio.run(run())


def test_a_server_that_left_and_hangs_owes_nothing(quick, monkeypatch) -> None:
    monkeypatch.setattr("thor_tir.engines.vllm.fleet.SIGN_OF_LIFE_S", 0.05)

    async def run() -> None:
        async with named(2, []) as (engine, _, (leaver, other), present):
            leaver.token_s = other.token_s = 0.005
            asked = [asyncio.create_task(engine.sample([*PROMPT, n], SAMPLING)) for n in range(2)]
            await until(lambda: leaver.in_flight == 1)
            present.remove(leaver)
            leaver.resumed.clear()
            await until(lambda: not other.in_flight)
            leaver.is_dead = True
            await asyncio.gather(*asked)
            assert len(other.seen_prompts) == 2

    asyncio.run(run())


def test_a_newcomer_that_does_not_hold_the_weights_is_given_up_and_the_run_goes_on(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        newcomer = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        newcomer.keeps_weights = True
        async with newcomer, named(1, said) as (engine, _, _servers, present):
            present.append(newcomer)
            await until(lambda: any("is given up: an engine does not hold" in line for line in said))
            await engine.sample(PROMPT, SAMPLING)
            assert not newcomer.seen_prompts

    asyncio.run(run())


def test_a_newcomer_with_a_shorter_context_is_given_up_and_cuts_no_answer_short(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        newcomer = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        newcomer.max_model_len = 128
        async with newcomer, named(1, said) as (engine, _, _servers, present):
            present.append(newcomer)
            await until(lambda: any("has a context of 128 tokens, and this run samples with 256" in x for x in said))
            assert engine.max_model_len == 256
            await engine.sample(PROMPT, SAMPLING)
            assert not newcomer.seen_prompts

    asyncio.run(run())


def test_a_server_of_another_precision_is_refused_in_words_that_say_how_to_start_it() -> None:
    async def run() -> None:
        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        server.precision = "torch.bfloat16"
        async with fleet(servers=[server]):
            pass

    with pytest.raises(UsageError, match=r"bfloat16, and this run in float32: start it with --dtype float32"):
        asyncio.run(run())


def test_a_slip_in_the_file_of_addresses_is_said_once_and_the_servers_stay(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        looks, slip = [0], [""]

        def look() -> list[str]:
            looks[0] += 1
            if slip[0]:
                raise UsageError(slip[0])
            return [server.address]

        server = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with fleet(servers=[server], say=said.append, anew=look) as (engine, _, _servers):
            for slip[0] in ("htp://a is no address", "", "htp://a is no address"):
                before = looks[0]
                await until(lambda before=before: looks[0] > before + 2)
            await engine.sample(PROMPT, SAMPLING)
        assert said == ["the servers stay those that were named: htp://a is no address"] * 2

    asyncio.run(run())


def test_a_server_that_leaves_while_it_is_opened_ends_nothing(quick) -> None:
    async def run() -> None:
        said: list[str] = []
        newcomer = FakeVLLM(tiny_model(seed=2), tiny_tokenizer())
        async with newcomer, named(1, said) as (engine, _, (server,), present):
            await server.kill()
            asked = asyncio.create_task(engine.sample(PROMPT, SAMPLING))
            await until(lambda: said)
            await server.start()
            present[:] = [newcomer]
            await asked
            await engine.sample(PROMPT, SAMPLING)

    asyncio.run(run())


def test_a_fault_of_looking_after_servers_ends_the_run_and_not_in_silence(quick, monkeypatch) -> None:
    async def run() -> None:
        async with named(1, []) as (engine, _, _servers, _present):
            monkeypatch.setattr(engine._fleet, "_look", lambda: 1 / 0)
            await until(lambda: engine._fleet._fault is not None)
            with pytest.raises(EngineFault, match="looking after the engines failed: ZeroDivisionError"):
                await engine.sample(PROMPT, SAMPLING)

    asyncio.run(run())
