"""The door of a web service: a client that says nothing, or says it slowly, does not keep a connection."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from thor_tir import web_service
from thor_tir.web_service import GracefulServer, Place

GET = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Busy:
    """A service with as much in flight as a test says."""

    def __init__(self, in_flight: int = 0) -> None:
        self.is_draining = False
        self.in_flight = in_flight
        self.num_drops = 0

    def drop(self) -> None:
        self.num_drops += 1


async def slow_page(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0.4)
    return PlainTextResponse("done")


def with_server(work: Callable[[int, Busy], Any], service: Busy, *, drain_s: float = 5.0) -> Any:
    """Run `work(port, service)` against a server of one page."""

    async def main() -> Any:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        place = Place(host="127.0.0.1", port=0, drain_s=drain_s)
        server = GracefulServer(Starlette(routes=[Route("/", slow_page)]), service, place, address.set_result)
        task = asyncio.create_task(server.until_ended())
        try:
            return await work(int((await address).rpartition(":")[2]), service)
        finally:
            server.handle_exit(15, None)
            async with asyncio.timeout(10):
                await task

    return asyncio.run(main())


@pytest.mark.parametrize("sent", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: here\r\n", GET + b"GET / HTTP/1.1\r\n"])
def test_a_client_without_a_whole_head_is_hung_up_on(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_service, "HEAD_S", 0.1)

    async def work(port: int, _: Busy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(5):
            try:
                heard = await reader.read()
            except ConnectionResetError:
                heard = b""
        assert heard == b"" or b"done" in heard
        writer.close()

    with_server(work, Busy())


def test_a_request_that_takes_longer_than_its_head_may_take_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_service, "HEAD_S", 0.1)

    async def work(port: int, _: Busy) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert (await reader.readuntil(b"done")).startswith(b"HTTP/1.1 200")
        writer.close()

    with_server(work, Busy())


@pytest.mark.parametrize(("in_flight", "num_drops"), [(0, 0), (3, 1)])
def test_at_the_end_of_its_time_work_is_given_up_and_never_before(in_flight: int, num_drops: int) -> None:
    async def work(port: int, service: Busy) -> None:
        pass

    service = Busy(in_flight)
    with_server(work, service, drain_s=0.3)
    assert service.num_drops == num_drops
