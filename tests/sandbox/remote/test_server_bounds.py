"""Bounds of the service: replies, names of this machine, and clients that say nothing."""

import asyncio
import contextlib
import json
import signal
import socket
from typing import Any

import httpx
import pytest

from hostile_server import until
from sandbox_service import asks, command, serving, told, with_client
from thor_tir import web_service
from thor_tir.errors import SandboxLost
from thor_tir.execution import ExecutionResult
from thor_tir.sandbox.protocol import Limits
from thor_tir.sandbox.remote.server import Service
from thor_tir.web_service import GracefulServer
from told_sandbox import ToldSandbox, printed


class PrintingSandbox(ToldSandbox):
    """Every program prints as many characters as its text says."""

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        return printed("x" * int(code))


@pytest.mark.parametrize(
    ("sizes", "status"),
    [
        ([100, 100], 200),
        ([4000], 200),
        ([400] * 10, 413),  # each adds what surrounds it
        ([0, 0, 3000, 0], 413),
        ([10] * 3, 200),
        ([], 200),
    ],
)
def test_the_replies_of_a_batch_have_a_bound_together(sizes: list[int], status: int) -> None:
    async def work(client: httpx.AsyncClient, server: GracefulServer, _: object) -> None:
        answer = await client.post("/run_batch", json={"snippets": [asks(str(size)) for size in sizes]})
        assert answer.status_code == status
        if status == 200:
            assert [len(r["run_result"]["stdout"]) for r in answer.json()["results"]] == [size + 1 for size in sizes]
        else:
            assert "send fewer programs at once" in answer.json()["detail"]
        service = server._service
        assert isinstance(service, Service)
        await until(lambda: service.held_bytes == 0)

    with_client(PrintingSandbox, work, batch_bytes=3500, workers=4)


def test_replies_that_no_client_takes_are_bounded_and_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_service, "TAKE_S", 0.5)

    async def main() -> None:
        async with serving(PrintingSandbox(), held_bytes=2**25) as (url, server), httpx.AsyncClient() as client:
            port, service = int(url.rpartition(":")[2]), server._service
            assert isinstance(service, Service)
            body = json.dumps(asks(str(2**24))).encode()
            head = b"POST /run_code HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            writers = []
            for _ in range(2):
                _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
                writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                writers.append(writer)
            await until(lambda: service.held_bytes > 2**24)
            refused = await client.post(f"{url}/run_code", json=asks(str(2**24)))
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            await until(lambda: service.held_bytes == 0)  # both were hung up on
            assert (await client.post(f"{url}/run_code", json=asks("1"))).status_code == 200
            for writer in writers:
                writer.close()

    asyncio.run(main())


OWN = ["localhost", "localhost:1", "127.0.0.1", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:80"]
FOREIGN = ["attacker.example", "attacker.example:8080", "127.0.0.1.attacker.example", "localhost.attacker.example", ""]
FOREIGN += ["10.0.0.5:8080", "user@attacker.example", "[::1", "localhost@attacker.example"]


@pytest.mark.parametrize("host", OWN + FOREIGN)
@pytest.mark.parametrize("token", [None, "s3cret"])
def test_without_a_token_no_other_name_for_this_machine_is_answered(host: str, token: str | None) -> None:
    async def work(client: httpx.AsyncClient, _: object, sandbox: ToldSandbox) -> None:
        headers = {"Host": host, "Authorization": "Bearer s3cret"}
        is_let_in = token is not None or host in OWN
        answer = await client.post("/run_code", json=asks(), headers=headers)
        assert answer.status_code == (200 if is_let_in else 403)
        assert (await client.get("/v1/ping", headers=headers)).status_code == (200 if is_let_in else 403)
        assert len(sandbox.ran) == is_let_in

    with_client(told, work, token=token)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3000", 200),
        ("http://127.0.0.1", 200),
        ("http://[::1]:80", 200),
        ("https://attacker.example", 403),
        ("http://127.0.0.1.attacker.example", 403),
        ("null", 403),
        ("", 403),
        ("http://[", 403),
    ],
)
def test_without_a_token_no_page_of_another_machine_is_answered(origin: str, status: int) -> None:
    async def work(client: httpx.AsyncClient, *_: object) -> None:
        assert (await client.post("/run_code", json=asks(), headers={"Origin": origin})).status_code == status

    with_client(told, work)


def test_a_host_that_runs_nothing_any_more_is_said_with_503() -> None:
    class LostSandbox(ToldSandbox):
        async def run(self, code: str, limits: Limits | None = None, **_: Any) -> ExecutionResult:
            raise SandboxLost("8 programs in a row could not be run on this host")

    async def work(client: httpx.AsyncClient, *_: object) -> None:
        answer = await client.post("/run_code", json=asks())
        assert (answer.status_code, "in a row" in answer.json()["detail"]) == (503, True)

    with_client(LostSandbox, work)


def test_with_256_descriptors_400_half_open_clients_shut_nobody_out_and_fill_no_log() -> None:
    with command(THOR_SANDBOX_TOKEN="s3cret", limit=256) as server:
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("sandbox at ").split()[0]
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        mute = [socket.create_connection(place) for _ in range(400)]
        for each in mute:
            with contextlib.suppress(OSError):
                each.send(b"GET /v1/ping HTTP/1.1\r\n")
        headers = {"Authorization": "Bearer s3cret"}
        with httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=30) as client:
            for at in range(40):
                mute.append(socket.create_connection(place))
                assert client.get("/v1/ping", headers={"Connection": "close"} if at % 2 else {}).json() == "pong"
            assert client.post("/run_code", json=asks("print(6 * 7)")).json()["run_result"]["stdout"] == "42\n"
        for each in mute:
            each.close()
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
        assert server.returncode == 0
        assert said.count("\n") <= 3
