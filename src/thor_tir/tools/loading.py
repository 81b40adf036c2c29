"""Tools by name: `package.module:Class`, `path/to/file.py:Class`, or a short name of an installed package."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.hooks import HookKind, found_hook, hook_fault, spelling_of
from thor_tir.tools.protocol import ToolSpec
from thor_tir.tools.schema import check_schema
from thor_tir.trajectory import PYTHON

_KIND: HookKind = "tool"
_NAME = re.compile(r"[A-Za-z_][\w.-]{0,63}", re.ASCII)
TIMEOUT_S = 5.0
"""Longest time of a call, for a tool that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedTool:
    """A tool, checked."""

    spec: ToolSpec
    """Name, description, schema and length of its answers."""
    call: Callable[..., Awaitable[object]]
    """Function that answers a call."""
    tell: Callable[[Any], str] | None
    """Function from an answer to the text that is read of it; None for text as it is, and JSON."""
    timeout_s: float
    """Longest time of a call."""


def load_tools(specs: Sequence[str]) -> tuple[LoadedTool, ...]:
    """Tools as options spell them: `mine.py:Units`, or `mine.py:Table,path=rates.csv` with arguments of the class.

    Raises UsageError for one that cannot be had, or is none.
    """
    loaded = tuple(checked(_made(spec), spec) for spec in specs)
    called = [PYTHON, *(tool.spec.name for tool in loaded)]
    if len(set(called)) < len(called):
        raise UsageError(f"two tools have one name: {', '.join(called)}")
    return loaded


def _made(spec: str) -> object:
    """A class is made an object, and a function asked for one; an object is taken as it is."""
    spelled = spelling_of(spec)
    if spelled.weight is not None:
        raise UsageError(f"{spec!r}: a tool has no weight")
    found = found_hook(_KIND, spelled.name)
    if not callable(found):
        return found
    if inspect.isfunction(found) and not spelled.parameters and _is_asked(found):
        return FunctionTool(found, spec)
    try:
        return found(**spelled.parameters)
    except Exception as error:
        raise hook_fault(spec, error) from error


def _is_asked(function: Callable[..., object]) -> bool:
    """True for a function that has to be given something: it is a tool itself, and makes none."""
    return any(each.default is each.empty for each in inspect.signature(function).parameters.values())


class FunctionTool:
    """A plain function as a tool, as chat templates and TRL take one: annotated, with a docstring of Google's form."""

    def __init__(self, function: Callable[..., object], spec: str) -> None:
        """Raises UsageError for a function that does not say what it takes."""
        need("transformers", f"the function {spec} as a tool")
        from transformers.utils import get_json_schema

        try:
            schema = get_json_schema(function)["function"]
        except Exception as error:  # of several kinds, by what is missing
            raise UsageError(
                f"{spec} as a tool: {str(error).splitlines()[0]}; docs/tools.md shows a whole one"
            ) from error
        self._function = function
        self.name: str = schema["name"]
        self.description: str = schema["description"]
        self.parameters: Mapping[str, Any] = _without_nullable(schema["parameters"])

    async def call(self, **arguments: Any) -> object:
        """Answer a call: one that is not async works in a thread, so that others go on."""
        if inspect.iscoroutinefunction(self._function):
            return await self._function(**arguments)
        return await asyncio.to_thread(self._function, **arguments)


def _without_nullable(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema with the type null in place of the mark that says so."""
    found = {name: part for name, part in schema.items() if name != "nullable"}
    if schema.get("nullable") and "type" in found:
        found["type"] = [*([found["type"]] if isinstance(found["type"], str) else found["type"]), "null"]
    if "properties" in found:
        found["properties"] = {name: _without_nullable(part) for name, part in found["properties"].items()}
    return found


def checked(tool: Any, where: str) -> LoadedTool:
    """A tool with all that it must have. Raises UsageError naming what it lacks."""
    for part in ("name", "description", "parameters", "call"):
        if not hasattr(tool, part):
            raise UsageError(f"{where} is no tool: it has no {part!r}; docs/tools.md shows a whole one")
    name, seconds, most = tool.name, getattr(tool, "timeout_s", TIMEOUT_S), getattr(tool, "max_chars", None)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(f"{where}: a tool's name is letters, digits, _, . and -, found {name!r}")
    if not isinstance(tool.description, str) or not tool.description.strip():
        raise UsageError(f"{where}: the description is what a model knows of the tool, and it is empty")
    check_schema(tool.parameters, f"{where}: parameters")
    if tool.parameters.get("type") != "object":
        raise UsageError(f"{where}: the schema of the parameters must have the type object")
    if not inspect.iscoroutinefunction(tool.call):
        raise UsageError(f"{where}: `call` must be an `async def`, so that others go on while it waits")
    if not (isinstance(seconds, int | float) and seconds > 0) or not (most is None or most >= 16):
        raise UsageError(f"{where}: timeout_s must be above 0 and max_chars at least 16, found {seconds} and {most}")
    spec = ToolSpec(name=name, description=tool.description, parameters=tool.parameters, max_chars=most)
    return LoadedTool(spec=spec, call=tool.call, tell=getattr(tool, "tell", None), timeout_s=float(seconds))
