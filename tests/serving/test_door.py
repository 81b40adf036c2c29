"""The door of the server: sizes, times, clients that leave or do not read, faults of the machine, and its end."""

import asyncio
import json
import logging
import signal
from typing import Any

import pytest

from hostile_server import until
from scripted_agent import program
from served_scripts import (
    ANSWER,
    CALL,
    CHAT,
    HeldSandbox,
    Running,
    asks,
    chunks_of,
    with_server,
)
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault, RequestFault
from thor_tir.serving.app import app
from thor_tir.serving.queue import QueueConfig
from thor_tir.trajectory import Completion

JSON = {"content-type": "application/json"}
KEY = "0123456789abcdef-key"


class FaultyPolicy:
    """Fails at every request."""

    def __init__(self, fault: Exception) -> None:
        self.fault = fault

    async def sample(self, token_ids: Any, sampling: Sampling) -> Completion:
        raise self.fault

    def attend(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def error_of(reply: Any) -> dict[str, Any]:
    """The error of a reply, which has OpenAI's four fields and no other."""
    body = reply.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    return dict(body["error"])


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"{}", {}, 415),
        (b"{", JSON, 400),
        (b'{"model": "scripted"}', JSON, 400),
        (b"x" * 1001, JSON, 413),
        (b'{"a":' * 100, JSON, 400),
        (json.dumps(asks(model="other")).encode(), JSON, 404),
    ],
)
def test_what_cannot_be_read_is_an_error_in_openais_form(body: bytes, headers: dict[str, str], status: int) -> None:
    async def work(running: Running) -> None:
        reply = await running.client.post(CHAT, content=body, headers=headers)
        assert reply.status_code == status
        assert error_of(reply)["type"] == "invalid_request_error"
        assert reply.headers["x-request-id"].startswith("req-")
        assert running.policy.asked == []

    with_server([], work, body_bytes=1000)


def test_a_refused_field_is_named_in_param() -> None:
    async def work(running: Running) -> None:
        error = error_of(await running.ask(temperature=9))
        assert (error["param"], error["code"]) == ("temperature", None)
        error = error_of(await running.ask(tools=[{"type": "function"}]))
        assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")

    with_server([], work)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("GET", "/page/none.js", 404),
        ("GET", CHAT, 405),
        ("POST", "/v1/models", 405),
        ("DELETE", "/v1/models/scripted", 405),
        ("GET", "/v1/models/other", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
    ],
)
def test_what_is_not_served_is_an_error_in_openais_form(method: str, path: str, status: int) -> None:
    async def work(running: Running) -> None:
        reply = await running.client.request(method, path)
        assert reply.status_code == status
        error_of(reply)

    with_server([], work)


ADMINISTRATIVE = [
    "/pause", "/resume", "/sleep", "/wake_up", "/collective_rpc", "/update_weights", "/init_weight_transfer_engine",
    "/reset_prefix_cache", "/v1/load_lora_adapter", "/abort_requests", "/shutdown", "/admin", "/config", "/debug",
]  # fmt: skip


@pytest.mark.parametrize("path", ADMINISTRATIVE)
def test_no_administrative_route_is_served(path: str) -> None:
    async def work(running: Running) -> None:
        for method in ("GET", "POST"):
            assert (await running.client.request(method, path, json={})).status_code == 404

    with_server([], work)


def test_the_served_model_is_listed_and_found_by_its_name() -> None:
    async def work(running: Running) -> None:
        listed = (await running.client.get("/v1/models")).json()
        assert [entry["id"] for entry in listed["data"]] == ["scripted"]
        assert (await running.client.get("/v1/models/scripted")).json() == listed["data"][0]

    with_server([], work)


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    async def work(running: Running) -> None:
        async def slowly() -> Any:
            yield b"{"
            await asyncio.sleep(1.5)

        reply = await running.client.post(CHAT, content=slowly(), headers=JSON)
        assert reply.status_code == 408

    with_server([], work, body_s=0.1)


