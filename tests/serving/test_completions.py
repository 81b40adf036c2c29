"""Plain completions: a text goes on as it stands, until a stop string, which is left out whole and streamed."""

from typing import Any

import pytest

from scripted_agent import program
from served_scripts import MODEL, Running, chunks_of, with_server
from tiny_models import ASSISTANT, tiny_tokenizer

COMPLETIONS = "/v1/completions"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": "We compute", **fields}


@pytest.mark.parametrize(
    ("reply", "stop", "text", "reason"),
    [
        (" it.", None, " it.", "stop"),
        (" it.\n\nThen", "\n\n", " it.", "stop"),
        ("one two three", ["three", "two"], "one ", "stop"),
        ("😀 END 😀", "END", "😀 ", "stop"),
        ("no stop EN", "END", "no stop EN", "stop"),
        ("\nfirst", "\n", "", "stop"),
        (program("print(1)"), "\n```\n", "```python\nprint(1)", "stop"),
    ],
)
def test_a_text_goes_on_until_a_stop_string_whole_and_streamed(reply: str, stop: Any, text: str, reason: str) -> None:
    async def work(running: Running) -> None:
        told = (await running.client.post(COMPLETIONS, json=body(stop=stop, seed=1))).json()
        (choice,) = told["choices"]
        assert (choice["text"], choice["finish_reason"]) == (text, reason)
        asked = body(stop=stop, seed=1, stream=True, stream_options={"include_usage": True})
        chunks = chunks_of((await running.client.post(COMPLETIONS, json=asked)).text)
        assert "".join(c["text"] for chunk in chunks for c in chunk["choices"]) == text
        assert [c["finish_reason"] for chunk in chunks for c in chunk["choices"]][-1] == reason
        assert chunks[-1]["usage"] == told["usage"]
        assert running.sandbox.ran == []

    with_server([reply] * 2, work)


def test_a_limit_of_tokens_is_the_reason_length_and_is_counted() -> None:
    async def work(running: Running) -> None:
        told = (await running.client.post(COMPLETIONS, json=body(max_tokens=2))).json()
        assert told["choices"][0]["finish_reason"] == "length"
        assert told["usage"]["completion_tokens"] == 2

    with_server(["a long text that is cut"], work)


def test_a_prompt_is_continued_as_it_stands_and_names_of_control_tokens_are_control_tokens() -> None:
    async def work(running: Running) -> None:
        await running.client.post(COMPLETIONS, json=body(prompt=f"Hi{ASSISTANT}"))
        await running.client.post(COMPLETIONS, json=body(prompt=[5, 6, 7]))
        control = tiny_tokenizer().convert_tokens_to_ids(ASSISTANT)
        first, second = (asked.token_ids for asked in running.policy.asked)
        assert first[-1] == control
        assert second == (5, 6, 7)

    with_server(["a", "b"], work)


def test_several_choices_are_several_texts() -> None:
    async def work(running: Running) -> None:
        told = (await running.client.post(COMPLETIONS, json=body(n=3))).json()
        assert sorted(choice["text"] for choice in told["choices"]) == ["a", "b", "c"]

    with_server(["a", "b", "c"], work)
