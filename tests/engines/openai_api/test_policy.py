"""A policy on a real local server that is asked well and answers badly."""

import asyncio
import json
from email.utils import formatdate
from time import time

import pytest

from endpoint_policies import CONFIG, ENOUGH, FENCE, GOOD, QUICK, ask, policy_on, text_of
from endpoint_server import Server, completion, floods, hangs, resets, says, sends, serving, streams
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.openai_api.capabilities import PromptFormat
from thor_tir.engines.openai_api.client import retry_after_s
from thor_tir.engines.openai_api.policy import EndpointConfig, EndpointPolicy
from thor_tir.engines.openai_api.retry import RetryConfig
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.errors import EngineFault, RequestFault, UsageError
from thor_tir.trajectory import Completion, StopReason
from tiny_models import tiny_tokenizer

FAULTS = {
    "a reset": resets,
    "a closed connection": sends(b""),
    "a server error": says({"error": {"message": "oops"}}, 500),
    "too many requests": says({}, 429, {"Retry-After": "0"}),
    "truncated JSON": says(b'{"choices": [{"te'),
    "a truncated body": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}"),
    "no HTTP": sends(b"hello"),
    "empty choices": says({"choices": []}),
    "another role": says({"choices": [{"message": {"role": "user", "content": "4"}, "finish_reason": "stop"}]}),
    "an endless reply": floods,
    "a compressed reply": says(b"\x1f\x8b", 200, {"Content-Encoding": "gzip"}),
    "a megabyte of error": says(b"x" * 2**20, 500),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_machine_is_met_by_asking_again(name):
    (found,) = ask(FAULTS[name], FAULTS[name], GOOD)
    assert text_of(found) == "four"
    assert found.stop is StopReason.END


def test_a_reply_that_says_it_is_not_compressed_is_taken_at_its_word():
    plain = says(completion("four", stop_reason=None), 200, {"Content-Encoding": "identity"})
    assert text_of(ask(plain)[0]) == "four"


def test_a_request_that_fails_alone_is_given_up_while_others_go_on():
    async def work() -> tuple[str, list[str]]:
        async def poisoned(asked, writer):
            behave = says({}, 500) if "poison" in json.dumps(asked.body) else GOOD
            await behave(asked, writer)

        async with serving() as server, policy_on(server) as policy:
            server.usual = poisoned
            dialect = Dialect(policy.tokenizer)
            bad = asyncio.create_task(policy.sample(dialect.prompt("poison").token_ids, ENOUGH))
            good = []
            while not bad.done():
                good.append(text_of(await policy.sample(dialect.prompt("fine").token_ids, ENOUGH)))
            return str(bad.exception()), good

    reason, good = asyncio.run(work())
    assert "answers others" in reason
    assert set(good) == {"four"}


def test_a_dead_server_pauses_everything_and_nothing_is_lost_when_it_comes_back():
    said: list[str] = []

    async def work() -> list[Completion]:
        patient = EndpointConfig(retry=RetryConfig(retries=1, tolerance=3, backoff_s=0.01, patience_s=60))
        async with serving() as server, policy_on(server, said=said, config=patient) as policy:
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            await server.stop()
            tasks = [asyncio.create_task(policy.sample(ids, ENOUGH)) for _ in range(40)]
            async with asyncio.timeout(60):
                while not said:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.005)
            assert not any(task.done() for task in tasks)  # no question was given up
            await server.start()
            return list(await asyncio.gather(*tasks))

    found = asyncio.run(work())
    assert [text_of(each) for each in found] == ["four"] * 40
    assert "the run waits" in said[0]
    assert "is back" in said[-1]


def test_a_server_that_stays_dead_ends_the_run_with_one_sentence_that_says_how_to_go_on():
    with pytest.raises(EngineFault, match="has answered nothing for") as caught:
        ask(*[resets] * 1000, num=20)
    assert "give the same command again" in str(caught.value)