def test_without_a_key_only_health_answers_and_says_no_more_than_that() -> None:
    async def work(running: Running) -> None:
        for path in ("/v1/models", "/metrics"):
            assert error_of(await running.client.get(path))["code"] == "invalid_api_key"
        assert (await running.ask()).status_code == 401
        assert (await running.client.get("/health")).json() == {"status": "ok"}
        keyed = {"authorization": f"Bearer {KEY}"}
        assert (await running.ask(headers=keyed)).status_code == 200
        assert (await running.client.get("/health", headers=keyed)).json()["sandbox"] == "fake"

    with_server([ANSWER], work, keys={"ann": KEY})


def test_a_web_page_elsewhere_cannot_ask_a_server_without_a_key() -> None:
    async def work(running: Running) -> None:
        for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}):
            assert (await running.ask(headers=headers)).status_code == 403
        reply = await running.client.options(CHAT, headers={"access-control-request-method": "POST"})
        assert reply.status_code == 405
        assert not any(name.startswith("access-control") for name in reply.headers)

    with_server([], work)


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_program_of_a_client_that_leaves_is_stopped(is_stream: bool) -> None:
    async def work(running: Running) -> None:
        asking = asyncio.create_task(running.ask(stream=is_stream))
        await until(lambda: running.sandbox.started)
        asking.cancel()
        await until(lambda: running.sandbox.cancelled)
        await until(lambda: not running.service.in_flight)
        assert running.service.queue.running == 0

    with_server([CALL], work, sandbox=HeldSandbox)


def test_a_client_that_leaves_while_it_waits_is_never_begun() -> None:
    async def work(running: Running) -> None:
        first = asyncio.create_task(running.ask("one"))
        await until(lambda: running.sandbox.started)
        second = asyncio.create_task(running.ask("two"))
        await until(lambda: running.service.queue.num_waiting)
        second.cancel()
        await until(lambda: not running.service.queue.num_waiting)
        running.sandbox.let_go.set()
        assert (await first).status_code == 200
        assert not any("two" in asked.text for asked in running.policy.asked)

    with_server({"one": [CALL, ANSWER]}, work, sandbox=HeldSandbox, queue=QueueConfig(running=1))


@pytest.mark.parametrize("most", [1, 4])
def test_a_client_that_does_not_read_its_stream_is_given_up_and_its_program_stopped(most: int) -> None:
    """The connection is full after so many messages, as uvicorn says it: `send` does not return."""

    async def work(running: Running) -> None:
        sent: list[Any] = []
        asked = [{"type": "http.request", "body": json.dumps(asks(stream=True)).encode(), "more_body": False}]

        async def receive() -> Any:
            return asked.pop() if asked else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if len(sent) == most:
                await asyncio.Event().wait()
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "path": CHAT, "headers": headers, "query_string": b""}
        await app(running.service)(scope, receive, send)
        assert not running.service.in_flight
        assert running.sandbox.started == running.sandbox.cancelled
        text = (await running.client.get("/metrics")).text
        assert 'thor_serve_requests_total{route="/v1/chat/completions",status="499"} 1.0' in text

    with_server([CALL], work, sandbox=HeldSandbox, send_s=0.2)


def test_a_full_server_turns_away_with_429_and_a_time_to_come_back() -> None:
    async def work(running: Running) -> None:
        asking = [asyncio.create_task(running.ask("one")) for _ in range(2)]
        await until(lambda: running.service.queue.num_waiting)
        reply = await running.ask("one")
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) >= 1
        assert error_of(reply)["type"] == "rate_limit_error"
        running.sandbox.let_go.set()
        assert [reply.status_code for reply in await asyncio.gather(*asking)] == [200, 200]

    with_server([CALL, ANSWER] * 2, work, sandbox=HeldSandbox, queue=QueueConfig(running=1, waiting=1))


