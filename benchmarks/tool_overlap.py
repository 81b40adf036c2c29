"""Do slow tools overlap? Seconds for a few trajectories whose one program takes a while: THOR against TRL's way.

    python benchmarks/tool_overlap.py [--trajectories 8] [--tool 0.25]

  thor     `rollout` over a scripted policy with a sandbox whose programs sleep: the trajectories wait side by side
  engine   the same through `TransformersEngine` and the embedded actor, which takes its own time to write
  serial   one program after the other, as the tool loop of TRL 1.16 runs synchronous tools: the sum of their times

A trajectory is one program and one answer. Perfect overlap takes one tool's time, serial execution that of all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

import torch
import tyro

from rounds import interleaved, save, show
from subjects import subject
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.loading import load_tokenizer
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.protocol import Policy, Sampling
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.execution import ExecutionResult, Status
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.sandbox.protocol import Limits
from thor_tir.trajectory import Completion

TURNS = ("Let us compute.\n```python\nprint(6 * 7)\n```\n", "So the answer is \\boxed{42}.")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure how tools overlap."""

    model: str = "nano/actor"
    trajectories: int = 8
    tool: float = 0.25
    """Seconds that a program takes."""
    rounds: int = 5
    threads: int = 1
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


class SleepingSandbox:
    """Every program sleeps and prints 42."""

    level = "none: nothing is run"

    def __init__(self, seconds: float, *, one_at_a_time: bool) -> None:
        self.seconds = seconds
        self.gate = asyncio.Semaphore(1) if one_at_a_time else None

    async def run(self, code: str, limits: Limits | None = None, *, stdin: str = "", seed: int = 0) -> ExecutionResult:
        """Wait, and for the others before it where they go one at a time."""
        if self.gate is None:
            await asyncio.sleep(self.seconds)
        else:
            async with self.gate:
                await asyncio.sleep(self.seconds)
        return ExecutionResult(status=Status.OK, stdout="42\n", seconds=self.seconds)


class Dictated:
    """An engine that writes as many tokens as the script has, and is then told what they were."""

    def __init__(self, engine: TransformersEngine, script: ScriptedPolicy) -> None:
        self.engine, self.script = engine, script
        self.attend = engine.attend

    async def sample(self, token_ids: Sequence[int], sampling: Sampling) -> Completion:
        """Decode for real, and return the script's turn."""
        told = await self.script.sample(token_ids, sampling)
        await self.engine.sample(token_ids, Sampling(max_tokens=len(told.span), seed=sampling.seed))
        return told


def main(options: Options) -> None:
    """Measure all in turns and print."""
    torch.set_num_threads(options.threads)
    model, endless = subject(options.model)
    tokenizer = load_tokenizer(options.model)
    dialect = Dialect(tokenizer)

    async def trajectories(policy: Policy, sandbox: SleepingSandbox) -> None:
        agent = Agent(policy=policy, sandbox=sandbox, dialect=dialect)
        drafts = [
            Draft(id=str(n), problem_id="p", prompt=dialect.prompt(f"What is 6 * 7, the {n}th time?"), seed=n)
            for n in range(options.trajectories)
        ]
        done = await asyncio.gather(
            *(rollout(draft, agent, RolloutConfig(max_completion_length=256)) for draft in drafts)
        )
        assert all(len(trajectory.calls) == 1 for trajectory in done)

    def script() -> ScriptedPolicy:
        return ScriptedPolicy(tokenizer, {f"the {n}th time": TURNS for n in range(options.trajectories)})

    async def thor() -> None:
        await trajectories(script(), SleepingSandbox(options.tool, one_at_a_time=False))

    async def engine() -> None:
        config = EngineConfig(num_threads=options.threads)
        async with TransformersEngine(model, endless, config) as real:
            await trajectories(Dictated(real, script()), SleepingSandbox(options.tool, one_at_a_time=False))

    async def serial() -> None:
        await trajectories(script(), SleepingSandbox(options.tool, one_at_a_time=True))

    def rate(side: Callable[[], Awaitable[None]]) -> float:
        async def timed() -> float:
            began = perf_counter()
            await side()
            return 1 / (perf_counter() - began)

        return asyncio.run(timed())

    sides = {"thor": lambda: rate(thor), "engine": lambda: rate(engine), "serial": lambda: rate(serial)}
    rows = interleaved(sides, rounds=options.rounds)
    seconds = ", ".join(f"{row.name} {1 / row.median:.3f} s" for row in rows)
    title = f"{options.trajectories} trajectories with a tool of {options.tool} s"
    show(title, "batches/s", rows, [f"seconds for all: {seconds}"])
    save(options.out, {"options": asdict(options), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
