"""The client against a server that misbehaves: what is tried again, what never is; no fault becomes a result."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from hostile_server import (
    Behaviour,
    HostileServer,
    drips,
    floods,
    hangs,
    hostile,
    http,
    reply,
    resets,
    says,
    sends,
    until,
)

from thor_tir.execution import ExecutionResult, Status
from thor_tir.faults import SandboxLost, SandboxUnavailable, UsageError
from thor_tir.sandbox.batch import run_batch
from thor_tir.sandbox.fleet import FleetRules
from thor_tir.sandbox.protocol import Limits, Snippet
from thor_tir.sandbox.remote import RemoteSandbox, RemoteSandboxConfig

DEAD = "http://127.0.0.1:9"
"""Nothing listens on the discard port."""
FLEET = FleetRules(tolerance=100, ping_s=0.02, patience_s=30.0)
IMPATIENT = replace(FLEET, patience_s=0.05)
SMALL = Limits(timeout_s=0.1, output_bytes=1000)


def config(*urls: str, **changes: Any) -> RemoteSandboxConfig:
    """Short pauses between attempts, and patience with a slow test machine."""
    short: dict[str, Any] = {"fleet": FLEET, "backoff_s": 0.01, "connect_s": 5.0, "queue_s": 30.0, "limits": SMALL}
    return RemoteSandboxConfig(endpoints=urls, token=None, **(short | changes))


@asynccontextmanager
async def facing(*script: Behaviour, **changes: Any) -> AsyncIterator[tuple[RemoteSandbox, HostileServer]]:
    """A client of one server that follows a script."""
    async with hostile(*script) as server, RemoteSandbox(config(server.url, **changes)) as sandbox:
        yield sandbox, server


async def outcome(sandbox: RemoteSandbox) -> ExecutionResult | str:
    try:
        return await sandbox.run("print(6 * 7)")
    except SandboxUnavailable as fault:
        return str(fault)


def meet(*script: Behaviour, **changes: Any) -> tuple[ExecutionResult | str, int]:
    """The outcome of one program, or the fault's sentence, and how often the server was asked."""

    async def work() -> tuple[ExecutionResult | str, int]:
        async with facing(*script, **changes) as (sandbox, server):
            return await outcome(sandbox), len(server.asked)

    return asyncio.run(work())


NOT_JSON = b'{"status": "Success", "run_resu'
CUT_SHORT = http(b"x" * 50).replace(b"Content-Length: 50", b"Content-Length: 500")

FAULTS: dict[str, tuple[Behaviour, str]] = {
    "500": (says({"detail": "boom", "traceback": []}, 500), "boom"),
    "502": (says(b"<html>", 502), "HTTP 502"),
    "503": (says(b"", 503), "HTTP 503"),
    "504": (says(b"", 504), "HTTP 504"),
    "404": (says(b"", 404), "no sandbox at this address"),
    "401": (says(b"", 401), "THOR_SANDBOX_TOKEN"),
    "redirect": (says(b"", 307, {"Location": "http://127.0.0.1:9/run_code"}), "HTTP 307"),
    "garbage": (says(NOT_JSON), "JSONDecodeError"),
    "not HTTP": (sends(b"220 smtp.example ready\r\n\r\n"), "RemoteProtocolError"),
    "cut short": (sends(CUT_SHORT), "RemoteProtocolError"),
    "reset": (resets, "Error"),
    "no run_result": (says({"status": "Success", "message": ""}), "run_result"),
    "wrong type": (says(reply(stdout=[1])), "stdout is list"),
    "compressed": (says(b"\x1f\x8b\x08\x00garbage", 200, {"Content-Encoding": "gzip"}), "Error"),
    "SandboxError": (says(reply("SandboxError") | {"message": "no cgroup"}), "no cgroup"),
    "hanging": (hangs, "no answer within"),
    "dripping": (drips, "no answer within"),
}


SILENT = ("hanging", "dripping")


