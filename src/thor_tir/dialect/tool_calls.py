"""Calls as `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, as Hermes and Qwen write them.

The first closing tag ends the model's turn, as the first closed program does between fences: a second call comes in the
turn after the first one's result. A call that is no JSON, or lacks a name, is a call all the same: it fails, and the
model reads why.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thor_tir.dialect.fences import Block, FenceReading, fenced
from thor_tir.tools.protocol import CODE, ToolSpec, python_spec
from thor_tir.tools.schema import fault_of
from thor_tir.trajectory import PYTHON

OPEN, CLOSE = "<tool_call>", "</tool_call>"
RESULT_OPEN, RESULT_CLOSE = "<tool_response>", "</tool_response>"


class MalformedCall(ValueError):
    """A text between the tags that is no call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A call that can be read."""

    tool: str
    """Name of the tool."""
    code: str
    """The program, or the arguments of another tool as JSON."""


def read_call(text: str, *, is_lenient: bool = False) -> ToolCall:
    """The call between two tags; `is_lenient` allows line breaks within JSON's strings.

    Raises MalformedCall, in words for a model.
    """
    try:
        value = json.loads(text, strict=not is_lenient)
    except (ValueError, RecursionError) as error:
        raise MalformedCall(f"the text between {OPEN} and {CLOSE} is no JSON: {error}") from error
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"]:
        raise MalformedCall(f"a call is a JSON object with a name and arguments: {_form()}")
    name, arguments = value["name"], value.get("arguments", {})
    if not isinstance(arguments, dict):
        raise MalformedCall(f"the arguments of {name} must be a JSON object")
    if name != PYTHON:
        return ToolCall(tool=name, code=_json(arguments))
    if fault := fault_of(python_spec().parameters, arguments):
        raise MalformedCall(f"{PYTHON}: {fault}")
    return ToolCall(tool=name, code=arguments[CODE])


def first_call(text: str, reading: FenceReading = "exact") -> Block | None:
    """The first closed call of a text, readable or not: from the first opening tag behind which a call can be read."""
    return next(calls(text, reading), None)


def calls(text: str, reading: FenceReading = "exact") -> Iterator[Block]:
    """All closed calls of a text, in order."""
    begin = 0
    while (close := text.find(CLOSE, begin)) >= 0:
        found = list(_openings(text, begin, close))
        end = close + len(CLOSE)
        for start in found:
            try:
                call = read_call(text[start + len(OPEN) : close], is_lenient=reading == "lenient")
            except MalformedCall:
                continue
            yield Block(start=start, end=end, code=call.code, tool=call.tool)
            break
        else:
            if found:
                yield Block(start=found[-1], end=end, code=text[found[-1] + len(OPEN) : close], tool="")
        begin = end


def _openings(text: str, begin: int, end: int) -> Iterator[int]:
    while (begin := text.find(OPEN, begin, end)) >= 0:
        yield begin
        begin += len(OPEN)


def in_fences(text: str) -> str:
    """A text whose first call stands between fences, for people; one without calls as it is."""
    found = first_call(text)
    return text if found is None else text[: found.start] + fenced(found.code, found.tool)


def written_call(tool: str, code: str) -> str:
    """A call as a model writes it. `code` of a tool that cannot be read stands as it is."""
    if not tool:
        return f"{OPEN}{code}{CLOSE}"
    arguments: Mapping[str, Any] = {CODE: code} if tool == PYTHON else json.loads(code)
    return f"{OPEN}\n{_json({'name': tool, 'arguments': arguments})}\n{CLOSE}"


def framed(text: str) -> str:
    """A result between its tags, which it cannot close."""
    return f"{RESULT_OPEN}\n{text}\n{RESULT_CLOSE}"


def disarmed(text: str) -> str:
    """A text that closes no frame, whatever it says."""
    return text.replace(RESULT_CLOSE, "(/tool_response)")


def declaration(tools: Sequence[ToolSpec]) -> str:
    """The tools in words, for a model whose chat template does not declare them."""
    schemas = "\n".join(_json(tool.schema()) for tool in tools)
    return (
        f"You can call these tools, of which each line describes one:\n<tools>\n{schemas}\n</tools>\n"
        f"A call ends your turn, and its result follows between {RESULT_OPEN} and {RESULT_CLOSE}. It is written as\n"
        f"{OPEN}\n{_form()}\n{CLOSE}"
    )


def _form() -> str:
    return '{"name": <name of the tool>, "arguments": <object of its arguments>}'


def _json(value: object) -> str:
    """JSON as people read it, unless it holds halves of characters, which no tokenizer takes; it closes no call."""
    text = json.dumps(value, ensure_ascii=False)
    return (text if _is_text(text) else json.dumps(value)).replace(CLOSE, CLOSE.replace("/", r"\/"))


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
