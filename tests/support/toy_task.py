"""A tool task so small that a two-layer model learns it in seconds, and everything around it that RL needs.

The model has been primed to write one of a few short programs, each equally often. `SAYS` prints a number that the
model then copies into its answer; `BREAKS` raises. Which of them is rewarded is for the test to say.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.prompts import PromptStyle
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.problem import Problem
from thor_tir.progress import UNSEEN
from thor_tir.rl.config import RLConfig
from thor_tir.rl.source import RoundSource
from thor_tir.rl.train import TrainerInputs, train
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.rollout.sample_many import SamplingSetup
from thor_tir.sft.config import SftConfig
from thor_tir.sft.examples import sft_row
from thor_tir.sft.train import SftData
from thor_tir.sft.train import cold_start as fine_tune
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_model, tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

RIGHT, OTHER, BREAKS = "print(7)", "print(8)", "print(x)"
PROGRAMS = {RIGHT: printed("7"), OTHER: printed("8"), BREAKS: raised()}
PROBLEMS = [Problem(id=name, question=name, answer="7", source="toy") for name in "abcd"]
STYLE = DialectConfig(style=PromptStyle(system="", user="{text}"))
LIMITS = RolloutConfig(max_completion_length=60, max_tool_calling_iterations=1, stop_at_failure=True)


def dialect() -> Dialect:
    return Dialect(tiny_tokenizer(), STYLE)


async def grade(problem: Problem, text: str) -> Verdict:
    is_right = f"\\boxed{{{problem.answer}}}" in text
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, extracted=None, reason="")


@cache
def primed_weights(*programs: str) -> dict[str, Any]:
    """Weights of a tiny model after a cold start on equally many trajectories with each of the programs."""
    model, rows = tiny_model(sharpness=1.0), []
    for problem in PROBLEMS:
        for program in programs:
            result = PROGRAMS[program]
            opening = f"So\n```python\n{program}\n```\n"
            # After a failure an answer that is wrong; stop_at_failure never lets the model come to it.
            replies = [opening, f"\\boxed{{{result.stdout.strip() or 0}}}"]
            agent = Agent(
                policy=ScriptedPolicy(tiny_tokenizer(), replies), sandbox=ToldSandbox(PROGRAMS), dialect=dialect()
            )
            prompt = dialect().prompt(problem.question)
            draft = Draft(id=f"{problem.id} {program}", problem_id=problem.id, prompt=prompt, seed=0)
            rows.append(sft_row(asyncio.run(rollout(draft, agent, RolloutConfig())), prompt=prompt))
    config = SftConfig(
        num_train_epochs=120,
        train_batch_size=len(rows),
        learning_rate=1e-2,
        lr_scheduler_type="cosine_with_min_lr",
        save_steps=10_000,
    )
    with TemporaryDirectory() as folder:
        fine_tune(model, tiny_tokenizer(), SftData(train=rows), config, Path(folder))
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def primed_model(*programs: str) -> Any:
    model = tiny_model(sharpness=1.0)
    model.load_state_dict(primed_weights(*programs))
    return model


@asynccontextmanager
async def trainees_of(model: Any, folder: Path, *, deterministic: bool = True, **fields: Any):
    """The model on the toy task behind a real engine, which samples from a replica where one is given."""
    async with AsyncExitStack() as stack:
        config = EngineConfig(deterministic=deterministic)
        engine = await stack.enter_async_context(
            TransformersEngine(fields.get("replica", model), tiny_tokenizer(), config)
        )
        sandbox = fields.pop("sandbox", None) or ToldSandbox(PROGRAMS)
        setup = SamplingSetup(
            agent=Agent(policy=engine, sandbox=sandbox, dialect=dialect()), grade=grade, config=LIMITS, concurrency=8
        )
        rollouts = Journal(folder / "rollouts.jsonl", hold=deterministic)
        problems = fields.pop("problems", PROBLEMS)
        source = RoundSource(setup=setup, problems=problems, rollouts=rollouts)
        given: dict[str, Any] = {"policy": engine, **fields}
        yield TrainerInputs(model=model, tokenizer=tiny_tokenizer(), source=source, **given)


def run(model: Any, config: RLConfig, folder: Path, *, progress: Any = UNSEEN, **fields: Any) -> None:
    async def whole() -> None:
        async with trainees_of(model, folder, **fields) as inputs:
            await train(inputs, config, folder, progress)

    asyncio.run(whole())


def mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)
