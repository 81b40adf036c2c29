"""Replies of servers, good and hostile: each is a completion or one sentence, never a crash."""

import json

import pytest

from thor_tir.engines.openai_api.responses import BrokenReply, CutReply, Expected, Gathering, whole_reply
from thor_tir.trajectory import StopReason

FENCE = "\n```\n"
THOUGHT, FOUR = "<think>hm</think>4", {"type": "text", "text": "4"}


def body(**choice) -> bytes:
    return json.dumps({"choices": [{"text": "four", "finish_reason": "stop", **choice}]}).encode()


def read(data: bytes, *, stop=(FENCE,), max_tokens=100, **expected):
    return whole_reply(data, Expected(stop=stop, max_tokens=max_tokens, **expected))


def message(finish: object = "stop", **said) -> bytes:
    return json.dumps({"choices": [{"message": said, "finish_reason": finish}]}).encode()


def test_a_finish_reason_says_how_a_completion_ended():
    assert read(body()).stop is StopReason.END
    assert read(body(finish_reason="length")).stop is StopReason.LENGTH
    assert read(body(finish_reason="content_filter")).stop is StopReason.END


@pytest.mark.parametrize("key", ["stop_reason", "matched_stop"])
def test_a_stop_string_that_a_server_left_out_is_restored(key):
    reply = read(body(text="```python\nprint(4)", **{key: FENCE}))
    assert reply.text == "```python\nprint(4)\n```\n"
    assert reply.stop is StopReason.STOP
    assert reply.tells_stop


def test_a_stop_string_that_a_server_left_in_is_not_doubled():
    assert read(body(text=f"print(4){FENCE}", stop_reason=FENCE)).text == f"print(4){FENCE}"


def test_an_end_of_turn_within_an_open_program_is_not_taken_for_its_closing_fence():
    reply = read(body(text="```python\nprint(4)", stop_reason=None))
    assert reply.text == "```python\nprint(4)"
    assert reply.stop is StopReason.END


def test_text_after_a_stop_string_is_cut_where_the_server_went_on():
    reply = read(body(text=f"print(4){FENCE}and more", finish_reason="length"))
    assert (reply.text, reply.stop) == (f"print(4){FENCE}", StopReason.STOP)


def test_the_first_of_several_stop_strings_counts():
    assert read(body(text="a;b.c"), stop=(".", ";")).text == "a;"


def test_nothing_said_is_a_completion_like_any_other():
    assert read(body(text="")).text == ""
    assert read(json.dumps({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}).encode()).text == ""


def test_control_characters_are_text_and_halves_of_characters_are_replaced():
    assert read(body(text="a\x00\x1b[31m\u2028b")).text == "a\x00\x1b[31m\u2028b"
    assert read(b'{"choices": [{"text": "a\\ud800b", "finish_reason": "stop"}]}').text == "a?b"


def test_fences_inside_fences_are_text():
    text = "```python\ns = '''\n```python\nprint(1)\n```"
    assert read(body(text=text)).text == text


def test_the_servers_own_count_of_tokens_is_taken():
    data = json.dumps({"choices": [{"text": "x", "finish_reason": "stop"}], "usage": {"completion_tokens": 7}})
    assert read(data.encode()).num_tokens == 7


BROKEN = {
    "half a JSON": body()[:-10],
    "no JSON": b"<html>",
    "deep JSON": b"[" * 100_000,
    "a list": b"[]",
    "no choices": b"{}",
    "empty choices": b'{"choices": []}',
    "choices that are text": b'{"choices": "none"}',
    "a choice that is text": b'{"choices": ["four"]}',
    "text that is a number": body(text=4),
    "an error": b'{"error": {"message": "Internal upstream", "code": 502}}',
    "an error beside empty choices": b'{"choices": [], "error": {"message": "Internal upstream"}}',
    "a server that gave up": body(finish_reason="abort"),
    "a finish reason that is a list": body(finish_reason=[1]),
    "the user's turn": b'{"choices": [{"message": {"role": "user", "content": "4"}, "finish_reason": "stop"}]}',
    "a message that is text": b'{"choices": [{"message": "4", "finish_reason": "stop"}]}',
    "more text than tokens can hold": body(text="x" * 100_000),
    "more token ids than asked for": body(token_ids=[1] * 101),
    "token ids that are text": body(token_ids=["a"]),
    "token ids below zero": body(token_ids=[-1]),
}
OF_THE_SERVER = {
    "half a JSON",
    "no JSON",
    "an error",
    "an error beside empty choices",
    "a server that gave up",
}
"""What another try may not meet."""


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_completion_is_said_in_one_sentence(name):
    with pytest.raises(BrokenReply) as caught:
        read(BROKEN[name])
    assert len(str(caught.value)) < 200
    assert isinstance(caught.value, CutReply) is (name in OF_THE_SERVER)


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("max_tokens", StopReason.LENGTH),
        ("MAX_TOKENS", StopReason.LENGTH),
        ("model_length", StopReason.LENGTH),
        ("end_turn", StopReason.END),
        ("stop_sequence", StopReason.END),
        ("eos_token", StopReason.END),
        ("COMPLETE", StopReason.END),
        ("sleepy", StopReason.END),
        (None, StopReason.END),
        ("", StopReason.END),
    ],
)
def test_a_finish_reason_of_any_name_is_a_limit_or_an_end(finish, stop):
    reply = read(body(finish_reason=finish))
    assert (reply.text, reply.stop) == ("four", stop)


