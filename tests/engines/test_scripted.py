import asyncio

import pytest

from thor_tir.engines.protocol import Sampling
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.trajectory import Completion, StopReason
from tiny_models import END, tiny_tokenizer


def encoded(text: str) -> list[int]:
    return tiny_tokenizer().encode(text)


def ask(policy: ScriptedPolicy, text: str, **settings) -> Completion:
    return asyncio.run(policy.sample(encoded(text), Sampling(**{"max_tokens": 100, **settings})))


def text_of(completion: Completion) -> str:
    return tiny_tokenizer().decode(completion.span.token_ids)


def test_a_reply_ends_with_the_end_of_sequence_token():
    completion = ask(ScriptedPolicy(tiny_tokenizer(), ["So the answer is 77."]), "What?")
    assert text_of(completion) == f"So the answer is 77.{END}"
    assert completion.stop is StopReason.END


def test_a_reply_is_cut_after_the_token_that_completes_a_stop_string_and_not_within_it():
    completion = ask(ScriptedPolicy(tiny_tokenizer(), ["print(2) the end"]), "What?", stop=(" t",))
    # " the" is one token of this tokenizer
    assert (text_of(completion), completion.stop) == ("print(2) the", StopReason.STOP)


def test_a_reply_is_cut_at_max_tokens():
    completion = ask(ScriptedPolicy(tiny_tokenizer(), ["So the answer is 77."]), "What?", max_tokens=3)
    assert completion.span.token_ids == tuple(encoded("So the answer is 77.")[:3])
    assert completion.stop is StopReason.LENGTH


def test_prompts_choose_their_script_by_the_longest_text_they_contain():
    policy = ScriptedPolicy(tiny_tokenizer(), {"": ["other"], "primes": ["one", "two"], "primes below": ["three"]})
    asked = ["sum of primes below 20", "primes", "a", "many primes"]
    assert [text_of(ask(policy, text)).removesuffix(END) for text in asked] == ["three", "one", "other", "two"]
    assert [request.text for request in policy.asked] == asked


def test_a_script_that_is_used_up_is_an_error_that_shows_the_prompt():
    policy = ScriptedPolicy(tiny_tokenizer(), ["only"])
    ask(policy, "first")
    with pytest.raises(LookupError, match="request 2, whose prompt ends with 'second'"):
        ask(policy, "second")