def test_an_answer_that_takes_too_long_is_given_up_and_its_program_stopped() -> None:
    async def work(running: Running) -> None:
        reply = await running.ask()
        assert (reply.status_code, error_of(reply)["code"]) == (504, "timeout")
        assert running.sandbox.cancelled == 1
        reply = await running.ask(stream=True)
        assert '"code": "timeout"' in reply.text
        assert "[DONE]" not in reply.text

    with_server([CALL, CALL], work, sandbox=HeldSandbox, request_s=0.2)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (EngineFault("secret detail"), 503, "engine_unavailable"),
        (RequestFault("secret detail"), 503, "engine_unavailable"),
        (RuntimeError("secret detail"), 500, None),
    ],
)
def test_a_fault_of_the_machine_is_told_without_its_details(fault: Exception, status: int, code: str | None) -> None:
    async def work(running: Running) -> None:
        reply = await running.ask()
        assert reply.status_code == status
        error = error_of(reply)
        assert (error["type"], error["code"]) == ("server_error", code)
        assert "secret" not in reply.text
        assert (await running.client.get("/health")).status_code == (503 if type(fault) is EngineFault else 200)

    with_server([], work, policy=FaultyPolicy(fault))


def test_a_lost_sandbox_is_503_and_no_answer_pretends_that_the_program_failed() -> None:
    async def work(running: Running) -> None:
        reply = await running.ask("Q1?")
        assert (reply.status_code, error_of(reply)["code"]) == (503, "sandbox_unavailable")
        assert (await running.ask("Q2?")).status_code == 200

    with_server({"Q1?": [program("offline")], "Q2?": [ANSWER]}, work)


def test_a_prompt_that_fills_the_context_is_openais_error_for_it() -> None:
    from thor_tir.engines.protocol import ContextFull

    async def work(running: Running) -> None:
        reply = await running.ask()
        assert (reply.status_code, error_of(reply)["code"]) == (400, "context_length_exceeded")

    with_server([], work, policy=FaultyPolicy(ContextFull("full")))


def test_at_its_end_a_server_finishes_what_it_has_and_takes_no_more() -> None:
    async def work(running: Running) -> None:
        asking = asyncio.create_task(running.ask("one"))
        await until(lambda: running.sandbox.started)
        running.server.handle_exit(signal.SIGTERM, None)
        reply = await running.ask("two")
        assert (reply.status_code, error_of(reply)["code"]) == (503, "unavailable")
        assert (await running.client.get("/health")).status_code == 503
        running.sandbox.let_go.set()
        assert (await asking).status_code == 200

    with_server({"one": [CALL, ANSWER]}, work, sandbox=HeldSandbox)


@pytest.mark.parametrize("is_stream", [False, True])
def test_what_is_not_done_at_the_end_is_dropped_and_said(is_stream: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def work(running: Running) -> None:
        asking = asyncio.create_task(running.ask(stream=is_stream))
        await until(lambda: running.sandbox.started)
        running.server.handle_exit(signal.SIGTERM, None)
        reply = await asking
        assert "the server ended before the answer was done" in reply.text
        assert reply.status_code == (200 if is_stream else 503)
        assert "[DONE]" not in reply.text
        assert running.service.num_dropped == 1
        await until(lambda: running.sandbox.cancelled)

    with caplog.at_level(logging.WARNING):
        with_server([CALL], work, sandbox=HeldSandbox, drain_s=0.1)
    assert "1 requests did not end in time and are dropped" in caplog.text


def test_a_quiet_stream_gets_comments_that_clients_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thor_tir.serving.reply.QUIET_S", 0.05)

    async def work(running: Running) -> None:
        asking = asyncio.create_task(running.ask(stream=True))
        await until(lambda: running.sandbox.started)
        await asyncio.sleep(0.2)
        running.sandbox.let_go.set()
        text = (await asking).text
        assert text.count(": still in work\n\n") >= 2
        assert chunks_of(text)

    with_server([CALL, ANSWER], work, sandbox=HeldSandbox)


def test_metrics_count_answers_programs_tokens_and_refusals() -> None:
    async def work(running: Running) -> None:
        await running.ask()
        await running.ask(temperature=9)
        text = (await running.client.get("/metrics")).text
        for line in (
            'thor_serve_requests_total{route="/v1/chat/completions",status="200"} 1.0',
            'thor_serve_requests_total{route="/v1/chat/completions",status="400"} 1.0',
            'thor_serve_programs_total{status="ok"} 1.0',
            'thor_serve_answers_total{finish="ended"} 1.0',
            "thor_serve_running 0.0",
        ):
            assert line in text

    with_server([CALL, ANSWER], work)
