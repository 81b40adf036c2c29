"""`/v1/responses`: the same answers in the form of OpenAI's Responses API, one message and perhaps its thoughts.

Nothing is stored: a conversation is sent whole each time. Programs and their outputs stand in the text of the message;
their structure is in the field `thor`, beside the deltas of a stream and in the response as a whole.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from thor_tir.inference.answering import Answer
from thor_tir.pretrained import ChatTurn
from thor_tir.serving.answers import Piece
from thor_tir.serving.audit import AuditRecord
from thor_tir.serving.fields import Fields
from thor_tir.serving.replies import Head, finish_reason, thor_json
from thor_tir.serving.reply import HttpReply, streamed
from thor_tir.serving.requests import (
    AnswerOptions,
    ServedDefaults,
    answer_options,
    check_model,
    checked_turns,
    refuse_foreign,
    text_content,
)
from thor_tir.serving.service import AnswerService
from thor_tir.storage.journal import JsonObject
from thor_tir.web_service import unless_gone

NamedEvent = tuple[str, JsonObject]
"""Name and content of an event of a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseRequest:
    """A conversation whose last turn is to be answered, as this API puts it."""

    turns: tuple[ChatTurn, ...]
    """System, user and assistant turns."""
    options: AnswerOptions
    """Limits, sampling and choice of the answer."""


def response_request(body: Mapping[str, Any], model: str, defaults: ServedDefaults) -> ResponseRequest:
    """Read a body. Raises InvalidRequest."""
    fields = Fields(body)
    check_model(fields, model)
    refuse_foreign(fields)
    stored = "nothing is stored here; send the whole conversation"
    for name in ("previous_response_id", "conversation", "prompt"):
        fields.unsupported(name, reason=stored)
    fields.unsupported("background", False, reason=stored)
    fields.unsupported("text", {}, {"format": {"type": "text"}}, reason="answers are plain text")
    fields.unsupported("truncation", "disabled", reason="a conversation is never shortened")
    fields.unsupported("include", [], reason="all that there is comes with the answer, under `thor`")
    fields.unsupported("reasoning", {}, reason="how long the model thinks is bounded by max_output_tokens")
    fields.unsupported("max_tool_calls", reason="ask for thor.calls")
    fields.unsupported("top_logprobs", 0, reason="an answer is made of several samples")
    stream_options = fields.inner("stream_options")
    stream_options.ignored("include_obfuscation")
    stream_options.end()
    request = ResponseRequest(
        turns=_turns(fields, defaults),
        options=answer_options(fields, defaults, limits=("max_output_tokens",)),
    )
    fields.end()
    return request


def _turns(fields: Fields, defaults: ServedDefaults) -> tuple[ChatTurn, ...]:
    instructions = fields.text("instructions")
    turns: list[ChatTurn] = [] if instructions is None else [{"role": "system", "content": instructions}]
    asked = fields.any("input")
    if isinstance(asked, str):
        turns.append({"role": "user", "content": fields.checked_text("input", asked)})
    elif isinstance(asked, list) and 0 < len(asked) <= defaults.bounds.messages:
        for number, item in enumerate(asked):
            turns += _item(Fields(item, f"input[{number}]."))
    else:
        fields.refuse("input", f"must be a string, or a list of 1 to {defaults.bounds.messages} messages")
    if turns[-1:] == [{"role": "system", "content": instructions}]:
        fields.refuse("input", "holds no message")
    return checked_turns(fields, "input", turns, defaults.bounds)


def _item(fields: Fields) -> list[ChatTurn]:
    """The turn of one item; none of thoughts that an earlier response held."""
    kind = fields.text("type", "message")
    if kind == "reasoning":
        return []
    if kind != "message":
        message = f"is {str(kind)[:60]!r}; programs run on the server, so that a conversation is made of messages"
        fields.refuse("type", message, code="unsupported_parameter")
    role = fields.one_of("role", ("system", "developer", "user", "assistant"), "")
    fields.ignored("id", "status", "phase")
    content = text_content(fields, "content", ("input_text", "output_text"), ("annotations", "logprobs"))
    fields.end()
    return [{"role": "system" if role == "developer" else role, "content": content}]


async def respond(service: AnswerService, request: Request, reply: HttpReply, record: AuditRecord) -> None:
    """Answer a body of OpenAI's."""
    asked = response_request(await service.body(request), service.model, service.defaults)
    record.options = asked.options.as_json()
    prompt = service.prompt(asked.turns, asked.options)
    draft = ResponseDraft(service.head("resp"), asked)

    def hear(piece: Piece) -> None:
        draft.add(piece)

    async with service.place(request, record, asked.options.attempts):
        if not asked.options.is_stream:
            answer = await unless_gone(request, service.answer(prompt, asked.options, record, hear))
            await reply.json(draft.end(answer)[-1][1]["response"])
            return
        await reply.begin_events()

        async def send(events: list[NamedEvent]) -> None:
            for name, data in events:
                await reply.event(data, name)

        await send(draft.begin())
        answer = await streamed(
            request,
            reply,
            lambda tell: service.answer(prompt, asked.options, record, lambda piece: tell(draft.add(piece))),
            send,
        )
        await send(draft.end(answer))
        await reply.end_events()


