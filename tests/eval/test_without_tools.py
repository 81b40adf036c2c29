"""Without tools a program is text: whatever a model writes in fences, its answer comes after it and is graded."""

from dataclasses import replace
from pathlib import Path

import pytest

from scripted_agent import FakeSandbox, program
from scripted_benchmark import TOOLS_SPEC, Quiet, play, scripted_run, set_of
from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import dialect_of
from thor_tir.app.stages.evaluate import write_results
from thor_tir.app.stages.quickstart import specs_of
from thor_tir.dialect.prompts import CODE, CODE_TOOLS, CRITIC, NO_TOOLS, TOOLS
from thor_tir.problem import Problem
from thor_tir.trajectory import Finish
from tiny_models import tiny_tokenizer

SUM = Problem(id="sum/1", question="What is 40 plus 2?", answer="42", source="mine")
WORDS = replace(TOOLS_SPEC, name="no tools", style=NO_TOOLS)
ANSWER = r"So it is \boxed{42}."
REPLIES = {
    "a program, then the answer": f"I compute.\n{program('print(40 + 2)')}{ANSWER}",
    "two programs": f"{program('x = 40')}Then\n{program('print(x + 2)')}{ANSWER}",
    "a program and an output that it made up": f"{program('print(40 + 2)')}```output\n42\n```\n{ANSWER}",
    "four backticks": f"````python\nprint(42)\n````\n{ANSWER}",
    "another tag": f"```py\nprint(42)\n```\n{ANSWER}",
    "no tag": f"```\nprint(42)\n```\n{ANSWER}",
    "the answer before its check": f"{ANSWER}\n{program('assert 40 + 2 == 42')}",
}


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_without_tools_the_text_goes_on_after_its_programs_and_is_graded(tmp_path: Path, reply: str) -> None:
    run = scripted_run(tmp_path, [set_of(SUM)], samples=1, spec=WORDS)
    play(run, lambda _: [reply])
    (attempt,) = run.folder.evaluation(run.sets[0]).attempts
    assert (attempt.is_correct, attempt.trajectory.finish) == (True, Finish.ENDED)
    assert (len(attempt.trajectory.calls), attempt.trajectory.steps[0].thought.text) == (0, reply)
    results = write_results(run.folder, Quiet())
    assert results is not None
    assert results["sets"][0]["code_ratio"] == 0


def test_a_program_alone_is_no_answer_without_tools(tmp_path: Path) -> None:
    run = scripted_run(tmp_path, [set_of(SUM)], samples=1, spec=WORDS)
    play(run, lambda _: [program("print(40 + 2)")])
    results = write_results(run.folder, Quiet())
    assert results is not None
    assert results["sets"][0]["ends"]["no_answer"] == 1


def test_the_prompt_alone_says_whether_programs_are_run() -> None:
    stops = {
        style: dialect_of(tiny_tokenizer(), style).stops() for style in (NO_TOOLS, CODE, TOOLS, CODE_TOOLS, CRITIC)
    }
    assert [bool(stop) for stop in stops.values()] == [False, False, True, True, True]
    rows = {spec.name: spec.has_tools for spec in specs_of(RunConfig(), Path())}
    assert [name for name, has_tools in rows.items() if not has_tools] == ["base actor, without tools"]


def test_tirgens_tool_free_samples_are_whole_texts() -> None:
    from thor_tir.app.config import ResourceConfig
    from thor_tir.app.runtime import Runtime, without_tools
    from thor_tir.engines.scripted import ScriptedPolicy
    from thor_tir.grading.grader import Grader
    from thor_tir.rollout.sample_many import AttemptRequest, attempt

    async def one(reply: str) -> bool:
        tokenizer = tiny_tokenizer()
        policy = ScriptedPolicy(tokenizer, {SUM.question: [reply]})
        async with Grader() as grader:
            runtime = Runtime(ResourceConfig(), FakeSandbox(), grader)
            setup = runtime.setup(policy, dialect_of(tokenizer, NO_TOOLS), without_tools(4000))
            return (await attempt(AttemptRequest(id="0", problem=SUM, seed=0), setup)).is_correct

    import asyncio

    assert all(asyncio.run(one(reply)) for reply in REPLIES.values())
