"""Several servers, or one that dies: which of them gets a program, which program is given up, when a run stops."""

import asyncio
from dataclasses import replace

import pytest

from hostile_server import HostileServer, hostile, reply, resets, says, until
from remote_client import DEAD, FLEET, IMPATIENT, config, facing, meet, outcome
from thor_tir.errors import SandboxLost, SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import run_batch
from thor_tir.sandbox.protocol import Snippet
from thor_tir.sandbox.remote.client import RemoteSandbox
from thor_tir.sandbox.remote.load_balancer import FleetRules


async def poisoned(server: HostileServer, writer: asyncio.StreamWriter) -> None:
    """Break down over one program and run all others."""
    is_poison = server.asked[-1]["code"] == "poison"
    await says(b"", 500)(server, writer) if is_poison else await says(reply())(server, writer)


def test_a_program_that_fails_three_times_while_others_are_run_is_given_up() -> None:
    async def work() -> None:
        async with facing(poisoned) as (sandbox, server):
            bad = asyncio.create_task(sandbox.run("poison"))
            others = 0
            while not bad.done():
                assert (await sandbox.run("1")).status is Status.OK
                others += 1
            with pytest.raises(SandboxUnavailable, match=r"given up after \d+ attempts") as told:
                await bad
            assert not isinstance(told.value, SandboxLost)
            assert len(server.asked) - others >= 3

    asyncio.run(work())


def test_a_program_that_breaks_a_server_alone_is_given_up_since_the_server_runs_our_own_each_time() -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=1, ping_s=0.01, patience_s=30.0)
        async with facing(poisoned, fleet=fleet) as (sandbox, server):
            with pytest.raises(SandboxUnavailable, match="given up after 3 attempts"):
                await sandbox.run("poison")
            assert (len(server.asked), server.probes) == (3, 2)

    asyncio.run(work())


def test_a_server_that_answers_pings_and_runs_nothing_gets_no_programs(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=2, ping_s=0.01, patience_s=0.3)
        async with facing(says(reply("SandboxError") | {"message": "no cgroup"}), fleet=fleet) as (sandbox, server):
            server.is_probed = False
            tasks = [asyncio.create_task(sandbox.run(str(i))) for i in range(2)]
            faults = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(fault) for fault in faults] == [SandboxLost] * 2
            assert server.probes > 1
            assert len(server.asked) == 2

    asyncio.run(work())
    assert caplog.text.count("the run waits up to 0 s, and nothing is lost") == 1  # at once, and then once a minute


def test_what_was_in_flight_when_the_only_server_died_is_run_when_it_is_back() -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=3, ping_s=0.01, patience_s=30.0)
        async with facing(*[resets] * 7, says(reply()), fleet=fleet) as (sandbox, server):
            server.is_pinging = False
            running = [asyncio.create_task(outcome(sandbox)) for _ in range(6)]
            await until(lambda: server.pings >= 3)  # one greeting, two in vain
            server.is_pinging = True
            results = await asyncio.gather(*running)
            assert [isinstance(result, ExecutionResult) for result in results] == [True] * 6

    asyncio.run(work())


def test_time_in_which_nothing_was_asked_is_no_silence_of_the_service() -> None:
    async def work() -> None:
        async with facing(resets, says(reply()), fleet=replace(FLEET, patience_s=0.2)) as (sandbox, server):
            given_up = asyncio.create_task(sandbox.run("1"))
            await until(lambda: server.asked)
            given_up.cancel()
            await asyncio.sleep(0.3)
            assert isinstance(await outcome(sandbox), ExecutionResult)

    asyncio.run(work())


def test_a_server_that_stays_busy_for_a_while_costs_no_program() -> None:
    busy = says(b"", 429, {"Retry-After": "0.02"})
    result, asked = meet(*[busy] * 5, says(reply()))
    assert isinstance(result, ExecutionResult)
    assert (result.runs, asked) == (1, 6)


