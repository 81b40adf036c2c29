"""A tool: a name, a description and a schema, by which a model learns of it, and an async `call` that answers.

Python is one as well, whose programs run in the sandbox. What a call does wrong is data: `ToolRefusal`. Whatever else
a tool raises is a fault of the machine, which never becomes a reward.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON


class ToolRefusal(Exception):
    """A call that the tool cannot answer, by the caller's fault: a failed call, whose text the model reads."""


class Tool(Protocol):
    """A tool of one's own. It may also have `timeout_s`, `max_chars` and a method `tell`, see `docs/tools.md`."""

    @property
    def name(self) -> str:
        """Name by which a model calls it."""
        ...

    @property
    def description(self) -> str:
        """Sentences that a model reads of it."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """JSON schema of its arguments, an object."""
        ...

    async def call(self, **arguments: Any) -> object:
        """Answer one call, by text or by a value that is shown as JSON.

        Raises ToolRefusal for what the caller did wrong.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """The part of a tool that a dialect knows."""

    name: str
    """Name by which a model calls it."""
    description: str
    """Sentences that a model reads of it."""
    parameters: Mapping[str, Any]
    """JSON schema of its arguments."""
    max_chars: int | None = None
    """Longest text of an answer that a model reads; None for the run's own."""

    def schema(self) -> JsonObject:
        """The tool as chat templates take it."""
        about = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": about}


CODE = "code"
"""Name of Python's one argument."""


def python_spec(*, keeps_state: bool = False) -> ToolSpec:
    """Python as a model reads of it; `keeps_state` says that programs know those before them."""
    known = (
        "It goes on from the earlier programs that ran: their names and imports are there."
        if keeps_state
        else "It stands alone: it imports what it needs and knows no earlier program."
    )
    return ToolSpec(
        name=PYTHON,
        description=f"Runs a Python program and returns what it prints. {known}",
        parameters={
            "type": "object",
            "properties": {CODE: {"type": "string", "description": "The program."}},
            "required": [CODE],
        },
    )
