"""What servers answer in their own way: other names, other fields, other ends of a turn, and what is no completion."""

import asyncio
import json

import pytest
from transformers import PreTrainedTokenizerFast

from endpoint_policies import CONFIG, ENOUGH, FENCE, GOOD, ask, policy_on, text_of
from endpoint_server import Server, completion, resets, says, serving
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy, ServedAs
from thor_tir.engines.openai_api.retry import RetryConfig
from thor_tir.engines.protocol import Sampling
from thor_tir.errors import EngineFault, RequestFault
from thor_tir.trajectory import Completion, StopReason
from tiny_models import END, PAD, tiny_tokenizer

BAD_ANSWERS = {
    "no choices": {"id": "x"},
    "empty choices": {"choices": []},
    "another role": {"choices": [{"message": {"role": "user", "content": "4"}, "finish_reason": "stop"}]},
    "content that is a number": {"choices": [{"text": 4, "finish_reason": "stop"}]},
    "more than asked for": {"choices": [{"text": "x" * 30_000, "finish_reason": "stop"}]},
    "more bytes than allowed": {"choices": [{"text": "x" * 300_000, "finish_reason": "stop"}]},
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_reply_that_is_no_completion_is_its_requests_fault_and_the_server_is_not_waited_for(name):
    said: list[str] = []

    async def work() -> tuple[str, list[str], int]:
        async def answers(asked, writer):
            behave = says(BAD_ANSWERS[name]) if "poison" in json.dumps(asked.body) else GOOD
            await behave(asked, writer)

        patient = EndpointConfig(retry=RetryConfig(backoff_s=0.001), timeout_s=5.0, max_reply_bytes=200_000)
        async with serving() as server, policy_on(server, said=said, config=patient) as policy:
            server.usual = answers
            dialect = Dialect(policy.tokenizer)
            before = len(server.asked)
            with pytest.raises(RequestFault) as fault:
                await policy.sample(dialect.prompt("poison").token_ids, ENOUGH)
            asked = len(server.asked) - before
            good = [text_of(await policy.sample(dialect.prompt("fine").token_ids, ENOUGH))]
            return str(fault.value), good, asked

    reason, good, num_asked = asyncio.run(work())
    assert "refuses one request: a broken reply" in reason
    assert (good, said, num_asked) == (["four"], [], 3)


def test_a_server_whose_every_reply_is_no_completion_ends_the_run_in_one_sentence():
    async def work() -> list[str]:
        async with serving() as server, policy_on(server) as policy:
            server.usual = says({"choices": []})
            tasks = [policy.sample(Dialect(policy.tokenizer).prompt("Why?").token_ids, ENOUGH) for _ in range(20)]
            found = await asyncio.gather(*tasks, return_exceptions=True)
            return [str(each) for each in found if isinstance(each, EngineFault)]

    faults = asyncio.run(work())
    assert faults
    assert all("refuses whatever it is asked: a broken reply: no choices" in fault for fault in faults)


@pytest.mark.parametrize(
    ("choice", "text", "stop"),
    [
        ({"message": None, "finish_reason": "content_filter"}, "", StopReason.END),
        ({"message": {"reasoning_content": "hm"}, "finish_reason": "length"}, "<think>hm", StopReason.LENGTH),
        ({"message": {"content": "four"}, "finish_reason": "end_turn"}, "four", StopReason.END),
        ({"message": {"content": "four"}, "finish_reason": "max_tokens"}, "four", StopReason.LENGTH),
        ({"message": {"content": [{"type": "text", "text": "four"}]}, "finish_reason": "stop"}, "four", StopReason.END),
    ],
)
def test_what_a_reply_says_in_its_own_way_is_taken_at_the_first_try(choice, text, stop):
    said: list[str] = []
    (found,) = ask(says({"choices": [choice]}), resets, said=said)
    assert (text_of(found), found.stop, said) == (text, stop, [])


def with_template(folder, template: str) -> None:
    """A tokenizer whose template ends turns with a token that is not its end of sequence."""
    backend = tiny_tokenizer().backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=PAD, chat_template=template).save_pretrained(folder)


ENDING = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


def test_a_server_that_takes_ids_is_told_every_end_of_a_turn_and_cut_behind_the_first(tmp_path):
    with_template(tmp_path, ENDING)
    four = tiny_tokenizer().encode("four")
    end = tiny_tokenizer().convert_tokens_to_ids(END)
    pad = tiny_tokenizer().pad_token_id

    async def work() -> tuple[list[Completion], Server]:
        usual = says(completion("four", token_ids=[5], stop_reason=None))
        async with serving(usual=usual) as server, policy_on(server, tokenizer=str(tmp_path)) as policy:
            replies = [[*four, end], [*four, end, *four], [*four, pad], four]
            server.script = [says(completion("four", token_ids=ids, stop_reason=None)) for ids in replies]
            return [await policy.sample(four, ENOUGH) for _ in replies], server

    found, server = asyncio.run(work())
    assert server.asked[-1].body["stop_token_ids"] == sorted([end, pad])
    assert [list(each.span.token_ids) for each in found] == [[*four, end], [*four, end], [*four, pad], [*four, end]]
    assert {each.stop for each in found} == {StopReason.END}


def test_a_server_that_takes_text_alone_is_given_the_end_of_a_turn_as_a_stop_string(tmp_path):
    with_template(tmp_path, ENDING)

    async def strict(asked, writer):
        known = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"}
        is_plain = asked.body.keys() <= known and isinstance(asked.body["prompt"], str)
        await (says(completion(f"four{END}", stop_reason=None)) if is_plain else says({}, 422))(asked, writer)

    async def work() -> tuple[Completion, Server]:
        async with serving(usual=strict) as server, policy_on(server, tokenizer=str(tmp_path)) as policy:
            stop = ("\n```\n", "\n``` \n", "\n```  \n", "\n```\r\n")
            return await policy.sample([4], Sampling(max_tokens=50, stop=stop)), server

    found, server = asyncio.run(work())
    assert server.asked[-1].body["stop"] == [END, "\n```\n", "\n``` \n", "\n```  \n"]  # a server must take four
    end = tiny_tokenizer().convert_tokens_to_ids(END)
    assert list(found.span.token_ids) == [*tiny_tokenizer().encode("four"), end]


def test_an_end_that_a_user_names_ends_turns_of_a_model_that_is_known_by_text_alone():
    async def work() -> tuple[Completion, Server]:
        async with (
            serving() as server,
            EndpointPolicy(server.address, ServedAs(), CONFIG, end_tokens=["<|eot|>"]) as policy,
        ):
            server.script = [says(completion("four<|eot|>five", stop_reason=None))]
            return await policy.sample(Dialect(policy.tokenizer).prompt("2 + 2?").token_ids, ENOUGH), server

    found, server = asyncio.run(work())
    assert (text_of(found), found.stop) == ("four", StopReason.END)
    assert server.asked[-1].body["stop"] == ["<|eot|>", FENCE]


@pytest.mark.parametrize("head", [b"", b"\n "])
def test_a_server_that_does_not_stream_is_read_whole(head):
    async def work() -> tuple[Completion, Server]:
        plain = completion(f"print(4){FENCE}more")
        async with serving(usual=says(head + json.dumps(plain).encode())) as server, policy_on(server) as policy:
            assert not policy.speech.tells_stop
            return await policy.sample(Dialect(policy.tokenizer).prompt("2 + 2?").token_ids, ENOUGH), server

    found, server = asyncio.run(work())
    assert server.asked[-1].body["stream"] is True
    assert (text_of(found), found.stop) == (f"print(4){FENCE}", StopReason.STOP)
