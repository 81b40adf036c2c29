"""What a client may ask: OpenAI's fields and ours, each within bounds, and a refusal that names the field."""

from dataclasses import replace
from typing import Any

import pytest

from served_scripts import DEFAULTS, MODEL, asks
from thor_tir.serving.fields import MAX_DEPTH, InvalidRequest, parse_json
from thor_tir.serving.requests import (
    Bounds,
    ChatRequest,
    CompletionRequest,
    ServedDefaults,
    chat_request,
    completion_request,
)


def chat(**fields: Any) -> ChatRequest:
    return chat_request(asks(**fields), MODEL, DEFAULTS)


def completion(**fields: Any) -> CompletionRequest:
    return completion_request({"model": MODEL, "prompt": "We", **fields}, MODEL, DEFAULTS)


def test_a_request_that_says_nothing_more_gets_the_servers_defaults_and_self_correction() -> None:
    options = chat().options
    assert options.rollout == DEFAULTS.rollout
    assert (options.correction, options.has_tools, options.attempts) == (DEFAULTS.correction, True, 1)
    assert (options.select, options.transcript) == ("pass-rate", "all")


def test_null_is_the_same_as_absent() -> None:
    nothing = dict.fromkeys(("temperature", "stop", "tools", "thor", "max_tokens", "n", "stream", "response_format"))
    assert chat(**nothing, seed=3) == chat(seed=3)


def test_without_a_seed_each_answer_is_another() -> None:
    assert len({chat().options.seed for _ in range(20)}) == 20


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"thor": {"attempts": 4}}, None),
        ({"thor": {"attempts": 4, "correction": True}}, (2, 3)),
        ({"thor": {"correction": False}}, None),
        ({"thor": {"tools": False}}, None),
        ({"thor": {"correction": {"attempts": 5}}}, (5, 3)),
        ({"thor": {"correction": {"suffix_tokens": 50}}}, (2, 50)),
    ],
)
def test_self_correction_is_for_a_single_attempt_with_tools_unless_it_is_asked_for(
    fields: dict[str, Any], found: tuple[int, int] | None
) -> None:
    correction = chat(**fields).options.correction
    assert (None if correction is None else (correction.max_attempts, correction.suffix_tokens)) == found


def test_without_tools_no_call_may_be_made() -> None:
    assert chat(thor={"tools": False, "calls": 3}).options.rollout.max_tool_calling_iterations == 0


def test_a_request_may_choose_what_is_written_again() -> None:
    asked = chat(thor={"correction": {"scope": "replan", "attempts": 2}}).options.correction
    assert asked == replace(DEFAULTS.correction, scope="replan", max_attempts=2)


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_limit_of_tokens_are_understood(name: str) -> None:
    assert chat(**{name: 12}).options.rollout.max_completion_length == 12


@pytest.mark.parametrize(
    "content",
    ["One?", [{"type": "text", "text": "One?"}], [{"type": "text", "text": "On"}, {"type": "text", "text": "e?"}]],
)
def test_content_is_text_or_parts_that_are_text(content: Any) -> None:
    assert chat(messages=[{"role": "user", "content": content}]).turns == ({"role": "user", "content": "One?"},)


def test_earlier_turns_are_kept_and_what_our_own_replies_carry_beside_them_is_passed_over() -> None:
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "One?", "name": "Ann"},
        {"role": "assistant", "content": None, "refusal": None, "reasoning_content": "Hm.", "thor": {"answer": "1"}},
        {"role": "user", "content": "Two?"},
    ]
    found = chat(messages=turns).turns
    assert [turn["role"] for turn in found] == ["system", "user", "assistant", "user"]
    assert [turn["content"] for turn in found] == ["Be brief.", "One?", "", "Two?"]