def test_a_batch_ends_with_the_service() -> None:
    async def work() -> None:
        async with facing(resets, fleet=IMPATIENT) as (sandbox, _):
            with pytest.raises(SandboxLost):
                await run_batch(sandbox, [Snippet(code=str(i)) for i in range(100)])

    asyncio.run(work())


def test_a_busy_server_is_left_alone_for_as_long_as_it_asks() -> None:
    async def work() -> None:
        async with facing(says(b"", 429, {"Retry-After": "0.3"}), says(reply())) as (sandbox, server):
            clock = asyncio.get_running_loop().time
            started = clock()
            first = asyncio.create_task(sandbox.run("1"))
            await until(lambda: server.asked)
            await asyncio.gather(first, sandbox.run("2"))
            assert clock() - started >= 0.3  # a lower bound that no load can break
            assert len(server.asked) == 3

    asyncio.run(work())


def test_an_endpoint_that_keeps_failing_is_out_until_it_is_there_again() -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=2, ping_s=0.01, patience_s=0.05)
        async with facing(resets, resets, says(reply()), fleet=fleet) as (sandbox, server):
            server.is_pinging = False
            told = await outcome(sandbox)
            assert "no sandbox server can be used" in str(told)
            assert server.url in str(told)
            assert "thor sandbox serve" in str(told)
            assert len(server.asked) == 2  # the third attempt found the circuit open
            assert isinstance(await outcome(sandbox), str)
            assert len(server.asked) == 2  # and so did the next program
            server.is_pinging = True
            outcomes = [await outcome(sandbox)]
            while isinstance(outcomes[-1], str):
                outcomes.append(await outcome(sandbox))
            assert len(server.asked) == 3

    asyncio.run(work())


def test_a_program_waits_for_a_server_that_restarts_within_the_patience() -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=1, ping_s=0.01, patience_s=30.0)
        async with facing(says(b"", 503), says(reply()), fleet=fleet) as (sandbox, server):
            server.is_pinging = False
            running = asyncio.create_task(outcome(sandbox))
            await until(lambda: server.pings >= 4)  # one greeting, three in vain
            server.is_pinging = True
            result = await running
            assert isinstance(result, ExecutionResult)
            assert result.runs == 2

    asyncio.run(work())


def test_a_batch_over_two_endpoints_of_which_one_is_dead_is_answered_once_each_and_in_order() -> None:
    async def work() -> None:
        async with hostile(echoes) as server, RemoteSandbox(config(DEAD, server.url)) as sandbox:
            results = await run_batch(sandbox, [Snippet(code=str(i)) for i in range(100)])
            assert [result.stdout for result in results] == [f"{i}\n" for i in range(100)]
            assert len(server.asked) == 100

    asyncio.run(work())


def test_a_batch_over_a_healthy_and_a_failing_endpoint_never_shows_the_failures() -> None:
    async def work() -> None:
        fleet = FleetRules(tolerance=3, ping_s=0.01, patience_s=30.0)
        async with hostile(echoes) as good, hostile(resets) as bad:
            settings = config(bad.url, good.url, fleet=fleet, retries=4)
            async with RemoteSandbox(settings) as sandbox:
                results = await run_batch(sandbox, [Snippet(code=str(i)) for i in range(100)])
                assert [result.stdout for result in results] == [f"{i}\n" for i in range(100)]
                assert bad.asked  # it did get its share before it was out

    asyncio.run(work())


async def echoes(server: HostileServer, writer: asyncio.StreamWriter) -> None:
    """Answer with the program itself, after other requests had time to arrive."""
    code = server.asked[-1]["code"]
    await asyncio.sleep(0.005)
    await says(reply(stdout=f"{code}\n"))(server, writer)


def test_an_endpoint_never_has_more_programs_than_its_share() -> None:
    async def work() -> None:
        fleet = FleetRules(concurrency=3, tolerance=100)
        async with facing(echoes, fleet=fleet) as (sandbox, server):
            await run_batch(sandbox, [Snippet(code=str(i)) for i in range(20)])
            assert server.most_at_once == 3

    asyncio.run(work())