def patience(name: str, seconds: float) -> dict[str, float]:
    """Servers that never end an answer are given up after so long: the limit of 0.1 s, 5 s, and what remains."""
    return {"queue_s": seconds - 5.1} if name in SILENT else {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_service_that_runs_nothing_for_as_long_as_patience_lasts_is_lost_and_no_single_program(name: str) -> None:
    behaviour, words = FAULTS[name]

    async def work() -> None:
        async with facing(behaviour, fleet=IMPATIENT, **patience(name, 0.15)) as (sandbox, _):
            with pytest.raises(SandboxLost, match="no sandbox server can be used for") as told:
                await sandbox.run("print(6 * 7)")
            assert words in str(told.value)

    asyncio.run(work())


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


@pytest.mark.parametrize("name", FAULTS)
def test_a_service_that_recovers_costs_a_run_more_and_nothing_else(name: str) -> None:
    result, asked = meet(FAULTS[name][0], says(reply()), **patience(name, 0.6))
    assert isinstance(result, ExecutionResult)
    assert (result.status, result.stdout, result.level, result.runs) == (Status.OK, "42\n", "remote:unknown", 2)
    assert asked == 2


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (reply("Failed", return_code=1, stderr="boom"), Status.RUNTIME),
        (reply("Failed", return_code=137), Status.MEMORY),
        (reply("Failed", status="TimeLimitExceeded", return_code=None), Status.TIMEOUT),
        (reply(stdout="x" * 5000), Status.OUTPUT_LIMIT),
        (reply(stdout=None), Status.OK_NO_OUTPUT),
    ],
)
def test_what_the_program_did_wrong_is_a_result_and_never_asked_for_twice(told: object, status: Status) -> None:
    result, asked = meet(says(told), says(reply()))
    assert isinstance(result, ExecutionResult)
    assert (result.status, asked) == (status, 1)


@pytest.mark.parametrize("code", [400, 413, 422])
def test_a_refused_request_is_a_fault_at_once_and_repeats_what_the_server_said(code: int) -> None:
    told, asked = meet(says({"detail": "field required"}, code))
    assert isinstance(told, str)
    assert "refuses the request" in told
    assert "field required" in told
    assert asked == 1


def test_a_reply_without_end_is_dropped_once_it_is_longer_than_any_honest_one() -> None:
    async def work() -> None:
        async with facing(floods, retries=0) as (sandbox, server):
            told = await outcome(sandbox)
            assert isinstance(told, str)
            assert "a reply of more than 12648448 bytes" in told  # 12 * 1 MiB of streams as escapes, and 64 KiB
            assert server.flooded_bytes < 64 * 2**20  # what buffers on the way hold, not what a minute yields

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


def test_cancelling_a_run_closes_its_request() -> None:
    async def work() -> None:
        async with facing(hangs) as (sandbox, server):
            running = asyncio.create_task(sandbox.run("print(1)"))
            await until(lambda: server.hanging)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await until(lambda: not server.hanging)  # the server has seen the hang-up

    asyncio.run(work())


def test_closing_the_sandbox_ends_what_waits_for_it() -> None:
    async def work() -> None:
        fleet = FleetRules(concurrency=1)
        async with hostile(hangs) as server:
            sandbox = RemoteSandbox(config(server.url, fleet=fleet))
            async with sandbox:
                running = [asyncio.create_task(outcome(sandbox)) for _ in range(3)]
                await until(lambda: server.hanging)
            assert all(isinstance(told, str) for told in await asyncio.gather(*running))
            assert "closed" in str(await outcome(sandbox))

    asyncio.run(work())


def test_no_server_at_all_is_told_at_the_start_with_every_address() -> None:
    async def work() -> None:
        async with RemoteSandbox(config(DEAD, "http://127.0.0.1:1")):
            pass

    with pytest.raises(SandboxUnavailable, match=r"127\.0\.0\.1:9: ConnectError.*127\.0\.0\.1:1: ConnectError") as told:
        asyncio.run(work())
    assert "\n" not in str(told.value)


