"""Answers over HTTP: text as it happened, its structure under `thor`, and the same text whole and streamed."""

from functools import partial
from typing import Any

import pytest

from scripted_agent import program
from served_scripts import ANSWER, CALL, DEFAULTS, SEEN, Running, with_server
from thor_tir.dialect.dialect import Thinking
from thor_tir.serving.answers import ThoughtReader
from tiny_models import tiny_tokenizer

THOUGHT = "Let us compute the product of both.\n"
BROKEN = THOUGHT + program("boom")
AGAIN = " both.\n" + program("print(77)")


def kept(thought: str = THOUGHT) -> str:
    """What stays of a thought whose end is cut."""
    ids = tiny_tokenizer().encode(thought, add_special_tokens=False)
    return tiny_tokenizer().decode(ids[: -DEFAULTS.correction.suffix_tokens])


def content_of(chunks: list[dict[str, Any]], index: int = 0, name: str = "content") -> str:
    deltas = [c["delta"] for chunk in chunks for c in chunk["choices"] if c["index"] == index]
    return "".join(delta.get(name, "") for delta in deltas)


def events_of(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [choice["thor"] for chunk in chunks for choice in chunk["choices"] if "thor" in choice]


def test_a_whole_answer_has_openais_form_the_text_of_all_that_happened_and_its_structure() -> None:
    async def work(running: Running) -> None:
        reply = await running.ask(seed=5)
        assert reply.status_code == 200
        body = reply.json()
        assert body.pop("id").startswith("chatcmpl-")
        assert (body["object"], body["model"]) == ("chat.completion", "scripted")
        (choice,) = body["choices"]
        assert choice["message"] == {"role": "assistant", "content": CALL + SEEN + ANSWER, "refusal": None}
        assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "stop", None)
        thor = choice["thor"]
        assert (thor["answer"], thor["finish"], thor["seed"]) == ("77", "ended", 5)
        first, last = thor["steps"]
        assert (first["thought"], first["code"], first["output"]) == ("We compute.\n", "print(77)\n", "77")
        assert (first["status"], first["error"]) == ("ok", None)
        assert last == {"thought": ANSWER, "code": None, "output": None}
        asked, prompt = running.policy.asked, len(running.policy.asked[0].token_ids)
        model = sum(len(tiny_tokenizer().encode(text, add_special_tokens=False)) for text in (CALL, ANSWER)) + 1
        assert body["usage"] == {
            "prompt_tokens": prompt,
            "completion_tokens": model,  # what the model wrote, its end of turn included, and not the output
            "total_tokens": prompt + model,
            "thor": {"discarded_tokens": 0, "discarded_calls": 0, "discarded_seconds": 0.0},
        }
        assert len(asked) == 2

    with_server([CALL, ANSWER], work)


@pytest.mark.parametrize(
    "replies",
    [
        [ANSWER],
        [CALL, ANSWER],
        [CALL, "😀 ünd €.\n" + program("print('😀')"), ANSWER],
        [BROKEN, AGAIN, ANSWER],
        [BROKEN, " both.\n" + program("boom"), " both.\n" + program("boom"), ANSWER],
    ],
)
@pytest.mark.parametrize("transcript", ["all", "kept"])
def test_a_streamed_answer_is_the_whole_one_in_pieces(replies: list[str], transcript: str) -> None:
    async def work(running: Running) -> None:
        whole = (await running.ask(seed=1, thor={"transcript": transcript})).json()
        chunks = await running.stream(seed=1, thor={"transcript": transcript}, stream_options={"include_usage": True})
        assert content_of(chunks) == whole["choices"][0]["message"]["content"]
        assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
        last = chunks[-2]["choices"][0]
        assert last["finish_reason"] == "stop"
        end, thor = last["thor"], whole["choices"][0]["thor"]
        assert end | {"seconds": 0} == {"kind": "end", **thor, "seconds": 0}

    with_server({"7 * 11?": replies * 2}, work)


