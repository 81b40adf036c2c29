"""The Responses API: the same answers as a response of items, and its stream, read by the official client's models."""

import json
from typing import Any

import pytest

from served_scripts import ANSWER, CALL, DEFAULTS, MODEL, SEEN, Running, with_server
from thor_tir.serving.fields import InvalidRequest
from thor_tir.serving.responses import response_request

RESPONSES = "/v1/responses"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "7 * 11?", **fields}


def turns(**fields: Any) -> list[tuple[str, str]]:
    return [(t["role"], t["content"]) for t in response_request(body(**fields), MODEL, DEFAULTS).turns]


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream, whose names stand in them as well."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def test_input_is_text_or_messages_and_instructions_come_first() -> None:
    assert turns() == [("user", "7 * 11?")]
    assert turns(instructions="Be brief.") == [("system", "Be brief."), ("user", "7 * 11?")]
    said = [
        {"role": "user", "content": "One?"},
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "m",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "1.", "annotations": [], "logprobs": []}],
        },
        {"role": "user", "content": [{"type": "input_text", "text": "Two?"}]},
    ]
    assert turns(input=said) == [("user", "One?"), ("assistant", "1."), ("user", "Two?")]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 5}, "input"),
        ({"input": [{"type": "function_call_output"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
        ({"input": [{"type": "reasoning"}], "instructions": "x"}, "input"),
        ({"previous_response_id": "resp-1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools"),
        ({"text": {"format": {"type": "json_schema"}}}, "text"),
        ({"reasoning": {"effort": "high"}}, "reasoning"),
        ({"max_output_tokens": 10**6}, "max_output_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"messages": []}, "messages"),
    ],
)
def test_what_would_have_to_be_ignored_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        response_request(body(**fields), MODEL, DEFAULTS)
    assert refused.value.param == param


def test_a_response_is_a_message_with_the_transcript_and_the_structure_beside_it() -> None:
    types = pytest.importorskip("openai.types.responses")

    async def work(running: Running) -> None:
        reply = await running.client.post(RESPONSES, json=body(seed=1, store=True))
        assert reply.status_code == 200
        told = reply.json()
        response = types.Response.model_validate(told)
        assert response.output_text == CALL + SEEN + ANSWER
        assert (response.status, response.model) == ("completed", MODEL)
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
        assert (told["thor"]["answer"], told["thor"]["steps"][0]["status"]) == ("77", "ok")

    with_server([CALL, ANSWER], work)


def test_an_answer_that_was_cut_is_incomplete() -> None:
    async def work(running: Running) -> None:
        told = (await running.client.post(RESPONSES, json=body(max_output_tokens=3))).json()
        assert (told["status"], told["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})

    with_server([ANSWER], work)


@pytest.mark.parametrize("thought", ["", "Hm, 7 * 11."])
def test_a_stream_has_openais_events_in_order_and_ends_with_the_whole_response(thought: str) -> None:
    types = pytest.importorskip("openai.types.responses")
    first = (f"<think>{thought}</think>" if thought else "") + CALL

    async def work(running: Running) -> None:
        reply = await running.client.post(RESPONSES, json=body(stream=True))
        events = events_of(reply.text)
        names = [event["type"].removeprefix("response.") for event in events]
        order = list(dict.fromkeys(names))
        message = ["output_text.delta", "output_text.done", "content_part.done", "output_item.done", "completed"]
        assert order[:2] == ["created", "in_progress"]
        assert [name for name in order if name in message][-1] == "completed"
        assert names.count("output_item.added") == names.count("output_item.done") == 1 + bool(thought)
        text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
        assert text == CALL + SEEN + ANSWER
        thoughts = "".join(event["delta"] for event in events if event["type"] == "response.reasoning_text.delta")
        assert thoughts == thought
        kinds = [event["thor"]["kind"] for event in events if "thor" in event]
        assert kinds == ["code", "output"]
        last = types.Response.model_validate(events[-1]["response"])
        assert last.output_text == text
        assert [item.type for item in last.output] == (["reasoning"] if thought else []) + ["message"]

    with_server([first, ANSWER], work, reasoning=bool(thought))
