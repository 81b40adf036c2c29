"""Replies of servers, fences and chat templates that public reports tell of, each through the command that met it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from endpoint_server import Asked, Behaviour, Server, http, says
from field_cases import field_cases
from thor_tir import cli
from thor_tir.dialect.dialect import Dialect, DialectConfig, Thinking, thinking_of
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.errors import UsageError
from thor_tir.sft.examples import sft_row
from thor_tir.trajectory import Author, Finish, Span, Step, Thought, Trajectory
from tiny_models import END, PAD, tiny_tokenizer

ANSWER = "So the answer is \\boxed{17}."


@contextmanager
def served(server: Server) -> Iterator[Server]:
    """A server in a thread of its own, since a command has an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def choice_of(content: str, finish: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}]}


def chat(first: Behaviour) -> Behaviour:
    """Continues a turn that is begun, as the questions at the beginning ask; `first` answers questions."""

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        last = asked.body["messages"][-1]
        if last["role"] == "assistant":
            await says(choice_of("9, 10" if last["content"].endswith("8,") else ANSWER))(asked, writer)
        else:
            await first(asked, writer)

    return behave


def once(first: Behaviour, then: Behaviour) -> Behaviour:
    """One behaviour for the first question, another for those that follow."""
    behaviours = iter([first])

    async def behave(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await next(behaviours, then)(asked, writer)

    return behave


async def narrow(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """A context that what is asked for does not fit."""
    message = "This model's maximum context length is 4096 tokens. However, you requested 4130 tokens."
    await says({"message": message}, 400)(asked, writer)


def behaviour_of(case: dict[str, Any]) -> Behaviour:
    """The server of a case."""
    asked: dict[str, Any] = case["input"]
    good = says(choice_of(ANSWER))
    match case["id"]:
        case "endpoint-error-in-200-once":
            return once(says(asked), good)
        case "endpoint-429-date":
            return once(says({}, 429, {"Retry-After": formatdate(time() + 1, usegmt=True)}), good)
        case "endpoint-context-400":
            return narrow
        case "endpoint-max_completion_tokens":
            return says({"error": {"message": asked["message"]}}, 400)
        case "endpoint-message-null":
            return says({"choices": [asked]})
        case "endpoint-finish-end_turn" | "endpoint-finish-max_tokens":
            return says(choice_of(ANSWER, asked["finish_reason"]))
    if "model_turn" in asked:
        return says(choice_of(asked["model_turn"], asked["finish_reason"]))
    message = {"role": "assistant", **{name: value for name, value in asked.items() if name != "finish_reason"}}
    return says({"choices": [{"message": message, "finish_reason": asked.get("finish_reason", "stop")}]})


def evaluated(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """The status of `thor eval` on two problems behind the server."""
    monkeypatch.chdir(folder)
    rows = [{"question": f"What is 20 - 3, {time}?", "answer": "17"} for time in ("once", "again")]
    (folder / "two.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    options = ("--problems", "two.jsonl", "--samples", "1", "--output", "out", "--endpoint.retry.backoff-s", "0.01")
    with pytest.raises(SystemExit) as ended:
        cli.main(["eval", "--model", server.address, *options])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def row_of(folder: Path) -> dict[str, Any]:
    (row,) = json.loads((folder / "out" / "results.json").read_text())["sets"]
    found: dict[str, Any] = row
    return found


RIGHT = {  # accuracy; None where the command ends with a sentence
    "program runs": 1.0,
    "stops soon, or counts as no answer": 0.0,
    "no answer, no crash": 0.0,
    "asked again": 1.0,
    "no answer for this request": 0.0,
    "warned, or taken as stop": 1.0,
    "taken as length": 1.0,
    "waits, goes on": 1.0,
    "ends the attempt, run goes on": 0.0,
    "a sentence that names the reason": None,
    "a new connection for the next request": 1.0,
}


@pytest.mark.parametrize("case", field_cases("dialect", "endpoint"))
def test_a_server_is_evaluated_as_it_deserves(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if case["id"] == "endpoint-connection-close":
        server: Server = ClosesAsAsked(usual=chat(says(choice_of(ANSWER))))
    elif case["id"] == "endpoint-max_completion_tokens":
        server = Server(usual=behaviour_of(case))  # it takes no request at all
    else:
        server = Server(usual=chat(behaviour_of(case)))
    with served(server):
        began = time()
        status = evaluated(server, tmp_path, monkeypatch)
    assert time() - began < 60  # nothing that cannot change is waited for
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    accuracy = RIGHT[case["expected"]]
    if accuracy is None:
        assert (status, case["input"]["message"] in told.err) == (2, True)
        return
    row = row_of(tmp_path)
    assert (status, row["n"], row["avg"]["value"]) == (0, 2, accuracy)
    if case["area"] == "dialect":
        assert row["calls"] == 1


class ClosesAsAsked(Server):
    """Keeps connections open, and closes one that it is asked to close without saying so."""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            data = await reader.readexactly(int(headers.get("content-length", 0)))
            reply = {"data": self.models}
            if "/models" not in first:
                turns = json.loads(data)["messages"]
                reply = choice_of("9, 10" if turns[-1]["role"] == "assistant" else ANSWER)
            writer.write(http(json.dumps(reply).encode()).replace(b"Connection: close\r\n", b""))
            await writer.drain()
            if headers.get("connection", "").lower() == "close":
                return


STYLE = PromptStyle(system="Be exact.", user="Q: {text}")
TURNS = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>{% endfor %}<|assistant|>"
TEMPLATES = {
    "template-qwen3-history": "{% for m in messages %}<|user|>{% if m['role'] == 'assistant' %}"
    "{{ m['content'].split('</think>')[-1] }}{% else %}{{ m['content'] }}{% endif %}<|end|>{% endfor %}<|assistant|>",
    "template-eos-trained-pad-eos": TURNS,
    "template-bos-once": "<|pad|>" + TURNS,
    "template-system-refused": "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TURNS,
    "template-system-dropped": "{% for m in messages if m['role'] == 'user' %}[{{ m['content'] }}]{% endfor %}",
    "template-list-content": "{% for m in messages %}[{% for part in m['content'] %}{{ part['text'] }}{% endfor %}]"
    "{% endfor %}",
    "template-always-thinks": TURNS + "<think>\n",
}


def dialect_of(id: str) -> Dialect:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer,
        eos_token=END,
        pad_token=END if id == "template-eos-trained-pad-eos" else PAD,
        bos_token=PAD if id == "template-bos-once" else None,
        chat_template=TEMPLATES[id],
    )
    return Dialect(tokenizer, DialectConfig(style=STYLE))


def trained_text(dialect: Dialect, text: str) -> str:
    """What the cold start trains of an answer that ended its turn."""
    ids = (*dialect.encode(text), dialect.ends.written or 0)
    span = Span(token_ids=ids, author=Author.MODEL)
    steps = (Step(thought=Thought(text=text, span=span)),)
    prompt = dialect.prompt("1 + 1?")
    row = sft_row(Trajectory(id="a", problem_id="p", prompt=prompt, steps=steps, finish=Finish.ENDED), prompt=prompt)
    trained = [token for token, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]
    return str(dialect.tokenizer.decode(trained))


@pytest.mark.parametrize("case", field_cases("chat template"))
def test_a_template_leaves_nothing_out_and_nothing_untrained(
    case: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    dialect = dialect_of(case["id"])
    prompt = dialect.tokenizer.decode(dialect.prompt("1 + 1?").token_ids)
    assert "Q: 1 + 1?" in prompt
    assert "Be exact." in prompt
    match case["expected"]:
        case "the thoughts stay and are trained, tool output masked":
            assert trained_text(dialect, "<think>Hm.</think>It is 2.") == f"<think>Hm.</think>It is 2.{END}"
        case "end of turn trained":
            assert trained_text(dialect, "It is 2.") == f"It is 2.{END}"
        case "one BOS":
            assert list(dialect.prompt("1 + 1?").token_ids).count(dialect.tokenizer.convert_tokens_to_ids(PAD)) == 1
        case "rules at the head of the user's turn" | "rules reach the model, or a warning":
            assert "Be exact.\n\nQ: 1 + 1?" in prompt
        case "refused":  # it is better served: with parts
            assert prompt == "[Be exact.][Q: 1 + 1?]"
        case "noticed":
            assert thinking_of(dialect) is Thinking.OPENED
            assert "opens the model's thoughts although no thinking turn was asked for" in caplog.text
        case other:
            pytest.fail(f"nothing is known of {other!r}")


def test_a_template_that_takes_no_question_in_any_form_is_refused() -> None:
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer().backend_tokenizer, eos_token=END, chat_template="<|assistant|>"
    )
    with pytest.raises(UsageError, match="leaves the question or the rules out of the prompt"):
        Dialect(tokenizer)
