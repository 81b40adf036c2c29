"""A benchmark run of a policy that says what it is told, with the real grader and, for code, the real sandbox."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from scripted_agent import FakeSandbox
from thor_tir.app.config import EvalConfig, RunConfig
from thor_tir.app.runtime import Runtime
from thor_tir.app.stages.evaluate import EvalRun, EvalSpec, ask_selectors, fill, manifest, setup_for
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.eval.folder import EvalFolder
from thor_tir.grading.grader import Grader
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import ProblemKind, ProblemSet, digest_of
from thor_tir.progress import Unseen
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.sandbox.local.sandbox import LocalSandbox, LocalSandboxConfig
from thor_tir.storage.journal import WHOLE, Shard
from thor_tir.verdict import Strictness
from tiny_models import tiny_tokenizer

Replies = Callable[[Problem], Sequence[str]]
TOOLS_SPEC = EvalSpec(name="tools", model="scripted", samples=2)


class Quiet(Unseen):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def stage(self, title: str, total: int):
        from contextlib import nullcontext

        return nullcontext(self)

    def say(self, text: str) -> None:
        self.said.append(text)


def right(problem: Problem) -> Sequence[str]:
    return [rf"So the answer is \boxed{{{problem.answer}}}."] * 2


def wrong(problem: Problem) -> Sequence[str]:
    return [r"So the answer is \boxed{-987654321.125}."] * 2


def set_of(*problems: Problem, name: str = "mine") -> ProblemSet:
    return ProblemSet(name=name, title=name, problems=problems, sha256=digest_of(problems))


def scripted_run(
    folder: Path,
    sets: Sequence[ProblemSet],
    *,
    samples: int = 2,
    shard: Shard = WHOLE,
    spec: EvalSpec = TOOLS_SPEC,
) -> EvalRun:
    from dataclasses import replace

    return EvalRun(
        spec=replace(spec, samples=samples),
        sets=tuple(sets),
        config=RunConfig(eval=EvalConfig(rollout=RolloutConfig(max_completion_length=4000))),
        folder=EvalFolder(path=folder),
        shard=shard,
    )


def play(run: EvalRun, replies: Replies, tokenizer: Any = None) -> list[str]:
    """Fill the run's folder; returns what the policy was asked."""
    tokenizer = tokenizer or tiny_tokenizer()
    scripts = {problem.question.strip(): replies(problem) for each in run.sets for problem in each.problems}
    policy = ScriptedPolicy(tokenizer, scripts)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            grader = await stack.enter_async_context(Grader(strictness=Strictness.LENIENT))
            sandbox: Any = FakeSandbox()
            if any(asked.kind is ProblemKind.CODE for asked in run.sets):
                sandbox = await stack.enter_async_context(
                    LocalSandbox(LocalSandboxConfig(modules=("json",), heavy_modules=()))
                )
            tools = Runtime(run.config.resources, sandbox, grader)
            setups = [setup_for(run, asked, tools, policy, tokenizer) for asked in run.sets]
            for asked, setup in zip(run.sets, setups, strict=True):
                await fill(run, asked, setup, Quiet())
            await ask_selectors(run, setups, Quiet())

    with run.folder.writing(run.shard):
        run.folder.start(run.sets, manifest(run, weights="none", sandbox="scripted"))
        asyncio.run(work())
    return [asked.text for asked in policy.asked]
