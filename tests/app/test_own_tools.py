"""Tools and dialects of a run: what the options name reaches prompt, loop and record."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from calling_templates import calling_tokenizer
from own_tools import Units
from scripted_agent import FakeSandbox
from thor_tir.app.config import CallConfig, ResourceConfig, SandboxOptions
from thor_tir.app.runtime import Runtime, announce
from thor_tir.dialect.prompts import CRITIC, NO_TOOLS, TOOLS
from thor_tir.dialect.tool_calls import written_call
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import UsageError
from thor_tir.rollout.loop import Draft, RolloutConfig, rollout
from thor_tir.tools.loading import load_tools

OWN = f"{Path(__file__).parents[1] / 'support' / 'own_tools.py'}:Units"


def runtime_of(**options) -> Runtime:
    return Runtime(
        ResourceConfig(**options), FakeSandbox(), SimpleNamespace(grade=None), calls="auto", tools=load_tools([OWN])
    )


def test_a_tool_from_a_file_is_declared_called_and_recorded(tmp_path):
    runtime, said = runtime_of(), []
    tokenizer = calling_tokenizer("qwen")
    dialect = runtime.dialect(tokenizer, TOOLS)
    announce(dialect, tmp_path, said.append)
    assert said == ["calls: tool-call, tools python, units, declared by the template, results in turns of the tool"]
    assert json.loads((tmp_path / "dialect.json").read_text())["tools"] == ["python", "units"]
    policy = ScriptedPolicy(tokenizer, [written_call("units", '{"value": 3, "of": "km", "to": "m"}'), "\\boxed{3000}"])
    setup = runtime.setup(policy, dialect, RolloutConfig(max_completion_length=600))
    draft = Draft(id="t", problem_id="p", prompt=dialect.prompt("?"), seed=0)
    trajectory = asyncio.run(rollout(draft, setup.agent, setup.config))
    assert [step.observation.text for step in trajectory.calls] == ["3000.0"]


def test_the_rules_say_what_the_run_does():
    rules = {
        name: runtime.dialect(calling_tokenizer("plain"), TOOLS).config.style.system
        for name, runtime in {
            "alone": runtime_of(),
            "state": runtime_of(sandbox=SandboxOptions(state="trajectory")),
        }.items()
    }
    assert "knows no earlier program" in rules["alone"]
    assert "goes on from the earlier programs" in rules["state"]
    fenced = Runtime(ResourceConfig(sandbox=SandboxOptions(state="trajectory")), FakeSandbox(), None)
    assert "goes on from the earlier ones" in fenced.dialect(calling_tokenizer("plain"), TOOLS).config.style.system
    assert runtime_of().dialect(calling_tokenizer("plain"), NO_TOOLS).config.style == NO_TOOLS
    assert "call the one tool" in runtime_of().dialect(calling_tokenizer("qwen"), CRITIC).config.style.system


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(UsageError, match="give --dialect tool-call"):
        CallConfig(tool=(OWN,))
    with pytest.raises(UsageError, match="leave out"):
        SandboxOptions(state="trajectory", endpoints=("http://127.0.0.1:1",))


def test_tools_of_the_python_door_are_objects():
    from thor_tir.tools.loading import checked

    assert checked(Units(), "Units").spec.name == "units"


def test_a_file_that_replaces_a_question_alone_keeps_the_rules_of_the_dialect():
    own = replace(TOOLS, user="{text} Be brief.")
    style = runtime_of().dialect(calling_tokenizer("qwen"), own).config.style
    assert style.user == own.user
    assert "```" not in style.system
    told = replace(TOOLS, system="Call the tool.")
    assert runtime_of().dialect(calling_tokenizer("qwen"), told).config.style == told
