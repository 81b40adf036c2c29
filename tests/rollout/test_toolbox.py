"""Calls of tools: what the model does wrong is data, what the tool does wrong is a fault of the machine."""

import asyncio
import json
import re

import pytest

from own_tools import Broken, Slow, Told, Units
from scripted_agent import FakeSandbox
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.errors import ToolLost, ToolUnavailable, UsageError
from thor_tir.execution import Status
from thor_tir.rollout.toolbox import MOST_CHARS, TOLERANCE, Toolbox
from thor_tir.tools.loading import checked, load_tools
from thor_tir.trajectory import Action, Author, Span
from tiny_models import tiny_tokenizer

NOWHERE = Span(token_ids=(), author=Author.MODEL)


def box(*tools) -> Toolbox:
    return Toolbox([checked(tool, "test") for tool in tools])


def called(toolbox: Toolbox, tool: str, arguments: object = None, *, raw: str | None = None):
    code = json.dumps(arguments or {}) if raw is None else raw
    return asyncio.run(toolbox.run(Action(code=code, span=NOWHERE, tool=tool), FakeSandbox()))


def test_python_runs_in_the_sandbox_and_a_tool_beside_it():
    toolbox = box(Units())
    assert called(toolbox, "python", raw="print(7 * 11)").stdout == "77\n"
    answer = called(toolbox, "units", {"value": 3, "of": "km", "to": "m"})
    assert (answer.stdout, answer.status, answer.succeeds(), answer.level) == ("3000.0", Status.OK, True, "tool")


FAULTS = {
    ("tape", "{}"): ("UnknownTool", "there is no tool 'tape'; there are python, units"),
    ("units", "{}"): ("BadArguments", "units: the arguments lack 'value'"),
    ("units", '{"value": "3", "of": "m", "to": "m"}'): ("BadArguments", "units: 'value' must be number, found \"3\""),
    ("units", '{"value": 3, "of": "m", "to": "m", "by": 1}'): ("BadArguments", "unexpected keyword argument 'by'"),
    ("units", '{"value": 3, "of": "mile", "to": "m"}'): ("ToolRefusal", "unknown unit; known are m, km, inch"),
    ("", '{"name": "python"'): ("MalformedCall", "is no JSON"),
}


@pytest.mark.parametrize("call", FAULTS)
def test_a_fault_of_the_model_is_a_failed_call_that_says_why(call):
    (tool, code), (error, words) = call, FAULTS[call]
    result = called(box(Units()), tool, raw=code)
    assert (result.error, result.ran, result.failure_class) == (error, False, error)
    shown = Dialect(tiny_tokenizer(), DialectConfig(calls="tool-call")).observe(result).text
    assert shown.startswith(f"{error}: ")
    assert words in shown


def test_a_call_that_takes_too_long_fails_as_a_program_does():
    assert called(box(Slow()), "slow").status is Status.TIMEOUT


def test_a_broken_tool_is_tried_once_more_and_then_is_a_fault_of_the_machine_with_its_line():
    again = called(box(Broken(times=1)), "broken", {"a": 1})
    assert (again.stdout, again.runs) == ('{"a": 1}', 2)
    with pytest.raises(
        ToolUnavailable, match=r"the tool broken raised ConnectionError: no route \(.*own_tools.py, line"
    ):
        called(box(Broken()), "broken")


class Ends:
    name, description, parameters = "ends", "Ends.", {"type": "object"}

    def __init__(self, end):
        self.end = end

    async def call(self):
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end


@pytest.mark.parametrize("end", [SystemExit(0), asyncio.CancelledError()])
def test_a_tool_ends_neither_the_run_nor_its_attempt_without_a_word(end):
    with pytest.raises(ToolUnavailable, match=type(end).__name__):
        called(box(Ends(end)), "ends")


def test_an_answer_without_measure_fails_as_a_program_does_and_is_not_kept_whole():
    result = called(box(Ends("x" * (MOST_CHARS + 1))), "ends")
    assert (result.status, len(result.stdout), result.is_truncated) == (Status.OUTPUT_LIMIT, MOST_CHARS, True)


def test_a_tool_that_breaks_at_call_after_call_stops_the_run():
    toolbox = box(Broken(times=2 * TOLERANCE))
    for _ in range(TOLERANCE - 1):
        with pytest.raises(ToolUnavailable) as fault:
            called(toolbox, "broken")
        assert not isinstance(fault.value, ToolLost)
    with pytest.raises(ToolLost, match=f"{TOLERANCE} calls in a row"):
        called(toolbox, "broken")


def test_a_tool_says_its_answer_in_its_own_way_and_length():
    tool = checked(Told(), "test")
    result = called(Toolbox([tool]), "told", {"times": 30})
    assert result.stdout == "\n".join(["row"] * 30)
    dialect = Dialect(tiny_tokenizer(), DialectConfig(calls="tool-call", tools=(tool.spec,)))
    shown = dialect.observe(result, after=Action(code="{}", span=NOWHERE, tool="told")).text
    assert "characters left out" in shown
    assert called(Toolbox([tool]), "told", {"times": 0}).status is Status.OK_NO_OUTPUT


TABLE = """
class Table:
    name, description = "table", "Looks up."
    parameters = {"type": "object", "properties": {"key": {"type": "string"}}}
    def __init__(self, rows=1):
        self.rows = rows
    async def call(self, key="a"):
        return f"{key}: {self.rows}"
made = Table(7)
def build(rows=2):
    return Table(rows)
"""


def test_a_class_a_function_and_an_object_are_tools(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(TABLE)
    for spec, shown in {"Table,rows=3": "a: 3", "Table": "a: 1", "made": "a: 7", "build": "a: 2"}.items():
        (tool,) = load_tools([f"{path}:{spec}"])
        assert called(Toolbox([tool]), "table").stdout == shown


WRONG = {
    "name = 'a b'": "letters, digits",
    "name = ''": "letters, digits",
    "description = ' '": "it is empty",
    "parameters = {'type': 'string'}": "the type object",
    "parameters = {'type': 'object', 'properties': {'a': {'pattern': 'x'}}}": "a has 'pattern', which is not",
    "parameters = 3": "no JSON schema",
    "call = len": "must be an `async def`",
    "timeout_s = 0": "above 0",
    "del Table.call": "no 'call'",
    "name = 'python'": "two tools have one name",
    "__init__ = None": "raised TypeError",
}


@pytest.mark.parametrize("line", WRONG)
def test_what_is_no_tool_is_refused_in_a_sentence(tmp_path, line):
    path = tmp_path / "mine.py"
    path.write_text(TABLE.partition("made =")[0] + ("\n" + line if line.startswith("del") else f"    {line}\n"))
    with pytest.raises(UsageError, match=re.escape(WRONG[line])):
        load_tools([f"{path}:Table"])


def test_a_tool_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="unknown tool 'nothing'"):
        load_tools(["nothing"])
    with pytest.raises(UsageError, match="there is no file"):
        load_tools(["nothing.py:Units"])
