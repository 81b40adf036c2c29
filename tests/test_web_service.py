"""The door of a web service: a client that says nothing, or says it slowly, does not keep a connection."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from hostile_server import until
from thor_tir import web_service
from thor_tir.web_service import GracefulServer, PacedResponse, Place

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


@pytest.mark.parametrize("half", [b"", b"G", b"GET / HTTP/1.1\r\nHost: here\r\nX: "])
def test_clients_that_say_nothing_shut_nobody_out_and_keep_no_more_connections_than_may_be(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_service, "MOST_CONNECTIONS", 20)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        answer = await reader.readuntil(b"done")
        writer.close()
        return answer[:12]

    async def work(port: int, _: Busy) -> None:
        mute, open_ = [], []
        asking = [asyncio.create_task(ask(port))]
        for _ in range(10):
            for _ in range(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(half)
                mute.append((reader, writer))
            asking.append(asyncio.create_task(ask(port)))
        assert await asyncio.gather(*asking) == [b"HTTP/1.1 200"] * 11
        await asyncio.sleep(0.2)
        for reader, writer in mute:
            if not reader.at_eof() and reader.exception() is None:
                open_.append(reader)
            writer.close()
        assert len(open_) <= 20

    with_server(work, Busy())


def test_a_client_that_is_served_is_never_hung_up_on_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_service, "MOST_CONNECTIONS", 3)

    async def ask(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        try:
            return (await reader.read(12)) or b"hung up"
        except ConnectionResetError:
            return b"hung up"
        finally:
            writer.close()

    async def work(port: int, _: Busy) -> None:
        served = [asyncio.create_task(ask(port)) for _ in range(3)]
        await asyncio.sleep(0.1)
        assert await ask(port) == b"hung up"
        assert await asyncio.gather(*served) == [b"HTTP/1.1 200"] * 3

    with_server(work, Busy())


def test_a_reply_that_is_taken_slowly_arrives_and_one_that_is_not_taken_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_service, "TAKE_S", 1.5)
    size, sent = 2**24, []

    async def long_page(request: Request) -> PacedResponse:
        return PacedResponse(b"x" * size, {}, "text/plain", lambda: sent.append(request.url.path))

    async def main() -> None:
        address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        app = Starlette(routes=[Route("/slow", long_page), Route("/never", long_page)])
        place = Place(host="127.0.0.1", port=0, drain_s=1.0)
        server = GracefulServer(app, Busy(), place, address.set_result)
        task = asyncio.create_task(server.until_ended())
        port = int((await address).rpartition(":")[2])
        never, mute = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        mute.write(GET.replace(b"/ ", b"/never "))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.replace(b"/ ", b"/slow ").replace(b"here", b"here\r\nConnection: close"))
        taken = 0
        while piece := await reader.read(2**20):
            taken += len(piece)
            await asyncio.sleep(0.02)
        assert taken > size
        await until(lambda: sorted(sent) == ["/never", "/slow"])
        mute.close()
        writer.close()
        server.handle_exit(15, None)
        await task
        with pytest.raises(asyncio.IncompleteReadError):
            await never.readexactly(size)

    asyncio.run(main())


def test_what_clients_can_cause_is_one_line_a_minute_that_counts_the_rest(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nonsense(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"nonsense\r\n\r\n")
        assert b" 400 " in await reader.read()
        writer.close()

    async def work(port: int, _: Busy) -> None:
        for _ in range(30):
            await nonsense(port)
        monkeypatch.setattr(web_service, "LOG_EVERY_S", 0.0)
        await nonsense(port)
        monkeypatch.setattr(web_service, "LOG_EVERY_S", 60.0)
        for text in ("socket.accept() out of system resource\nsocket: 1", "socket.accept() out of system resource\n2"):
            logging.getLogger("asyncio").error(text)

    with_server(work, Busy())
    said = [record.getMessage().partition("\n")[0] for record in caplog.records]
    assert said == [
        "Invalid HTTP request received.",
        "Invalid HTTP request received. (29 more like it since the last line)",
        "socket.accept() out of system resource",
    ]
    logging.getLogger("asyncio").error("socket.accept() out of system resource")  # the bound ends with the service
    assert len(caplog.records) == 4


def test_as_many_connections_as_half_of_the_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    for soft, most in ((256, 128), (1024, 512), (2**20, 1024), (1, 1), (resource.RLIM_INFINITY, 1024)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, soft=soft: (soft, soft))
        assert web_service.most_connections() == most
