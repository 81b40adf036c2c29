"""The service: the official wire format, the door in front of it, and an orderly end."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from hostile_server import until
from sandbox_service import asks, command, serving, told, with_client
from thor_tir.errors import SandboxUnavailable, UsageError
from thor_tir.execution import ExecutionResult, Status
from thor_tir.sandbox.batch import run_batch
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits, Snippet
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sandbox.remote.sandboxfusion_json import RequestRules
from thor_tir.sandbox.remote.server import ServerConfig, serve
from thor_tir.web_service import GracefulServer
from told_sandbox import ToldSandbox, printed


class SlowSandbox:
    """Every program runs until it is let go; counts what started and what was cancelled."""

    level = "slow"

    def __init__(self) -> None:
        self.let_go = asyncio.Event()
        self.started = 0
        self.cancelled = 0
        self.seeds: list[int] = []

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        self.started += 1
        self.seeds.append(seed)
        try:
            await self.let_go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return printed(code)


class BrokenSandbox(ToldSandbox):
    """Its machine fails under every program but one."""

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        if code != "good":
            raise SandboxUnavailable("no workers left")
        return printed("good")


def test_a_reply_has_every_field_of_the_official_schema_and_our_two_extensions() -> None:
    async def work(client: httpx.AsyncClient, *_: object) -> None:
        answer = await client.post("/run_code", json=asks())
        run = {"status": "Finished", "execution_time": 0.0, "return_code": 0, "stdout": "1\n", "stderr": ""}
        body = answer.json()
        assert body.pop("thor")["status"] == "ok"
        official = {"status": "Success", "message": "", "compile_result": None, "run_result": run}
        assert body == official | {"executor_pod_name": None, "files": {}, "level": ""}
        assert answer.headers["x-thor-sandbox-level"] == "told"

    with_client(told, work)


def test_a_fault_of_the_machine_is_a_sandbox_error_and_never_a_failed_program() -> None:
    async def work(client: httpx.AsyncClient, *_: object) -> None:
        body = (await client.post("/run_code", json=asks("bad"))).json()
        assert (body["status"], body["message"], body["run_result"]) == ("SandboxError", "no workers left", None)

    with_client(BrokenSandbox, work)


def test_a_batch_is_answered_in_order_and_a_fault_stands_in_its_programs_place() -> None:
    async def work(client: httpx.AsyncClient, *_: object) -> None:
        snippets = [asks("good"), asks("bad"), asks("good")]
        results = (await client.post("/run_batch", json={"snippets": snippets})).json()["results"]
        assert [r["status"] for r in results] == ["Success", "SandboxError", "Success"]
        assert (await client.post("/run_batch", json={"snippets": []})).json() == {"results": []}

    with_client(BrokenSandbox, work)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/run_code", asks(language="cpp"), "language must be 'python'"),
        ("/run_code", asks(files={"a": "aGk="}), "files must be empty"),
        ("/run_code", {"language": "python"}, "code must be a string"),
        ("/run_code", [1], "must be a JSON object"),
        ("/run_batch", {"snippets": "print(1)"}, '{"snippets": [...]}'),
        ("/run_batch", {"snippets": [asks(), asks(run_timeout="1")]}, "snippets[1]: run_timeout must be a number"),
        ("/run_batch", {"snippets": [asks()] * 6}, "6 programs in one batch; this server takes at most 5"),
    ],
)
def test_a_malformed_request_is_a_422_that_names_the_fault_and_runs_nothing(path: str, body: Any, words: str) -> None:
    async def work(client: httpx.AsyncClient, _: object, sandbox: ToldSandbox) -> None:
        answer = await client.post(path, json=body)
        assert answer.status_code == 422
        assert words in answer.json()["detail"]
        assert sandbox.ran == []

    with_client(told, work, workers=2, queue=3)


def test_bodies_that_are_too_long_or_of_another_type_or_not_json_are_turned_away() -> None:
    async def work(client: httpx.AsyncClient, *_: object) -> None:
        json_type = {"content-type": "application/json"}
        assert (await client.post("/run_code", content=b"x" * 1001, headers=json_type)).status_code == 413
        assert (await client.post("/run_code", content=b"{", headers=json_type)).status_code == 422
        assert (
            await client.post("/run_code", content=b"{}", headers={"content-type": "text/plain"})
        ).status_code == 415
        assert (await client.get("/run_code")).status_code == 405

    with_client(told, work, body_bytes=1000)


def test_a_body_that_never_ends_is_given_up() -> None:
    async def main() -> bytes:
        async with serving(told(), body_s=0.05) as (url, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(b"POST /run_code HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: 100\r\n\r\n{")
            status = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return status

    assert asyncio.run(main()).startswith(b"HTTP/1.1 408 ")


def test_every_door_wants_the_token_and_a_wrong_one_runs_nothing() -> None:
    async def work(client: httpx.AsyncClient, _: object, sandbox: ToldSandbox) -> None:
        wrong = ["Bearer wrong", "s3cret", "Basic s3cret", "Bearer", "bearer", "Bearer S3CRET", "Bearers3cret"]
        for headers in ({}, *({"Authorization": value} for value in wrong)):
            for path in ("/v1/ping", "/health", "/metrics"):
                assert (await client.get(path, headers=headers)).status_code == 401
            assert (await client.post("/run_code", json=asks(), headers=headers)).status_code == 401
        assert sandbox.ran == []
        for scheme in ("Bearer", "bearer", "BEARER", "bEaReR"):
            answer = await client.get("/v1/ping", headers={"Authorization": f"{scheme} s3cret"})
            assert answer.status_code == 200, scheme
        good = {"Authorization": "Bearer s3cret"}
        assert (await client.get("/v1/ping", headers=good)).json() == "pong"
        assert (await client.post("/run_code", json=asks(), headers=good)).status_code == 200

    with_client(told, work, token="s3cret")


def test_listening_beyond_loopback_without_a_token_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="needs a token"):
        ServerConfig(host="0.0.0.0")
    assert ServerConfig(host="0.0.0.0", token="s3cret").token == "s3cret"
    assert "s3cret" not in repr(ServerConfig(token="s3cret"))


def test_a_full_queue_turns_programs_away_and_says_when_to_come_back() -> None:
    async def work(client: httpx.AsyncClient, server: GracefulServer, sandbox: SlowSandbox) -> None:
        waiting = [asyncio.create_task(client.post("/run_code", json=asks(seed=i))) for i in range(3)]
        await until(lambda: sandbox.started == 3)
        refused = await client.post("/run_code", json=asks())
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        shown = (await client.get("/metrics")).text
        assert "thor_sandbox_running 1.0" in shown  # one worker
        assert "thor_sandbox_queued 2.0" in shown
        sandbox.let_go.set()
        assert [(await task).status_code for task in waiting] == [200] * 3
        assert sorted(sandbox.seeds) == [0, 1, 2]
        shown = (await client.get("/metrics")).text
        assert 'thor_sandbox_programs_total{status="ok"} 3.0' in shown
        assert 'thor_sandbox_turned_away_total{code="429"} 1.0' in shown
        assert "thor_sandbox_program_seconds_count 3.0" in shown
        assert (await client.get("/health")).json()["in_flight"] == 0

    with_client(SlowSandbox, work, workers=1, queue=2)


def test_a_client_that_hangs_up_takes_its_program_with_it_and_frees_its_place() -> None:
    async def work(client: httpx.AsyncClient, server: GracefulServer, sandbox: SlowSandbox) -> None:
        running = asyncio.create_task(client.post("/run_code", json=asks()))
        await until(lambda: sandbox.started == 1)
        running.cancel()
        await until(lambda: sandbox.cancelled == 1)
        await until(lambda: server._service.in_flight == 0)

    with_client(SlowSandbox, work)


def test_a_server_that_ends_finishes_what_runs_and_refuses_what_is_new() -> None:
    async def work(client: httpx.AsyncClient, server: GracefulServer, sandbox: SlowSandbox) -> None:
        running = asyncio.create_task(client.post("/run_code", json=asks()))
        await until(lambda: sandbox.started == 1)
        server.handle_exit(signal.SIGTERM, None)
        assert (await client.post("/run_code", json=asks())).status_code == 503
        assert (await client.get("/v1/ping")).status_code == 503
        assert (await client.get("/health")).json()["is_draining"] is True
        sandbox.let_go.set()
        assert (await running).json()["status"] == "Success"

    with_client(SlowSandbox, work)


def test_the_end_does_not_wait_for_ever() -> None:
    async def main() -> SlowSandbox:
        sandbox = SlowSandbox()
        async with serving(sandbox, drain_s=0.05) as (url, server), httpx.AsyncClient(trust_env=False) as client:
            server.config.timeout_graceful_shutdown = 0  # seconds for cancelled requests to end
            running = asyncio.create_task(client.post(f"{url}/run_code", json=asks(), timeout=30))
            await until(lambda: sandbox.started == 1)
            server.handle_exit(signal.SIGTERM, None)
            await asyncio.gather(running, return_exceptions=True)
        return sandbox

    assert asyncio.run(main()).cancelled == 1


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = ServerConfig(port=taken.getsockname()[1])
        with pytest.raises(UsageError, match=r"cannot listen on 127\.0\.0\.1 port"):
            asyncio.run(serve(told(), config, lambda address: None))


@asynccontextmanager
async def near_and_far(**changes: Any) -> AsyncIterator[tuple[LocalSandbox, RemoteSandbox]]:
    """The sandbox of this machine, and the same one through a service and our client."""
    async with (
        LocalSandbox(LocalSandboxConfig(workers=1, modules=("json",), heavy_modules=())) as local,
        serving(local, **changes) as (url, _),
        RemoteSandbox(RemoteSandboxConfig(endpoints=(url,), token=None)) as remote,
    ):
        yield local, remote


def test_our_client_sees_through_the_service_what_the_sandbox_itself_says() -> None:
    async def main() -> None:
        programs = [
            "print(6 * 7)",
            "pass",
            "1 / 0",
            "f(",
            "raise SystemExit(3)",
            "while True: pass",
            "print('x' * 9000)",
        ]
        limits = Limits(timeout_s=1.0, output_bytes=2000)
        snippets = [Snippet(code=code, limits=limits) for code in programs]
        async with near_and_far() as (local, remote):
            near, far = await run_batch(local, snippets), await run_batch(remote, snippets)
            assert remote.level == f"remote:{local.level}"
        statuses = [Status.OK, Status.OK_NO_OUTPUT, Status.RUNTIME, Status.SYNTAX, Status.RUNTIME, Status.TIMEOUT]
        assert [result.status for result in far] == [*statuses, Status.OUTPUT_LIMIT]
        for here, there in zip(near, far, strict=True):
            assert (there.status, there.error, there.exit_code) == (here.status, here.error, here.exit_code)
            assert (there.stderr, there.is_truncated) == (here.stderr, here.is_truncated)
            assert there.level == f"remote:{here.level}"

    asyncio.run(main())


def test_a_wish_above_the_servers_maximum_is_lowered_to_it() -> None:
    async def main() -> Status:
        rules = RequestRules(most=Limits(timeout_s=0.2))
        async with near_and_far(rules=rules) as (_, remote):
            return (await remote.run("while True: pass", Limits(timeout_s=500.0))).status

    assert asyncio.run(main()) is Status.TIMEOUT


def test_the_official_client_works_unchanged() -> None:
    import sandbox_fusion as official

    def one(url: str, code: str) -> Any:
        return official.run_code(official.RunCodeRequest(code=code, language="python"), url, 1, 30)

    async def main() -> None:
        async with (
            LocalSandbox(LocalSandboxConfig(workers=1, modules=("json",), heavy_modules=())) as local,
            serving(local) as (url, _),
        ):
            fine = await asyncio.to_thread(one, url, "print(6 * 7)")
            assert (fine.status, fine.run_result.stdout) == (official.RunStatus.Success, "42\n")
            wrong = await asyncio.to_thread(one, url, "1 / 0")
            assert (wrong.status, wrong.run_result.return_code) == (official.RunStatus.Failed, 1)
            assert "ZeroDivisionError" in wrong.run_result.stderr
            loop = official.RunCodeRequest(code="while True: pass", language="python", run_timeout=0.3)
            late = await official.run_code_async(loop, url, 1)
            assert late.run_result.status is official.CommandRunStatus.TimeLimitExceeded
            mapping = official.SummaryMapping(Success="good", Failed="bad", RunTimeout="late")
            assert [official.summary_run_code_result(r, mapping) for r in (fine, wrong, late)] == [
                "good",
                "bad",
                "late",
            ]
            many = [[url, f"print({i} ** 2)"] for i in range(12)]
            answers = await asyncio.to_thread(official.run_concurrent, one, many, None, 6)
            assert [a.run_result.stdout for a in answers] == [f"{i * i}\n" for i in range(12)]

    asyncio.run(main())


def test_the_command_serves_until_sigterm_and_ends_with_status_0() -> None:
    with command(THOR_SANDBOX_TOKEN="s3cret") as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = line.removeprefix("sandbox at ").split()[0]
        headers = {"Authorization": "Bearer s3cret"}
        with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as client:
            assert client.post("/run_code", json=asks("print(6 * 7)")).json()["run_result"]["stdout"] == "42\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0
        assert server.stdout.read() == "sandbox ended\n"


def test_the_command_beyond_loopback_without_a_token_is_one_sentence_and_status_2() -> None:
    with command("--host", "0.0.0.0", THOR_SANDBOX_TOKEN="") as server:
        _, said = server.communicate(timeout=60)
        assert server.returncode == 2
        assert said.startswith("thor: listening on 0.0.0.0")
        assert said.count("\n") == 1
