"""TIRGen as a stage: what the actor is asked without tools, and what is said of attempts that were not made."""

import asyncio
import json
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thor_tir.app.config import ResourceConfig, RunConfig
from thor_tir.app.runtime import LoadedModel, Runtime
from thor_tir.app.stages.tirgen import generate_raw
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.protocol import ContextFull
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import SandboxUnavailable
from thor_tir.problem import Problem
from thor_tir.progress import Unseen
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_tokenizer
from tirgen_samples import read_lines, write_lines
from told_sandbox import ToldSandbox, printed

STEP = "The sum of both is 20 + 57 = 78.\n\n"
PROGRAM = "The sum of both is\n```python\nprint(20 + 57)\n```\n"
ANSWER = "So the answer is \\boxed{77}."


class Sandbox(ToldSandbox):
    """Ends the programs of some sums by a fault of the machine."""

    async def run(self, code: str, *args: Any, **options: Any) -> Any:
        if "1 + 1" in code:
            raise SandboxUnavailable("gone")
        return await super().run(code, *args, **options)


class Grader:
    async def grade(self, problem: Problem, text: str) -> Verdict:
        outcome = Outcome.CORRECT if "\\boxed{77}" in text else Outcome.WRONG
        return Verdict(outcome=outcome, extracted="77", reason="")


class Actor(ScriptedPolicy):
    """Has no room for questions that speak of length."""

    async def sample(self, token_ids: Any, sampling: Any) -> Any:
        if "length" in tiny_tokenizer().decode(token_ids):
            raise ContextFull("full")
        return await super().sample(token_ids, sampling)


class Stage(Runtime, Unseen):
    """A runtime over scripted models, and what it said."""

    def __init__(self, actor: dict[str, list[str]], critic: dict[str, list[str]]) -> None:
        sandbox = Sandbox({"print(20 + 57)": printed("77")})
        super().__init__(ResourceConfig(concurrency=4), sandbox, Grader())  # type: ignore[arg-type]
        self.policies = {"actor": Actor(tiny_tokenizer(), actor), "critic": ScriptedPolicy(tiny_tokenizer(), critic)}
        self.said: list[str] = []
        self.engines: dict[str, EngineOptions | None] = {}

    @asynccontextmanager
    async def load(self, name: str, *args: Any, engine_options: EngineOptions | None = None, **options: Any):
        self.engines[name] = engine_options
        yield LoadedModel(policy=self.policies[name], tokenizer=tiny_tokenizer(), model=None, about=dict)

    @contextmanager
    def stage(self, title: str, total: int):
        yield self

    def say(self, text: str) -> None:
        self.said.append(text)

    def go(self, folder: Path, questions: list[str], **options: Any) -> "Stage":
        rows = [{"question": question, "answer": "77"} for question in questions]
        problems = write_lines(folder / "problems.jsonl", rows)
        config = RunConfig(actor="actor", critic="critic", problems=str(problems), num_tirgen=len(rows))
        asyncio.run(generate_raw(replace(config, **options), folder / "run", self, self))
        return self


SUM = "What is 20 + 57?"


@pytest.mark.parametrize(
    "reply",
    [
        f"We compute.\n```python\nprint(20 + 57)\n```\n{ANSWER}",
        f"```python\nprint(20 + 57)\n```\n```output\n77\n```\n{ANSWER}",
        f"First\n```python\na = 20\n```\nthen\n```python\nprint(a + 57)\n```\n{ANSWER}",
        f"```py\nprint(20 + 57)\n```\n{ANSWER}",
        f"1. Add:\n   ```python\n   print(20 + 57)\n   ```\n{ANSWER}",
        f"{ANSWER} To check:\n```python\nprint(20 + 57)\n```",
        f"~~~python\nprint(20 + 57)\n~~~\n{ANSWER}",
        ANSWER,
    ],
)
def test_a_sample_without_tools_goes_on_to_its_answer_whatever_it_fences(tmp_path: Path, reply: str):
    stage = Stage({SUM: [STEP, ANSWER, reply]}, {STEP.strip(): [PROGRAM], ANSWER: ["NONE"]}).go(tmp_path, [SUM])
    (row,) = read_lines(tmp_path / "run" / "no_tools.jsonl")
    (step,) = row["trajectory"]["steps"]
    assert (step["thought"]["text"], step["action"]) == (reply, None)
    assert (row["outcome"], row["trajectory"]["finish"]) == ("correct", "ended")
    assert stage.sandbox.ran == ["print(20 + 57)"]  # the critic's, once


def test_what_was_lost_to_the_machine_or_had_no_room_is_said_in_every_process_of_the_run(tmp_path: Path):
    lost = "The sum of both is\n```python\nprint(1 + 1)\n```\n"
    scripts = {SUM: [STEP, ANSWER, "77"], "What is 1 + 1?": ["The sum of both is 1 + 1 = 2.\n\n"]}
    critic = {STEP.strip(): [PROGRAM], ANSWER: ["NONE"], "1 + 1 = 2": [lost]}
    questions = [SUM, "What is 1 + 1?", "What is its length?"]
    said = Stage(scripts, critic).go(tmp_path, questions).said
    assert "1 of 3 attempts are lost to faults of the machine: 1 SandboxUnavailable" in said
    assert "1 of 3 attempts wrote nothing: their prompts fill the actor's context" in said
    again = Stage({}, {}).go(tmp_path, questions).said  # nothing is made again, and all is said again
    assert "1 of 3 attempts are lost to faults of the machine: 1 SandboxUnavailable" in again
    assert "1 of 3 attempts wrote nothing: their prompts fill the actor's context" in again
    rows = {json.dumps(row.get("dropped")) for row in read_lines(tmp_path / "run" / "raw.jsonl")}
    assert rows == {"null", '"SandboxUnavailable"'}


def test_the_critic_has_the_servers_that_are_named_for_it(tmp_path: Path):
    stage = Stage({SUM: [STEP, ANSWER, ANSWER]}, {STEP.strip(): [PROGRAM], ANSWER: ["NONE"]})
    engine = EngineOptions(name="vllm", address=("http://a:1",), critic_address=("http://b:1",))
    stage.resources = replace(stage.resources, engine=engine)
    stage.go(tmp_path, [SUM])
    assert stage.engines["actor"] is None  # the run's own
    assert stage.engines["critic"] is not None
    assert stage.engines["critic"].address == ("http://b:1",)


def test_a_run_that_lost_nothing_says_nothing_of_losses(tmp_path: Path):
    stage = Stage({SUM: [STEP, ANSWER, ANSWER]}, {STEP.strip(): [PROGRAM], ANSWER: ["NONE"]}).go(tmp_path, [SUM])
    assert not [line for line in stage.said if " lost " in line or "wrote nothing" in line]
