"""Connections that a server keeps open: used again while they are warm, and left alone before the server hangs up."""

import asyncio
import json

import pytest

from endpoint_server import completion, http
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api import client as asking
from thor_tir.engines.openai_api.policy import EndpointPolicy
from thor_tir.engines.protocol import Sampling


class KeepsOpen:
    """Answers every request on the connection that it came by, unless that was idle for too long."""

    def __init__(self, hangs_up_s: float) -> None:
        self.hangs_up_s = hangs_up_s
        self.connections = 0
        """That requests for text came by."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        clock = asyncio.get_running_loop().time
        last: float | None = None
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                if last is not None and clock() - last > self.hangs_up_s:
                    return
                is_list = b"/models" in head.split(b"\r\n")[0]
                self.connections += not is_list and last is None
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                body = {"data": [{"id": "m"}]} if is_list else completion("four", stop_reason=None)
                writer.write(http(json.dumps(body).encode()).replace(b"Connection: close", b"Connection: keep-alive"))
                last = clock()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@pytest.mark.parametrize(
    ("idle_s", "hangs_up_s", "pause_s", "connections"), [(60.0, 60.0, 0.0, 0), (0.01, 0.5, 0.6, 2)]
)
def test_no_request_meets_the_end_of_an_idle_connection(monkeypatch, idle_s, hangs_up_s, pause_s, connections):
    monkeypatch.setattr(asking, "IDLE_S", idle_s)

    async def work() -> tuple[KeepsOpen, EndpointPolicy]:
        kept = KeepsOpen(hangs_up_s)
        server = await asyncio.start_server(kept.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with EndpointPolicy(f"http://127.0.0.1:{port}/v1") as policy:
            kept.connections = 0  # whatever comes by the one it was found out about with is not counted
            await asyncio.sleep(pause_s)
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            await policy.sample(ids, Sampling(max_tokens=5))
            await asyncio.sleep(pause_s)
            await policy.sample(ids, Sampling(max_tokens=5))
        server.close()
        return kept, policy

    kept, policy = asyncio.run(work())
    assert policy.retry.events["failures"] == 0
    assert kept.connections == connections


class ClosesAsAsked(KeepsOpen):
    """Closes a connection that it is asked to close, and does not say so."""

    def __init__(self) -> None:
        super().__init__(60.0)
        self.again = 0
        """Requests on a connection that was asked to close."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_closing = False
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.again += is_closing
                if is_closing:
                    return
                is_list = b"/models" in head.split(b"\r\n")[0]
                is_closing = b"connection: close" in head.lower()
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)
                body = {"data": [{"id": "m"}]} if is_list else completion("four", stop_reason=None)
                writer.write(http(json.dumps(body).encode()).replace(b"Connection: close\r\n", b""))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def test_a_connection_that_was_asked_to_close_is_not_used_again():
    async def work() -> tuple[ClosesAsAsked, EndpointPolicy]:
        closes = ClosesAsAsked()
        server = await asyncio.start_server(closes.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with EndpointPolicy(f"http://127.0.0.1:{port}/v1") as policy:
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            for _ in range(3):
                await policy.sample(ids, Sampling(max_tokens=5))
        server.close()
        return closes, policy

    closes, policy = asyncio.run(work())
    assert closes.again == 0
    assert (policy.spent["calls"], policy.retry.events.total()) == (3, 0)
