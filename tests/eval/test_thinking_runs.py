"""A reasoning model on a benchmark: prompts with thinking on and off, programs among thoughts, thoughts cut short."""

import asyncio
from copy import copy
from dataclasses import replace
from pathlib import Path

import pytest

from endpoint_server import completion, says, serving
from scripted_agent import program
from scripted_benchmark import Quiet, play, scripted_run, set_of
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, evaluate, write_results
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from tiny_models import ASSISTANT, CHAT_TEMPLATE, tiny_tokenizer

SUM = Problem(id="sum", question="What is 7 * 11?", answer="77", source="mine")
EMPTY = "<think>\n\n</think>\n\n"
QWEN3 = (
    CHAT_TEMPLATE.removesuffix("{% endif %}")
    + r"{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    + "{% endif %}"
)
"""Its generation prompt: thoughts are the model's to open, and without thinking they are there and empty."""
R1 = CHAT_TEMPLATE.removesuffix("{% endif %}") + r"{{ '<think>\n' }}{% endif %}"
"""Opens the thoughts itself."""


def thinking_run(folder: Path, *, reasoning: bool, max_tokens: int = 4000) -> EvalRun:
    run = scripted_run(folder, [set_of(SUM)], samples=1)
    rollout = replace(run.config.eval.rollout, max_completion_length=max_tokens)
    evaluation = replace(run.config.eval, rollout=rollout)
    return replace(run, config=replace(run.config, reasoning=reasoning, eval=evaluation))


def speaking(template: str):
    tokenizer = copy(tiny_tokenizer())  # the other is everybody's
    tokenizer.chat_template = template
    return tokenizer


def ends_of(run: EvalRun) -> dict[str, int]:
    results = write_results(run.folder, Quiet())
    assert results is not None
    return {name: count for name, count in results["sets"][0]["ends"].items() if count}


@pytest.mark.parametrize(
    ("template", "reasoning", "opening"),
    [(QWEN3, True, ""), (QWEN3, False, EMPTY), (R1, True, "<think>\n")],
)
def test_the_template_is_told_whether_thoughts_are_wanted(tmp_path: Path, template, reasoning, opening) -> None:
    run = thinking_run(tmp_path, reasoning=reasoning)
    (asked,) = play(run, lambda _: [r"So \boxed{77}."], speaking(template))
    assert asked.endswith(ASSISTANT + opening)
    assert run.folder.manifest["reasoning"] is reasoning


@pytest.mark.parametrize(("template", "opening"), [(QWEN3, "<think>\n"), (R1, "")])
def test_a_program_among_thoughts_is_run_and_the_answer_is_what_follows_them(tmp_path: Path, template, opening) -> None:
    run = thinking_run(tmp_path, reasoning=True)
    replies = [rf"{opening}Perhaps \boxed{{76}}?" + "\n" + program("print(7 * 11)"), "No.\n</think>\n\nSo \\boxed{77}."]
    first, second = play(run, lambda _: replies, speaking(template))
    assert second.startswith(first + replies[0])  # what the model wrote stands there as it wrote it
    ((stored,),) = run.folder.evaluation(run.folder.sets[0]).groups
    (call,) = stored.trajectory.calls
    assert call.observation is not None
    assert call.observation.text == "77"
    assert stored.verdict.extracted == "77"
    assert ends_of(run) == {"correct": 1}


@pytest.mark.parametrize(
    ("template", "reply", "end"),
    [
        (QWEN3, r"<think>Is it \boxed{77}? " + "Wait. " * 50, "truncated"),
        (R1, r"Is it \boxed{77}? " + "Wait. " * 50, "truncated"),
        (R1, r"It is.</think> So \boxed{77}. " + "Wait. " * 50, "correct"),  # cut short after its answer
        (R1, r"Is it \boxed{76}? No.</think> I cannot tell.", "no_answer"),  # a box among thoughts is no answer
    ],
)
def test_thoughts_that_a_limit_cuts_short_are_truncated_whatever_they_hold(
    tmp_path: Path, template, reply, end
) -> None:
    run = thinking_run(tmp_path, reasoning=True, max_tokens=60)
    play(run, lambda _: [reply], speaking(template))
    assert ends_of(run) == {end: 1}


@pytest.mark.parametrize(("reasoning", "opening"), [(True, ""), (False, EMPTY)])
def test_a_server_is_sent_the_models_own_prompt_with_thoughts_or_without(tmp_path: Path, reasoning, opening) -> None:
    speaking(QWEN3).save_pretrained(tmp_path / "tokenizer")
    run = thinking_run(tmp_path / "run", reasoning=reasoning)

    async def work() -> list[int]:
        async with serving(usual=says(completion("ok", token_ids=[7], stop_reason=None))) as server:
            served = replace(run.spec.served, tokenizer=str(tmp_path / "tokenizer"))
            spec = replace(run.spec, model=server.address, served=served)
            await evaluate(replace(run, spec=spec), Quiet())
            prompt: list[int] = server.asked[-1].body["prompt"]
            return prompt

    assert tiny_tokenizer().decode(asyncio.run(work())).endswith(ASSISTANT + opening)


def test_thoughts_that_programs_interrupt_need_the_tokenizer_of_a_served_model(tmp_path: Path) -> None:
    run = thinking_run(tmp_path / "run", reasoning=True)
    served = replace(run, spec=EvalSpec(name="tools", model="http://127.0.0.1:9/v1", samples=1))
    with pytest.raises(UsageError, match="name the model's tokenizer"):
        asyncio.run(evaluate(served, Quiet()))