def test_a_repair_is_shown_where_it_happens_and_the_kept_transcript_is_without_it() -> None:
    async def work(running: Running) -> None:
        all_text = (await running.ask()).json()["choices"][0]["message"]["content"]
        said = "```output\nNameError: name 'boom' is not defined\n```\n"
        assert all_text == (
            BROKEN + said + "\n[call 1 failed (NameError); repair 1]\n" + kept() + AGAIN + SEEN + ANSWER
        )
        body = (await running.ask(thor={"transcript": "kept"})).json()
        whole, encode = body["choices"][0], partial(tiny_tokenizer().encode, add_special_tokens=False)
        assert whole["message"]["content"] == kept() + AGAIN + SEEN + ANSWER
        lost = body["usage"]["thor"]
        assert (lost["discarded_calls"], lost["discarded_tokens"]) == (1, len(encode(BROKEN)) - len(encode(kept())))
        assert whole["thor"]["repairs"]["repaired"] == 1
        (old,) = whole["thor"]["steps"][0]["discarded"]
        assert (old["code"], old["status"], old["error"]) == ("boom\n", "runtime", "NameError")

    with_server([BROKEN, AGAIN, ANSWER] * 2, work)


def test_a_stream_says_when_programs_start_end_fail_and_are_repaired() -> None:
    async def work(running: Running) -> None:
        chunks = await running.stream()
        told = [(e["kind"], e["call"], e["repair"], e.get("status")) for e in events_of(chunks) if e["kind"] != "end"]
        assert told == [
            ("code", 1, 0, None),
            ("output", 1, 0, "runtime"),
            ("repair", 1, 1, "runtime"),
            ("code", 1, 1, None),
            ("output", 1, 1, "ok"),
            ("repaired", 1, 1, None),
        ]

    with_server([BROKEN, AGAIN, ANSWER], work)


def test_without_correction_the_error_stays_and_without_tools_no_program_is_run() -> None:
    async def work(running: Running) -> None:
        plain = (await running.ask("broken", thor={"correction": False})).json()["choices"][0]
        assert plain["thor"]["steps"][0]["status"] == "runtime"
        assert "repair" not in plain["message"]["content"]
        ran = len(running.sandbox.ran)
        words = (await running.ask("words", thor={"tools": False})).json()["choices"][0]
        assert words["message"]["content"] == CALL + ANSWER
        assert len(running.sandbox.ran) == ran

    with_server({"broken": [BROKEN, ANSWER], "words": [CALL + ANSWER]}, work)


def test_of_several_attempts_the_selectors_choice_is_the_answer_and_the_others_are_named() -> None:
    first, second = program("boom"), program("print(77)")
    scripts = {"7 * 11?": [first, second] * 2, "NameError:": ["Then \\boxed{5}."] * 2, SEEN: [ANSWER] * 2}

    async def work(running: Running) -> None:
        body = (await running.ask(seed=3, thor={"attempts": 2})).json()
        thor = body["choices"][0]["thor"]
        assert thor["answer"] == "77"
        assert body["choices"][0]["message"]["content"] == program("print(77)") + SEEN + ANSWER
        rows = [(c["answer"], c["calls"], c["succeeded"], c["is_chosen"]) for c in thor["candidates"]]
        assert rows == [("5", 1, 0, False), ("77", 1, 1, True)]
        chunks = await running.stream(seed=3, thor={"attempts": 2})
        kinds = [event["kind"] for event in events_of(chunks)]
        assert kinds == ["candidate", "candidate", "code", "output", "end"]
        assert content_of(chunks) == program("print(77)") + SEEN + ANSWER

    with_server(scripts, work)


def test_a_selector_that_asks_the_model_says_why_and_what_it_cost() -> None:
    scripts = {"7 * 11?": [r"\boxed{1}", r"\boxed{2}"], "Here are 2 solutions": ["CHOICE 1"]}

    async def work(running: Running) -> None:
        body = (await running.ask(seed=3, thor={"attempts": 2, "select": "gen-select"})).json()
        thor = body["choices"][0]["thor"]
        asked = running.policy.asked[-1].text
        assert thor["answer"] == ("1" if asked.index(r"\boxed{1}") < asked.index(r"\boxed{2}") else "2")
        assert "picked 1" in thor["reason"]
        assert (thor["asked"]["calls"], thor["asked"]["fallbacks"]) == (1, 0)
        written = thor["asked"]["tokens"]
        assert written > 0
        assert body["usage"]["completion_tokens"] == sum(c["tokens"] for c in thor["candidates"]) + written
        refused = await running.ask(thor={"attempts": 2, "select": "reward:http://10.0.0.1:80"})
        assert refused.status_code == 400  # places are the server's to name

    with_server(scripts, work, compares=True)