def test_a_server_that_only_ever_asks_to_wait_ends_the_run_too():
    with pytest.raises(EngineFault, match="429"):
        ask(*[says({}, 429, {"Retry-After": "0.01"})] * 1000, num=3)


def test_a_request_that_the_server_refuses_is_dropped_and_a_server_that_refuses_all_ends_the_run():
    refusal = says({"error": {"message": "bad words"}}, 400)
    with pytest.raises(RequestFault, match="bad words"):
        ask(refusal)

    async def work() -> list[BaseException | Completion]:
        async with serving() as server, policy_on(server) as policy:
            server.usual = refusal
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            return [*await asyncio.gather(*(policy.sample(ids, ENOUGH) for _ in range(9)), return_exceptions=True)]

    kinds = [type(each) for each in asyncio.run(work())]
    assert kinds.count(EngineFault) == 9 - (QUICK.tolerance - 1)  # from the sixth refusal on


def test_a_wrong_key_is_the_users_mistake_and_is_not_asked_about_twice():
    with pytest.raises(UsageError, match="OPENAI_API_KEY"):
        ask(says({"error": {"message": "bad key"}}, 401))


def test_a_prompt_that_fills_the_context_is_said_to():
    told = {"error": {"message": "This model's maximum context length is 4096 tokens."}}
    with pytest.raises(ContextFull):
        ask(says(told, 400))


def test_the_key_comes_from_the_environment_and_stands_nowhere_else(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-secret")

    async def work() -> tuple[Server, EndpointPolicy]:
        async with serving() as server, policy_on(server, key_variable="MY_KEY") as policy:
            return server, policy

    server, policy = asyncio.run(work())
    assert server.asked[0].headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in repr(policy.served) + repr(policy.config) + repr(policy.about)


def test_without_a_key_none_is_sent_and_a_line_end_behind_one_is_no_part_of_it(monkeypatch):
    async def sent() -> str | None:
        async with serving() as server, policy_on(server, key_variable="MY_KEY"):
            return server.asked[0].headers.get("authorization")

    monkeypatch.delenv("MY_KEY", raising=False)
    assert asyncio.run(sent()) is None
    monkeypatch.setenv("MY_KEY", "sk-secret\r\n")
    assert asyncio.run(sent()) == "Bearer sk-secret"


@pytest.mark.parametrize("key", ["sk-a\r\nX-Other: b", "sk-\N{SNOWMAN}"])
def test_a_key_that_no_request_can_carry_is_the_users_mistake(monkeypatch, key):
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UsageError, match="MY_KEY") as told:
        ask(key_variable="MY_KEY")
    assert "sk-" not in str(told.value)


def test_a_redirect_is_not_followed_but_told():
    with pytest.raises(UsageError, match=r"HTTP 308.*it stands at 'https://elsewhere/v1'"):
        opened(usual=says({}, 308, {"Location": "https://elsewhere/v1"}))


@pytest.mark.parametrize(
    "said", [{"error": {"message": "no"}}, {"error": "no"}, {"message": "no"}, {"detail": "no"}, b"no"]
)
def test_what_a_server_says_of_its_refusal_is_told(said):
    with pytest.raises(RequestFault, match=r"HTTP 422 no$"):
        ask(says(said, 422))


def test_no_more_requests_are_open_at_once_than_allowed():
    async def work() -> int:
        few = EndpointConfig(concurrency=3, retry=QUICK)
        async with serving() as server, policy_on(server, config=few) as policy:
            ids = Dialect(policy.tokenizer).prompt("What is 2 + 2?").token_ids
            await asyncio.gather(*(policy.sample(ids, ENOUGH) for _ in range(30)))
            return server.most_open

    assert asyncio.run(work()) == 3