REFUSED = [
    ({"model": "gpt-5"}, "model", "does not exist; this server serves 'scripted'"),
    ({"model": None}, "model", "is missing"),
    ({"model": 7}, "model", "must be a string, found a number"),
    ({"messages": None}, "messages", "must be a list that is not empty"),
    ({"messages": []}, "messages", "must be a list that is not empty"),
    ({"messages": "Hi"}, "messages", "must be a list that is not empty, found a string"),
    ({"messages": [{"role": "user", "content": "x"}] * 300}, "messages", "this server takes at most 256"),
    ({"messages": ["Hi"]}, "messages[0]", "must be a JSON object"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "must be a string, found nothing"),
    ({"messages": [{"role": "user", "content": " \n"}]}, "messages", "empty question"),
    ({"messages": [{"role": "user", "content": "x" * 400_001}]}, "messages", "takes at most 400000"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "half of a character"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "run on the server"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "must be system, user or assistant"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "must end with a message of the user"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type", "text alone"),
    ({"messages": [{"role": "user", "content": "x", "colour": 1}]}, "messages[0].colour", "is not known"),
    ({"max_tokens": 0}, "max_tokens", "from 1 to 65536 on this server, found 0"),
    ({"max_tokens": 10**400}, "max_tokens", "found a number far beyond"),
    ({"max_tokens": 1.5}, "max_tokens", "must be a whole number"),
    ({"max_tokens": True}, "max_tokens", "must be a whole number, found true or false"),
    ({"temperature": -0.1}, "temperature", "from 0 to 2"),
    ({"temperature": "hot"}, "temperature", "must be a number, found a string"),
    ({"top_p": 1.1}, "top_p", "from 0 to 1"),
    ({"seed": 2**63}, "seed", "found a number far beyond"),
    ({"n": 17}, "n", "from 1 to 16"),
    ({"stream": "yes"}, "stream", "must be true or false, found a string"),
    ({"stop": ["x"]}, "stop", "is not supported"),
    ({"tools": [{"type": "function"}]}, "tools", "functions of the client are not called"),
    ({"tool_choice": "required"}, "tool_choice", "is not supported"),
    ({"response_format": {"type": "json_object"}}, "response_format", "plain text"),
    ({"logprobs": True}, "logprobs", "is not supported"),
    ({"frequency_penalty": 0.5}, "frequency_penalty", "is not supported"),
    ({"logit_bias": {"5": 1}}, "logit_bias", "is not supported"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "is not supported"),
    ({"temprature": 1}, "temprature", "is not known to this server"),
    ({"thor": {"attempts": 17}}, "thor.attempts", "from 1 to 16"),
    ({"n": 4, "thor": {"attempts": 5}}, "thor.attempts", "from 1 to 4"),
    ({"thor": {"select": "best"}}, "thor.select", "must be one of pass-rate"),
    ({"thor": {"calls": 33}}, "thor.calls", "from 0 to 32"),
    ({"thor": {"transcript": "short"}}, "thor.transcript", "must be one of all, kept"),
    ({"thor": {"correction": {"attempts": 9}}}, "thor.correction.attempts", "from 1 to 8"),
    ({"thor": {"correction": {"scope": 9}}}, "thor.correction.scope", "must be a string, found a number"),
    ({"thor": {"correction": {"scope": "all"}}}, "thor.correction.scope", "must be one of none, action, suffix"),
    ({"thor": {"correction": {"length": 9}}}, "thor.correction.length", "is not known"),
    ({"thor": {"tools": False, "correction": True}}, "thor.correction", "thor.tools is false"),
    ({"thor": {"sandbox": "none"}}, "thor.sandbox", "is not known"),
    ({"thor": []}, "thor", "must be a JSON object"),
    ({"stream_options": {"usage": True}}, "stream_options.usage", "is not known"),
]


@pytest.mark.parametrize(("fields", "param", "words"), REFUSED, ids=[str(f)[:40] for f, _, _ in REFUSED])
def test_a_request_for_what_is_not_there_or_too_much_is_refused_by_name(
    fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        chat_request({**asks(), **fields}, MODEL, DEFAULTS)
    assert refused.value.param == param
    assert words in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_plain_completion_takes_a_text_or_token_ids_and_stop_strings() -> None:
    assert completion(prompt=["We"]).prompt == "We"
    assert completion(prompt=[5, 6]).prompt == completion(prompt=[[5, 6]]).prompt == (5, 6)
    assert completion(stop="\n").stop == ("\n",)
    assert completion(stop=["a", "b"], max_tokens=3).rollout.max_completion_length == 3


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"stop": ["x"] * 9}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"echo": True}, "echo"),
        ({"logprobs": 1}, "logprobs"),
        ({"thor": {"tools": True}}, "thor"),
        ({"messages": []}, "messages"),
    ],
)
def test_a_plain_completion_refuses_by_name_as_well(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        completion(**fields)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"n": NaN}', "NaN is not JSON"),
        (b'{"n": Infinity}', "Infinity is not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[1]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"[" * 100_000, f"more than {MAX_DEPTH} deep"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, f"more than {MAX_DEPTH} deep"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", f"more than {MAX_DEPTH} deep"),
    ],
)
def test_a_body_that_is_no_plain_object_is_refused_in_one_sentence(body: bytes, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        parse_json(body)


def test_a_body_as_deep_as_is_allowed_is_read() -> None:
    inner = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert "a" in parse_json(b'{"a":' + inner + b"}")


def test_defaults_above_the_bounds_are_refused_before_the_server_starts() -> None:
    with pytest.raises(ValueError, match="stand above the bounds"):
        ServedDefaults(bounds=Bounds(max_tokens=100))
