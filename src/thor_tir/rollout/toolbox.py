"""One call -> one result, whatever tool it names: a program in the sandbox, or another tool within its own limits.

A call that cannot be read, names no tool or has wrong arguments fails as a program with a bug does: its result is data.
A tool that raises anything but a refusal is tried once more, and then is a fault of the machine.
"""

import asyncio
import inspect
import json
import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any, Protocol

from thor_tir.dialect.tool_calls import MalformedCall, read_call
from thor_tir.errors import ToolLost, ToolUnavailable
from thor_tir.execution import ExecutionResult, Status, can_be_read
from thor_tir.hooks import hook_fault, is_stopped
from thor_tir.sandbox.protocol import Notebook, Sandbox
from thor_tir.tools.loading import LoadedTool
from thor_tir.tools.protocol import ToolRefusal
from thor_tir.tools.schema import fault_of
from thor_tir.trajectory import PYTHON, Action, Step

_LOG = logging.getLogger(__name__)

TOLERANCE = 16
"""Calls of one tool that may fail in a row by its own fault; then the run stops."""
MOST_CHARS = 2**20
"""Longest answer of a tool; one beyond fails as a program does that prints without an end."""
LEVEL = "tool"
"""Level of confinement of a tool: none, it is the user's own code."""


class ToolRunner(Protocol):
    """Whatever answers calls."""

    async def run(self, action: Action, sandbox: Sandbox, earlier: Sequence[Step] = ()) -> ExecutionResult:
        """Answer one call, which follows the `earlier` steps of its trajectory.

        Raises SandboxUnavailable and ToolUnavailable.
        """
        ...


class Toolbox:
    """Python in a sandbox, and tools beside it."""

    def __init__(self, tools: Sequence[LoadedTool] = (), *, keeps_state: bool = False, echoes: bool = False) -> None:
        """`keeps_state` lets programs know the earlier ones of their trajectory that ran; `echoes` prints the value of
        a last line that is an expression. Both need a sandbox of this machine.
        """
        self.tools = {tool.spec.name: tool for tool in tools}
        """The tools beside Python, by name."""
        self.keeps_state = keeps_state
        """True where programs know earlier ones."""
        self._echoes = echoes
        self._faults = dict.fromkeys(self.tools, 0)
        self._said: set[str] = set()

    async def run(self, action: Action, sandbox: Sandbox, earlier: Sequence[Step] = ()) -> ExecutionResult:
        """Answer one call, see `ToolRunner`."""
        if action.tool == PYTHON:
            return await self._program(action.code, sandbox, earlier)
        if not action.tool:
            return _unreadable(action.code)
        tool = self.tools.get(action.tool)
        if tool is None:
            known = ", ".join((PYTHON, *self.tools))
            return _failed("UnknownTool", f"there is no tool {action.tool[:80]!r}; there are {known}")
        arguments = json.loads(action.code)
        if fault := fault_of(tool.spec.parameters, arguments) or _unbound(tool, arguments):
            return _failed("BadArguments", f"{action.tool}: {fault}")
        return await self._called(tool, arguments)

    async def _program(self, code: str, sandbox: Any, earlier: Sequence[Step]) -> ExecutionResult:
        ran = _programs(earlier) if self.keeps_state else []
        if not ran and not self._echoes:
            result: ExecutionResult = await sandbox.run(code)
            return result
        notebook = Notebook(
            earlier=tuple(code for code, _ in ran),
            extra_s=max((seconds for _, seconds in ran), default=0.0),
            echoes=self._echoes,
        )
        result = await sandbox.run(code, notebook=notebook)
        return result

    async def _called(self, tool: LoadedTool, arguments: dict[str, Any]) -> ExecutionResult:
        fault: BaseException
        for attempt in (1, 2):
            try:
                result = await _answered(tool, arguments, runs=attempt)
            except (Exception, SystemExit) as error:
                fault = error
                continue
            except asyncio.CancelledError as error:
                if is_stopped():
                    raise
                fault = error  # the tool's own, nobody stops this attempt
                continue
            self._faults[tool.spec.name] = 0
            return result
        raise self._fault(tool, fault) from fault

    def _fault(self, tool: LoadedTool, error: BaseException) -> ToolUnavailable:
        sentence = str(hook_fault(f"the tool {tool.spec.name}", error))
        if sentence not in self._said and len(self._said) < TOLERANCE:
            self._said.add(sentence)
            _LOG.warning("%s; the attempt is lost", sentence)
        self._faults[tool.spec.name] += 1
        if self._faults[tool.spec.name] >= TOLERANCE:
            return ToolLost(f"{TOLERANCE} calls in a row were lost: {sentence}")
        return ToolUnavailable(sentence)


def _programs(steps: Sequence[Step]) -> list[tuple[str, float]]:
    """Programs that ran to their end, and the seconds that each took with those before it."""
    pairs = ((step.action, step.observation) for step in steps if step.ran)
    return [(a.code, o.result.seconds) for a, o in pairs if a is not None and o is not None and a.tool == PYTHON]


async def _answered(tool: LoadedTool, arguments: dict[str, Any], *, runs: int) -> ExecutionResult:
    began = perf_counter()
    try:
        async with asyncio.timeout(tool.timeout_s) as limit:
            answer = await tool.call(**arguments)
            text = _told(tool, answer)
    except ToolRefusal as refusal:
        return _failed("ToolRefusal", " ".join(str(refusal).split()) or "refused", perf_counter() - began, runs)
    except TimeoutError:
        if not limit.expired():  # of the tool's own: its service does not answer
            raise
        return ExecutionResult(status=Status.TIMEOUT, stdout="", seconds=perf_counter() - began, level=LEVEL, runs=runs)
    seconds = perf_counter() - began
    if len(text) > MOST_CHARS:
        return ExecutionResult(
            status=Status.OUTPUT_LIMIT,
            stdout=text[:MOST_CHARS],
            is_truncated=True,
            seconds=seconds,
            level=LEVEL,
            runs=runs,
        )
    status = Status.OK if can_be_read(text) else Status.OK_NO_OUTPUT
    return ExecutionResult(status=status, stdout=text, exit_code=0, seconds=seconds, level=LEVEL, runs=runs)


def _told(tool: LoadedTool, answer: object) -> str:
    """The text of an answer, without halves of characters."""
    if tool.tell is not None:
        text = tool.tell(answer)
    else:
        text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return str(text).encode("utf-8", "replace").decode()


def _unbound(tool: LoadedTool, arguments: dict[str, Any]) -> str | None:
    try:
        inspect.signature(tool.call).bind(**arguments)
    except TypeError as error:
        return str(error)
    return None


def _unreadable(text: str) -> ExecutionResult:
    try:
        read_call(text)
    except MalformedCall as fault:
        return _failed("MalformedCall", str(fault), status=Status.SYNTAX)
    raise AssertionError("a call that can be read has a tool")


def _failed(
    error: str, words: str, seconds: float = 0.0, runs: int = 1, *, status: Status = Status.RUNTIME
) -> ExecutionResult:
    text = f"{error}: {words}"
    return ExecutionResult(
        status=status, stdout="", stderr=f"{text}\n", error=error, seconds=seconds, level=LEVEL, runs=runs
    )
