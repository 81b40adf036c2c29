"""Foreign clients, unchanged, against the real server: the embedded model, real programs in a real jail."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from nano_server import GCD, NanoServer, nano_server
from thor_tir.sandbox.local.probe import probe

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(probe().level != "full", reason="this machine does not confine programs fully"),
]
MESSAGES: Any = [{"role": "user", "content": GCD}]


@pytest.fixture(scope="module")
def server() -> Iterator[NanoServer]:
    with nano_server() as running:
        yield running


@pytest.fixture
def client(server: NanoServer) -> Iterator[Any]:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=server.url, api_key="unused", max_retries=0) as made:
        yield made


def test_the_official_client_asks_and_reads_the_field_thor(client: Any) -> None:
    reply = client.chat.completions.create(
        model="nano/actor", messages=MESSAGES, seed=1, temperature=0, extra_body={"thor": {"calls": 3}}
    )
    (choice,) = reply.choices
    assert choice.finish_reason == "stop"
    assert "```python\n" in choice.message.content
    assert "```output\n1\n```\n" in choice.message.content
    thor = choice.model_extra["thor"]
    assert (thor["answer"], thor["steps"][0]["status"], thor["steps"][0]["level"]) == ("1", "ok", "full")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_the_official_client_streams_the_same_text(client: Any) -> None:
    asked: Any = {"model": "nano/actor", "messages": MESSAGES, "seed": 1, "temperature": 0}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert chunks[-1].usage.completion_tokens > 10
    kinds = [
        c.choices[0].model_extra["thor"]["kind"] for c in chunks if c.choices and "thor" in c.choices[0].model_extra
    ]
    assert kinds == ["code", "output", "end"]


def test_the_official_clients_own_stream_helper_puts_the_answer_together(client: Any) -> None:
    with client.chat.completions.stream(model="nano/actor", messages=MESSAGES, seed=1, temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "content.delta")
        final = stream.get_final_completion()
    assert final.choices[0].message.content == text
    assert "\\boxed{1}" in text


def test_the_official_client_asks_by_responses_and_streams_them(client: Any) -> None:
    asked: Any = {"model": "nano/actor", "input": GCD, "temperature": 0}
    whole = client.responses.create(**asked)
    assert whole.model_extra["thor"]["answer"] == "1"
    with client.responses.stream(**asked) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert final.output_text == whole.output_text == text


def test_the_official_client_lists_models_and_continues_a_text(client: Any) -> None:
    assert [model.id for model in client.models.list()] == ["nano/actor"]
    assert client.models.retrieve("nano/actor").id == "nano/actor"
    reply = client.completions.create(model="nano/actor", prompt="```output\n", max_tokens=20, stop="\n", seed=1)
    assert "\n" not in reply.choices[0].text
    assert reply.usage.completion_tokens <= 20


def test_the_official_client_raises_its_own_errors(client: Any) -> None:
    import openai

    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="nano/actor", messages=MESSAGES, temperature=2, logprobs=True)
    assert refused.value.param == "logprobs"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-5", messages=MESSAGES)
    assert unknown.value.code == "model_not_found"


def test_an_official_client_without_the_key_is_turned_away_and_with_it_is_served() -> None:
    openai = pytest.importorskip("openai")
    with nano_server(THOR_SERVE_KEYS="0123456789abcdef-mine") as running:
        stranger = openai.OpenAI(base_url=running.url, api_key="0123456789abcdef-other", max_retries=0)
        with stranger, pytest.raises(openai.AuthenticationError):
            stranger.models.list()
        with openai.OpenAI(base_url=running.url, api_key="0123456789abcdef-mine", max_retries=0) as known:
            assert [model.id for model in known.models.list()] == ["nano/actor"]


def test_langchain_asks_and_streams(server: NanoServer) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    chat = langchain.ChatOpenAI(
        base_url=server.url,
        api_key="unused",
        model="nano/actor",
        temperature=0,
        seed=1,
        max_retries=0,
        extra_body={"thor": {"correction": False}},
    )
    reply = chat.invoke([("system", "Be brief."), ("user", GCD)])
    assert "\\boxed{1}" in reply.content
    assert reply.usage_metadata["output_tokens"] > 10
    assert "".join(chunk.content for chunk in chat.stream([("system", "Be brief."), ("user", GCD)])) == reply.content


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("is_stream", [False, True])
def test_curl_asks(server: NanoServer, is_stream: bool) -> None:
    body = json.dumps({"model": "nano/actor", "messages": MESSAGES, "seed": 1, "temperature": 0, "stream": is_stream})
    command = ["curl", "-sSN", "--noproxy", "*", f"{server.url}/chat/completions"]
    command += ["-H", "Content-Type: application/json", "-d", body]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    if is_stream:
        assert told.endswith("data: [DONE]\n\n")
        assert '"answer": "1"' in told
    else:
        assert json.loads(told)["choices"][0]["thor"]["answer"] == "1"


def test_a_model_behind_an_address_is_served_as_one_that_is_here(server: NanoServer) -> None:
    import httpx

    asked = {"messages": MESSAGES, "temperature": 0, "stream": False}
    options = ("--model", server.url, "--model-tokenizer", "nano/actor", "--served-name", "far")
    with nano_server(*options) as there:
        reply = httpx.post(f"{there.url}/chat/completions", json={"model": "far", **asked}, timeout=60, trust_env=False)
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["thor"]["answer"] == "1"