def test_several_choices_are_several_answers_with_seeds_of_their_own() -> None:
    async def work(running: Running) -> None:
        body = (await running.ask(n=3, seed=1)).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
        assert sorted(choice["thor"]["answer"] for choice in body["choices"]) == ["1", "2", "3"]
        assert len({asked.sampling.seed for asked in running.policy.asked}) == 3
        chunks = await running.stream(n=3, seed=1)
        assert sorted(content_of(chunks, index) for index in range(3)) == [f"\\boxed{{{i}}}" for i in (1, 2, 3)]

    with_server([f"\\boxed{{{i}}}" for i in (1, 2, 3)] * 2, work)


@pytest.mark.parametrize(
    ("fields", "finish", "reason"),
    [({"max_tokens": 3}, "token_limit", "length"), ({}, "ended", "stop")],
)
def test_the_reason_of_an_end_is_openais_word(fields: dict[str, Any], finish: str, reason: str) -> None:
    async def work(running: Running) -> None:
        choice = (await running.ask(**fields)).json()["choices"][0]
        assert (choice["thor"]["finish"], choice["finish_reason"]) == (finish, reason)

    with_server([ANSWER], work)


def test_sampling_and_limits_of_a_request_reach_the_model() -> None:
    async def work(running: Running) -> None:
        await running.ask(temperature=0.25, top_p=0.5, top_k=7, max_tokens=99)
        sampling = running.policy.asked[0].sampling
        assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_tokens) == (0.25, 0.5, 7, 99)

    with_server([ANSWER], work)


def test_a_conversation_reaches_the_model_with_its_turns() -> None:
    turns = [
        {"role": "system", "content": "Answer in verse."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "Four."},
        {"role": "user", "content": "7 * 11?"},
    ]

    async def work(running: Running) -> None:
        assert (await running.ask(messages=turns)).status_code == 200
        text = running.policy.asked[0].text
        places = [text.index(turn["content"]) for turn in turns]
        assert places == sorted(places)

    with_server([ANSWER], work)


@pytest.mark.parametrize("tags", [("<think>", "</think>"), ("[THINK]", "[/THINK]")])
def test_thoughts_of_a_reasoning_model_come_apart_from_its_answer(tags: tuple[str, str]) -> None:
    reply = f"{tags[0]}Hm, 7 * 11.{tags[1]}\n\n{ANSWER}"

    async def work(running: Running) -> None:
        message = (await running.ask()).json()["choices"][0]["message"]
        assert (message["reasoning_content"], message["content"]) == ("Hm, 7 * 11.", f"\n\n{ANSWER}")
        chunks = await running.stream()
        assert content_of(chunks) == f"\n\n{ANSWER}"
        assert content_of(chunks, name="reasoning_content") == "Hm, 7 * 11."

    with_server([reply] * 2, work, reasoning=True)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    ("thinking", "text", "thoughts", "rest"),
    [
        (Thinking.OWN, "<think>a < b</think>c", "a < b", "c"),
        (Thinking.OWN, " \n<think>a</think>", "a", ""),
        (Thinking.OWN, "no thought </think>", "", "no thought </think>"),
        (Thinking.OWN, "<thi", "", "<thi"),
        (Thinking.OPENED, "a</thi b</think>c</think>", "a</thi b", "c</think>"),
        (Thinking.OPENED, "never ends</thin", "never ends</thin", ""),
        (Thinking.NONE, "2 < 3 <b> ok", "", "2 < 3 <b> ok"),
        (Thinking.NONE, "<reasoning>x</think></reasoning>y", "x</think>", "y"),
        (Thinking.OWN, "", "", ""),
    ],
)
def test_tags_are_found_however_the_text_is_cut(
    thinking: Thinking, text: str, thoughts: str, rest: str, size: int
) -> None:
    reader = ThoughtReader(thinking)
    pieces = [reader.split(text[start : start + size]) for start in range(0, len(text), size)]
    pieces.append(reader.rest())
    assert "".join(thought for thought, _ in pieces) == thoughts
    assert "".join(other for _, other in pieces) == rest