def test_a_server_that_does_not_tell_stops_is_read_piece_by_piece_and_hung_up_on():
    async def work() -> tuple[Completion, Server, str]:
        async with serving(usual=says(completion("9"))) as server, policy_on(server) as policy:
            server.script = [streams("print(4)\n", "``", "`\nAnd", then_hangs=True)]
            found = await policy.sample(Dialect(policy.tokenizer).prompt("?").token_ids, ENOUGH)
            async with asyncio.timeout(60):
                while server.open:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.005)
            return found, server, policy.about["stops"]

    found, server, stops = asyncio.run(work())
    assert text_of(found) == f"print(4){FENCE}"
    assert found.stop is StopReason.STOP
    assert stops == "cut here"
    assert "stop" not in server.asked[-1].body  # the server must not cut what it does not tell


def test_a_slow_server_is_given_up_in_time_and_asked_again():
    hasty = EndpointConfig(retry=RetryConfig(retries=9, backoff_s=0.001), timeout_s=1.0)
    assert text_of(ask(hangs, GOOD, config=hasty)[0]) == "four"


def test_a_server_that_tells_ids_is_spoken_to_in_ids(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    sampled = [*tokenizer.encode("Because"), tokenizer.eos_token_id]

    async def work() -> tuple[Completion, Server, EndpointPolicy]:
        usual = says(completion("Because", token_ids=[5], stop_reason=None))
        models = [{"id": "m", "max_model_len": 30}]
        async with serving(usual=usual, models=models) as server:
            async with policy_on(server, tokenizer=str(tmp_path)) as policy:
                server.script = [says(completion("Because", token_ids=sampled, stop_reason=None))]
                found = await policy.sample(list(range(10)), Sampling(max_tokens=50, top_k=7, seed=2**62 + 3))
                with pytest.raises(ContextFull):
                    await policy.sample(list(range(30)), ENOUGH)
            return found, server, policy

    found, server, policy = asyncio.run(work())
    assert policy.speech.manner is PromptFormat.IDS
    assert list(found.span.token_ids) == sampled
    assert found.span.logprobs is None
    body = server.asked[-1].body
    assert body["prompt"] == list(range(10))
    assert body["return_token_ids"] is True
    assert body["max_tokens"] == 20  # 30 of context, 10 of prompt
    assert body["top_k"] == 7
    assert body["seed"] == 3  # 2**62 is a multiple of 2**31


def test_a_server_that_takes_no_ids_and_no_extras_is_sent_text_in_the_models_template(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)

    async def strict(asked, writer):
        known = {"model", "prompt", "max_tokens", "temperature", "top_p", "seed", "stop", "stream"}
        is_plain = asked.body.keys() <= known and isinstance(asked.body["prompt"], str)
        await (says(completion("four")) if is_plain else says({"detail": "unexpected"}, 422))(asked, writer)

    async def work() -> tuple[Completion, Server, EndpointPolicy]:
        async with serving(usual=strict) as server, policy_on(server, tokenizer=str(tmp_path)) as policy:
            prompt = Dialect(policy.tokenizer).prompt("Why?")
            return await policy.sample(prompt.token_ids, Sampling(max_tokens=9, top_k=7)), server, policy

    found, server, policy = asyncio.run(work())
    assert policy.speech.manner is PromptFormat.TEXT
    assert server.asked[-1].body["prompt"].startswith("<|")
    end = policy.tokenizer.eos_token_id
    assert list(found.span.token_ids) == [*policy.tokenizer.encode("four"), end]
    assert found.num_tokens == 3  # the server's count, not the length of what was encoded here


def test_a_chat_server_that_continues_the_assistants_turn_is_sent_messages():
    async def chat(asked, writer):
        content = "9, 10" if asked.body["messages"][-1]["role"] == "assistant" else "four"
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop", "stop_reason": None}
        await says({"choices": [choice]})(asked, writer)

    async def work() -> tuple[Server, EndpointPolicy]:
        async with serving(usual=chat) as server, policy_on(server) as policy:
            dialect = Dialect(policy.tokenizer)
            ids = dialect.prompt("Why?").token_ids
            await policy.sample(ids, ENOUGH)
            await policy.sample((*ids, *dialect.encode("Because")), ENOUGH)
            return server, policy

    server, policy = asyncio.run(work())
    assert policy.speech.manner is PromptFormat.CHAT
    first, second = (each.body for each in server.asked[-2:])
    assert [turn["role"] for turn in first["messages"]] == ["system", "user"]
    assert first["add_generation_prompt"] is True
    assert first["chat_template_kwargs"] == {"enable_thinking": False}
    assert second["messages"][-1] == {"role": "assistant", "content": "Because"}
    assert second["continue_final_message"] is True


def test_a_server_that_starts_a_new_turn_is_sent_plain_text_instead():
    async def both(asked, writer):
        choice = {"message": {"role": "assistant", "content": "Sure! 1, 2"}, "finish_reason": "stop"}
        reply = {"choices": [choice]} if asked.path.startswith("/chat") else completion("9")
        await says(reply)(asked, writer)

    async def work() -> tuple[PromptFormat, str]:
        async with serving(usual=both) as server, policy_on(server) as policy:
            ids = Dialect(policy.tokenizer).prompt("Why?").token_ids
            await policy.sample(ids, Sampling(max_tokens=9))
            return policy.speech.manner, server.asked[-1].body["prompt"]

    manner, prompt = asyncio.run(work())
    assert manner is PromptFormat.PLAIN
    assert prompt.endswith("\\boxed{}.\n\n")


def test_a_server_that_cannot_list_its_models_may_serve_the_one_that_is_named():
    async def work() -> str:
        async with serving(listing=says({}, 500)) as server, policy_on(server, model="mine") as policy:
            return policy.speech.model

    assert asyncio.run(work()) == "mine"


def test_a_connection_that_breaks_while_a_server_is_found_out_about_does_not_end_the_run():
    assert opened(script=[resets]).speech.manner is PromptFormat.PLAIN


def opened(**options) -> EndpointPolicy:
    async def work() -> EndpointPolicy:
        async with serving(**options) as server, policy_on(server) as policy:
            return policy

    return asyncio.run(work())


def test_what_no_server_serves_is_said_before_a_run_begins():
    with pytest.raises(UsageError, match="serves no single model"):
        opened(models=[{"id": "a"}, {"id": "b"}])
    with pytest.raises(
        UsageError, match=r"neither continues .* nor completes text for 'm' \(HTTP 404 no; HTTP 400 no\)"
    ):
        opened(usual=says({"error": {"message": "no"}}, 400), script=[says({"error": {"message": "no"}}, 404)])


def test_an_address_without_its_last_part_is_helped_out():
    async def work() -> None:
        async with serving(listing=says({}, 404)) as server:
            await EndpointPolicy(server.address.removesuffix("/v1"), config=CONFIG).__aenter__()

    with pytest.raises(UsageError, match=r"does not say what it serves.* or try http://127.0.0.1:\d+/v1"):
        asyncio.run(work())


def test_a_server_that_is_not_there_is_told_of_at_once():
    with pytest.raises(EngineFault, match="see that it runs"):
        asyncio.run(EndpointPolicy("http://127.0.0.1:9/v1", config=CONFIG).__aenter__())


def test_a_pause_may_be_asked_for_in_seconds_in_milliseconds_and_as_a_date():
    assert retry_after_s({"retry-after": "7"}) == 7
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_s({"retry-after": formatdate(time() + 60, usegmt=True)}) == pytest.approx(60, abs=5)
    assert retry_after_s({"retry-after": formatdate(time() - 60, usegmt=True)}) == 0
    assert retry_after_s({"retry-after": "soon"}) is None
    assert retry_after_s({"retry-after": "inf"}) is None
    assert retry_after_s({}) is None