def test_a_web_server_that_is_no_sandbox_is_not_taken_for_one() -> None:
    async def work() -> None:
        async with hostile(says(reply())) as server:
            server.is_pinging = False
            with pytest.raises(SandboxUnavailable, match="HTTP 503 no"):
                await RemoteSandbox(config(server.url)).__aenter__()

    asyncio.run(work())


def test_the_level_is_unknown_unless_the_operator_or_the_server_tells_it() -> None:
    async def work() -> Sequence[str]:
        async with hostile(says(reply())) as silent, hostile(says(reply() | {"level": "full"}), level="full") as told:
            levels = []
            for url, declared in [(silent.url, "unknown"), (silent.url, "gvisor"), (told.url, "unknown")]:
                async with RemoteSandbox(config(url, level=declared)) as sandbox:
                    levels += [sandbox.level, (await sandbox.run("1")).level]
            return levels

    assert asyncio.run(work()) == [*["remote:unknown"] * 2, *["remote:gvisor"] * 2, *["remote:full"] * 2]


def test_the_request_is_the_official_one_with_our_two_extensions_and_the_token() -> None:
    async def work() -> tuple[Any, str]:
        async with hostile(says(reply())) as server:
            settings = RemoteSandboxConfig(endpoints=(server.url + "/",), token="s3cret", limits=SMALL)
            async with RemoteSandbox(settings) as sandbox:
                await sandbox.run("print(input())", stdin="7\n", seed=5)
            assert "s3cret" not in repr(settings)
            return server.asked[0], server.headers[0]

    asked, head = asyncio.run(work())
    official = {"code": "print(input())", "language": "python", "run_timeout": 0.1, "memory_limit_MB": 512}
    assert asked == official | {"stdin": "7\n", "seed": 5, "output_bytes": 1000}
    assert "authorization: bearer s3cret" in head.lower()


def test_a_lone_surrogate_is_the_programs_fault_and_is_not_sent() -> None:
    async def work() -> None:
        async with facing(says(b"", 422)) as (sandbox, server):
            result = await sandbox.run("print('\ud800')")
            assert (result.status, result.error, len(server.asked)) == (Status.SYNTAX, "UnicodeEncodeError", 0)

    asyncio.run(work())


def test_a_time_out_after_much_output_is_logged_as_suspicious(caplog: pytest.LogCaptureFixture) -> None:
    late = reply("Failed", status="TimeLimitExceeded", return_code=None, stdout="x" * 120_000)
    with caplog.at_level(logging.WARNING):
        result, _ = meet(says(late), limits=Limits(timeout_s=0.1))
    assert isinstance(result, ExecutionResult)
    assert result.status is Status.TIMEOUT
    assert "printed 120000 characters" in caplog.text


@pytest.mark.parametrize(
    ("urls", "words"),
    [
        ((), "at least one endpoint"),
        (("10.0.0.5:8080",), "no plain http"),
        (("ftp://host",), "no plain http"),
        (("http://user:word@host",), "no plain http"),
        (("http://host:port",), "no plain http"),
        (("http://[::1",), "no plain http"),
        (("http://a\n",), "no plain http"),
        (("http://a", "http://a"), "named twice"),
    ],
)
def test_endpoints_that_cannot_be_meant_are_the_users_mistake(urls: tuple[str, ...], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        RemoteSandboxConfig(endpoints=urls)


def test_a_token_that_cannot_stand_in_a_header_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="THOR_SANDBOX_TOKEN"):
        RemoteSandboxConfig(endpoints=("http://a",), token="wört\n")


def test_a_run_that_names_endpoints_runs_its_programs_there() -> None:
    from thor_tir.recipes.settings import Machinery
    from thor_tir.recipes.stages import bench

    async def work() -> dict[str, Any]:
        async with hostile(says(reply())) as server:
            async with bench(Machinery(sandbox_endpoints=(server.url,), sandbox_timeout_s=3.0)) as tools:
                assert (await tools.sandbox.run("print(6 * 7)")).stdout == "42\n"
            return server.asked[0]

    assert asyncio.run(work())["run_timeout"] == 3.0