def test_a_reply_without_finish_reason_that_has_all_its_tokens_was_cut_by_the_limit():
    data = json.dumps({"choices": [{"text": "x"}], "usage": {"completion_tokens": 100}}).encode()
    assert read(data).stop is StopReason.LENGTH


@pytest.mark.parametrize(
    ("said", "finish", "text"),
    [
        ({"reasoning_content": "hm", "content": "4"}, "stop", "<think>hm</think>4"),
        ({"reasoning": "hm", "content": "4"}, "stop", "<think>hm</think>4"),
        ({"thinking": "hm", "content": "4"}, "length", "<think>hm</think>4"),
        ({"reasoning_content": "lots of words", "content": None}, "length", "<think>lots of words"),
        ({"reasoning_content": "lots of words"}, "stop", "<think>lots of words</think>"),
        ({"reasoning_content": "", "content": "4"}, "stop", "4"),
        ({"reasoning_content": None, "content": "4"}, "stop", "4"),
        (
            {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": "4"},
            "stop",
            "<think>hm</think>4",
        ),
        ({"content": [{"type": "text", "text": "It is "}, {"type": "text", "text": "4"}]}, "stop", "It is 4"),
        ({"content": [{"type": "output_text", "text": "4"}]}, "stop", "4"),
        ({"content": ["It is ", "4"]}, "stop", "It is 4"),
        (
            {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "4"}]},
            "stop",
            "<think>hm</think>4",
        ),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                    {"type": "text", "text": "4"},
                ]
            },
            "stop",
            "<think>hm</think>4",
        ),
        ({"content": [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "4"}]}, "stop", "4"),
        ({"content": []}, "stop", ""),
        ({"content": None}, "content_filter", ""),
        ({"content": None, "tool_calls": [{}]}, "tool_calls", ""),
    ],
)
def test_a_message_is_read_with_its_thoughts_between_tags_and_its_parts_in_order(said, finish, text):
    assert read(message(finish, role="assistant", **said)).text == text


def test_no_message_is_nothing_said():
    reply = read(b'{"choices": [{"message": null, "finish_reason": "content_filter"}]}')
    assert (reply.text, reply.stop) == ("", StopReason.END)


def test_thoughts_that_the_turn_has_begun_already_get_no_second_tag():
    data = message("stop", reasoning_content="go on", content="4")
    assert read(data, has_begun_thinking=True).text == "go on</think>4"


def test_a_program_in_thoughts_told_apart_is_cut_at_its_closing_fence():
    reply = read(message("stop", reasoning_content=f"```python\nprint(4){FENCE}so 4", content="4"))
    assert (reply.text, reply.stop) == (f"<think>```python\nprint(4){FENCE}", StopReason.STOP)


@pytest.mark.parametrize("text", ["It is 4.<|im_end|>", "It is 4.<|im_end|>\n<|im_start|>user\nAnd now?"])
def test_a_token_that_ends_a_turn_is_no_text_and_nothing_follows_it(text):
    reply = read(body(text=text, finish_reason="length"), ends=("<|im_end|>",))
    assert (reply.text, reply.stop) == ("It is 4.", StopReason.END)


def test_ids_are_cut_behind_the_first_token_that_ends_a_turn():
    reply = read(body(token_ids=[5, 6, 9, 5], finish_reason="length"), end_ids=frozenset({9, 10}))
    assert (reply.token_ids, reply.stop) == ((5, 6, 9), StopReason.END)


