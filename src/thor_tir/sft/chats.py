"""Conversations of published data sets, in whatever columns they stand: read into messages, calls and outputs.

A reading takes from a row what it says and guesses nothing: a row in none of the shapes is unusable, with the reason.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import takewhile
from typing import Any

from thor_tir.sft.config import ChatFields
from thor_tir.sft.tool_text import Unusable

CHAT_FIELDS = ("messages", "conversations")
"""Columns in which published data sets keep a whole conversation."""
QUESTION_FIELDS = ("question", "problem", "prompt", "query")
"""Columns in which they keep what a model is asked."""
RESPONSE_FIELDS = ("completion", "generated_solution", "solution", "response", "output")
"""Columns in which they keep what a model is to write; `answer` most often holds a bare value and has to be named."""
PROGRAM_ARGUMENTS = ("code", "program", "script", "source", "source_code", "python_code")
"""Arguments by which a tool takes a program."""


class Role(StrEnum):
    """Author of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("system", "developer"), Role.SYSTEM),
    **dict.fromkeys(("user", "human"), Role.USER),
    **dict.fromkeys(("assistant", "gpt", "model", "function_call"), Role.ASSISTANT),
    **dict.fromkeys(("tool", "ipython", "function", "observation", "function_response"), Role.TOOL),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of a tool that an assistant made."""

    name: str
    """Name of the tool."""
    arguments: Mapping[str, Any] | str
    """Arguments by name; the text itself where it is no JSON object."""
    id: str = ""
    """Name by which an output says that it is this call's; empty where the source gives none."""

    @property
    def program(self) -> str:
        """The program that is called. Raises Unusable for a call of another tool."""
        found = self._programs()
        if len(found) != 1:
            raise Unusable(f"the call of {self.name!r} holds no program, and the chat template has no turns of tools")
        return found[0]

    @property
    def is_program(self) -> bool:
        """True where the call holds a program."""
        return len(self._programs()) == 1

    def _programs(self) -> list[str]:
        if isinstance(self.arguments, str):
            return [self.arguments]
        return [value for name in PROGRAM_ARGUMENTS if isinstance(value := self.arguments.get(name), str)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a conversation."""

    role: Role
    """Author of it."""
    text: str
    """Text of it."""
    calls: tuple[Call, ...] = ()
    """Calls that an assistant made in it, behind its text."""
    thoughts: str = ""
    """Thoughts of an assistant that its source keeps beside the text."""
    is_trained: bool = True
    """False where the source gives the message the weight 0."""
    answers: str = ""
    """Name of the call whose output a tool's message is; empty where the source gives none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation and where it was found."""

    messages: tuple[Message, ...]
    """Messages in order; the last one is an assistant's."""
    tools: Sequence[Any]
    """Declarations of the tools that the source names, for the chat template."""
    shape: str
    """Columns that it was read from, as a person is told them."""


def read_chat(row: Mapping[str, Any], fields: ChatFields) -> Chat:
    """The conversation of a row. Raises Unusable with the reason where there is none that ends with an assistant."""
    shape, said = _conversation(row, fields)
    messages = _in_order(_joined([_message(each) for each in said]))
    system = row.get(fields.system_field)
    if isinstance(system, str) and system.strip() and all(m.role is not Role.SYSTEM for m in messages):
        messages.insert(0, Message(role=Role.SYSTEM, text=system))
    while messages and messages[-1].role in (Role.USER, Role.SYSTEM):
        messages.pop()  # nobody answers them
    if not messages:
        raise Unusable("no assistant says anything")
    if messages[-1].role is Role.TOOL or messages[-1].calls:
        raise Unusable("it ends with a call, and no answer follows")
    if messages[0].role not in (Role.SYSTEM, Role.USER) or all(m.role is not Role.USER for m in messages):
        raise Unusable("an assistant begins, and nobody asked")
    return Chat(messages=tuple(messages), tools=_declared(row.get("tools")), shape=shape)


def _conversation(row: Mapping[str, Any], fields: ChatFields) -> tuple[str, Sequence[Any]]:
    """Columns, and the messages that they hold as their source spells them."""
    if not (fields.question_field or fields.answer_field):
        for name in CHAT_FIELDS:
            if isinstance(found := _parsed(row.get(name)), list) and found:
                return f"`{name}`", found
    asked = _first(row, (fields.question_field,) if fields.question_field else QUESTION_FIELDS)
    told = _first(row, (fields.answer_field,) if fields.answer_field else RESPONSE_FIELDS)
    if asked is None or told is None:
        missing = "question" if asked is None else "response"
        option = "--question-field" if asked is None else "--answer-field"
        columns = ", ".join(map(str, row)) or "that it has not"
        raise Unusable(f"no {missing} is found in the columns {columns}; {option} names it")
    return f"`{asked}` and `{told}`", [*_turns(row[asked], "user"), *_turns(row[told], "assistant")]


def _parsed(value: Any) -> Any:
    """The value; a conversation that stands there as JSON text, as such."""
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _joined(messages: Sequence[Message]) -> list[Message]:
    """Messages, where an assistant's call that stands apart follows its words as in one message."""
    joined: list[Message] = []
    for message in messages:
        before = joined[-1] if joined else None
        is_bare = bool(message.calls) and not message.text and not message.thoughts
        if is_bare and before is not None and (before.role, before.is_trained) == (message.role, message.is_trained):
            joined[-1] = replace(before, calls=before.calls + message.calls)
        else:
            joined.append(message)
    return joined


def _in_order(messages: Sequence[Message]) -> list[Message]:
    """Messages, where outputs stand in the order of their calls. Raises Unusable for an output of no such call."""
    found: list[Message] = []
    place = 0
    while place < len(messages):
        message = messages[place]
        outputs = list(takewhile(lambda each: each.role is Role.TOOL, messages[place + 1 :]))
        names = [call.id for call in message.calls]
        found.append(message)
        if all(names) and len(set(names)) == len(names) and any(each.answers for each in outputs):
            if sorted(names) != sorted(each.answers for each in outputs):
                raise Unusable("the outputs behind calls name other calls than those")
            found += sorted(outputs, key=lambda each: names.index(each.answers))
        else:
            found += outputs
        place += 1 + len(outputs)
    return found


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of some columns that says something."""
    return next((n for n in names if (isinstance(row.get(n), str) and row[n].strip()) or _is_chat(row.get(n))), None)


def _is_chat(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(turn, Mapping) for turn in value)


def _turns(value: Any, role: str) -> Sequence[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": value}]


def _message(said: Any) -> Message:
    if not isinstance(said, Mapping):
        raise Unusable("a message is no object with `role` and `content`")
    spoken = said.get("role", said.get("from"))
    role = _ROLES.get(str(spoken).lower())
    if role is None:
        raise Unusable(f"a message has the role {spoken!r:.40}, which is none of {', '.join(_ROLES)}")
    text = _text(said.get("content", said.get("value")))
    if spoken == "function_call":
        return Message(role=role, text="", calls=tuple(map(_call, _listed(text))))
    calls = said.get("tool_calls") or said.get("function_call") or ()
    thoughts = said.get("reasoning_content") or said.get("thinking") or ""
    if role is Role.ASSISTANT and not (calls or thoughts or text.strip()):
        raise Unusable("a message of an assistant is empty")
    return Message(
        role=role,
        text=text,
        calls=tuple(map(_call, _listed(calls))),
        thoughts=thoughts if isinstance(thoughts, str) else "",
        is_trained=said.get("weight") != 0,
        answers=str(said.get("tool_call_id") or ""),
    )


def _text(content: Any) -> str:
    """The text of a message's content, which may be a list of parts. Raises Unusable for an image, for example."""
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise Unusable("the content of a message is no text")
    return "".join(map(str, texts))


def _listed(calls: Any) -> Sequence[Any]:
    """Calls as a list, which may stand there as JSON or alone."""
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except ValueError as error:
            raise Unusable("a call of a tool is no JSON") from error
    return calls if isinstance(calls, list | tuple) else [calls]


def _call(said: Any) -> Call:
    function = said.get("function", said) if isinstance(said, Mapping) else {}
    if not (isinstance(function, Mapping) and isinstance(function.get("name"), str)):
        raise Unusable("a call of a tool has no name")
    arguments = function.get("arguments", function.get("parameters")) or {}
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments)
        except ValueError:
            read = arguments
        arguments = read if isinstance(read, dict) else arguments
    if not isinstance(arguments, Mapping | str):
        raise Unusable("the arguments of a call are no JSON object")
    return Call(name=function["name"], arguments=arguments, id=str(said.get("id") or ""))


def _declared(tools: Any) -> Sequence[Any]:
    if not tools:
        return ()
    try:
        return _listed(tools)
    except Unusable:
        raise Unusable("the declaration of the tools is no JSON") from None
