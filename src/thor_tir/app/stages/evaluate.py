"""One model under one way of being asked, on given problems."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import (
    Reporter,
    Runtime,
    dialect_of,
    without_tools,
)
from thor_tir.dialect.prompts import NO_TOOLS, TOOLS, PromptStyle
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.eval.run import Evaluation, evaluate
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalSpec:
    """One model under one way of being asked: a row of the results."""

    name: str
    model: str
    """By name, or the address that serves it."""
    samples: int
    """Attempts per problem."""
    style: PromptStyle = TOOLS
    """NO_TOOLS runs no program."""
    correction: SelfCorrectionConfig | None = None
    served: ServedAs = field(default_factory=ServedAs)
    """Of an address: which model, and how."""


async def evaluate_model(
    spec: EvalSpec,
    problems: Sequence[Problem],
    config: RunConfig,
    folder: Path,
    runtime: Runtime,
    reporter: Reporter,
) -> Evaluation:
    """A spec's attempts at given problems, journaled in `folder` under its name."""
    name, style = spec.name, spec.style
    rollout = config.eval.rollout if style is not NO_TOOLS else without_tools(config.eval.rollout.max_tokens)
    async with runtime.load(spec.model, spec.served, reporter, thinks=config.reasoning) as loaded:
        dialect = dialect_of(loaded.tokenizer, style, reasoning=config.reasoning, observation=config.observation)
        setup = runtime.setup(loaded.policy, dialect, rollout)
        if spec.correction is not None:
            setup = replace(setup, repair=self_correction(setup.agent, rollout, spec.correction))
        journal = runtime.journal(folder / f"{name.replace(' ', '-').replace(',', '')}.jsonl")
        with reporter.stage(f"evaluation: {name}", len(problems) * spec.samples) as progress:
            return await evaluate(
                name,
                problems,
                setup,
                journal,
                samples=spec.samples,
                seed=config.eval.seed,
                progress=progress,
            )
