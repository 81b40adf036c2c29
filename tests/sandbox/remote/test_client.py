"""The client against a server that misbehaves: what is tried again, what never is; no fault becomes a result."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from hostile_server import Behaviour, drips, floods, hangs, hostile, http, reply, resets, says, sends, until
from remote_client import DEAD, IMPATIENT, SMALL, config, facing, meet, outcome
from thor_tir.errors import SandboxLost, SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.protocol import Limits
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sandbox.remote.load_balancer import FleetRules

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
    "not HTTP": (sends(b"220 smtp.example ready\r\n\r\n"), "ClientResponseError"),
    "cut short": (sends(CUT_SHORT), "ClientPayloadError"),
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

    with pytest.raises(
        SandboxUnavailable, match=r"127\.0\.0\.1:9: ClientConnectorError.*127\.0\.0\.1:1: ClientConnectorError"
    ) as told:
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
    from thor_tir.app.config import ResourceConfig, SandboxOptions
    from thor_tir.app.runtime import open_runtime

    async def work() -> dict[str, Any]:
        async with hostile(says(reply())) as server:
            async with open_runtime(
                ResourceConfig(sandbox=SandboxOptions(endpoints=(server.url,), timeout_s=3.0))
            ) as tools:
                assert (await tools.sandbox.run("print(6 * 7)")).stdout == "42\n"
            return server.asked[0]

    assert asyncio.run(work())["run_timeout"] == 3.0