class ResponseDraft:
    """A response while it grows: first the thoughts, where there are some, then the message."""

    def __init__(self, head: Head, asked: ResponseRequest) -> None:
        self._head = head
        self._asked = asked
        self._number = 0
        self._thoughts = ""
        self._text = ""
        self._items: list[JsonObject] = []
        self._open: JsonObject | None = None

    def begin(self) -> list[NamedEvent]:
        """Events before any text."""
        response = self._json("in_progress")
        return [
            self._event("response.created", response=response),
            self._event("response.in_progress", response=response),
        ]

    def add(self, piece: Piece) -> list[NamedEvent]:
        """Events of one piece."""
        events: list[NamedEvent] = []
        if piece.reasoning:
            events += self._opened("reasoning")
            self._thoughts += piece.reasoning
            events.append(self._delta("response.reasoning_text.delta", piece.reasoning, {}))
        if piece.content or (piece.event is not None and not piece.reasoning):
            events += self._opened("message")
            self._text += piece.content
            extra = {} if piece.event is None else {"thor": piece.event}
            events.append(self._delta("response.output_text.delta", piece.content, {"logprobs": [], **extra}))
        return events

    def end(self, answer: Answer) -> list[NamedEvent]:
        """Events after all text; the last one holds the whole response."""
        events = [*self._opened("message"), *self._closed()]
        response = self._whole(answer)
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def _whole(self, answer: Answer) -> JsonObject:
        is_complete = finish_reason(answer) == "stop"
        prompt, written = len(answer.chosen.trajectory.prompt), answer.num_tokens
        return {
            **self._json("completed" if is_complete else "incomplete"),
            "completed_at": int(time.time()),
            "incomplete_details": None if is_complete else {"reason": "max_output_tokens"},
            "output": self._items,
            "thor": thor_json(answer),
            "usage": {
                "input_tokens": prompt,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": written,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": prompt + written,
            },
        }

    def _json(self, status: str) -> JsonObject:
        rollout = self._asked.options.rollout
        return {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": None,
            "instructions": None,
            "max_output_tokens": rollout.max_completion_length,
            "metadata": {},
            "model": self._head.model,
            "output": [],
            "parallel_tool_calls": False,
            "previous_response_id": None,
            "store": False,
            "temperature": rollout.temperature,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "top_p": rollout.top_p,
            "truncation": "disabled",
            "usage": None,
        }

    def _opened(self, kind: str) -> Iterator[NamedEvent]:
        """Begin an item, unless it has begun; the thoughts end before the message begins."""
        if self._open is not None and self._open["type"] == kind:
            return
        yield from self._closed()
        item: JsonObject = {"id": f"{kind}-{self._head.id}-{len(self._items)}", "type": kind}
        item |= {"status": "in_progress", "content": []}
        item["role" if kind == "message" else "summary"] = "assistant" if kind == "message" else []
        self._open = item
        yield self._event("response.output_item.added", output_index=len(self._items), item=dict(item))
        yield self._part("response.content_part.added", "")

    def _closed(self) -> Iterator[NamedEvent]:
        """End the item that is open."""
        item = self._open
        if item is None:
            return
        text = self._text if item["type"] == "message" else self._thoughts
        name = "output_text" if item["type"] == "message" else "reasoning_text"
        done: JsonObject = {"logprobs": []} if item["type"] == "message" else {}
        yield self._event(f"response.{name}.done", **self._place(), text=text, **done)
        yield self._part("response.content_part.done", text)
        item |= {"status": "completed", "content": [self._content(text)]}
        yield self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._open = None

    def _content(self, text: str) -> JsonObject:
        assert self._open is not None
        if self._open["type"] == "message":
            return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "reasoning_text", "text": text}

    def _part(self, name: str, text: str) -> NamedEvent:
        return self._event(name, **self._place(), part=self._content(text))

    def _delta(self, name: str, text: str, more: Mapping[str, Any]) -> NamedEvent:
        return self._event(name, **self._place(), delta=text, **more)

    def _place(self) -> JsonObject:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._items), "content_index": 0}

    def _event(self, name: str, **fields: Any) -> NamedEvent:
        self._number += 1
        return name, {"type": name, "sequence_number": self._number - 1, **fields}