def gathered(*values, stop=(FENCE,)):
    gathering = Gathering(Expected(stop=stop, max_tokens=50, ends=("<|im_end|>",)))
    num_read = 0
    for value in values:
        num_read += 1
        if gathering.add(value if isinstance(value, str) else "data: " + json.dumps(value)):
            break
    return gathering.reply(), num_read


def piece(text: str, finish: str | None = None) -> dict:
    return {"choices": [{"text": text, "finish_reason": finish}]}


def test_a_stream_is_cut_at_a_stop_string_that_is_split_over_its_pieces():
    reply, read_pieces = gathered(piece("print(4)\n"), piece("``"), piece("`\nand"), piece(" more"))
    assert reply.text == f"print(4){FENCE}"
    assert reply.stop is StopReason.STOP
    assert read_pieces == 3  # the rest is not waited for
    assert reply.num_tokens == 3  # pieces with text, where the server tells no count


def test_a_stream_ends_with_its_finish_reason_and_may_tell_its_usage_afterwards():
    usage = {"choices": [], "usage": {"completion_tokens": 9}}
    reply, _ = gathered(": a comment", "", piece("four"), piece("", "stop"), usage, "data: [DONE]")
    assert (reply.text, reply.stop, reply.num_tokens) == ("four", StopReason.END, 9)


def test_chat_pieces_are_read_like_others():
    deltas = [{"choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]}]
    deltas += [{"choices": [{"delta": {"content": "four"}, "finish_reason": "length"}]}]
    reply, _ = gathered(*deltas)
    assert (reply.text, reply.stop) == ("four", StopReason.LENGTH)


@pytest.mark.parametrize("last", ["data: {", 'data: {"error": {"message": "out of memory"}}', piece("x" * 30_000)])
def test_a_stream_that_breaks_is_said_in_one_sentence(last):
    with pytest.raises(BrokenReply):
        gathered(piece("fo"), last)


def test_a_stream_that_ends_without_a_finish_reason_is_not_whole():
    with pytest.raises(BrokenReply, match="not whole"):
        gathered(piece("fo"))


def delta(finish: str | None = None, **said) -> dict:
    return {"choices": [{"delta": said, "finish_reason": finish}]}


def test_thoughts_in_pieces_stand_between_tags():
    pieces = [delta(reasoning_content="h"), delta(reasoning_content="m"), delta(content="fo"), delta(content="ur")]
    reply, _ = gathered(*pieces, delta("stop"))
    assert (reply.text, reply.stop) == ("<think>hm</think>four", StopReason.END)


@pytest.mark.parametrize(("finish", "text"), [("length", "<think>hm"), ("stop", "<think>hm</think>")])
def test_pieces_of_thoughts_alone_are_closed_where_the_turn_ended(finish, text):
    assert gathered(delta(reasoning="hm"), delta(finish))[0].text == text


def test_a_stream_is_cut_where_a_token_ends_the_turn():
    reply, read_pieces = gathered(piece("four<|im"), piece("_end|>"), piece(" more"))
    assert (reply.text, reply.stop, read_pieces) == ("four", StopReason.END, 2)


def test_a_stream_may_end_with_any_finish_reason():
    assert gathered(piece("four"), piece("", "end_turn"))[0].stop is StopReason.END


@pytest.mark.parametrize(
    "data",
    [
        '{"choices": [{"text": "né", "finish_reason": "stop"}]}'.encode("latin-1"),
        '["é"]'.encode("latin-1"),
        b'[{"text": "four"}]',
        b'{"choices": [], "created": ' + b"9" * 6000 + b"}",
        b'{"choices": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"choices": [{"message": {"content": ' + b"[" * 600 + b'"4"' + b"]" * 600 + b"}}]}",
    ],
    ids=["latin-1", "latin-1 array", "array", "digits", "nested", "nested content"],
)
def test_a_whole_reply_that_no_try_changes_is_its_requests_fault(data):
    with pytest.raises(BrokenReply) as caught:
        read(data)
    assert not isinstance(caught.value, CutReply)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        "<html>Zugriff später</html>".encode("latin-1"),
        b'{"choices": [{"te',
        '{"choices": [{"text": "né'.encode()[:-1],
        b'{"error": "busy"}',
    ],
)
def test_what_something_on_the_way_may_have_sent_is_passing(data):
    with pytest.raises(CutReply):
        read(data)
