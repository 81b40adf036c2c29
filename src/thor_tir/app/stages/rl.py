"""Hierarchical RL from a model, as a stage of a run, and the trajectories of its rounds as `thor show` reads them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import torch

from thor_tir.app.config import RunConfig
from thor_tir.app.runtime import (
    Reporter,
    Runtime,
    dialect_of,
    load_trainable,
    publish,
    publishing_dtype,
)
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_model
from thor_tir.eval.transcript import ShownRepair, exhibit, step_segments
from thor_tir.learner.trainable import with_adapters
from thor_tir.pretrained import CausalLM
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, load_problems
from thor_tir.rl import train as rl
from thor_tir.rl.collect import RoundSamples, RoundSource
from thor_tir.rl.config import TITLES, RLConfig
from thor_tir.rl.step import StepPrompt, StepSample
from thor_tir.rollout.sample_many import AttemptRequest, SamplingSetup, attempt_all
from thor_tir.seeds import seed_for, seed_of
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.rules import fault_of
from thor_tir.trajectory import Decode


async def reinforce(config: RunConfig, model_name: str, folder: Path, runtime: Runtime, reporter: Reporter) -> Path:
    """Hierarchical RL from a model; returns the folder of the trained model."""
    ranks = runtime.ranks
    model, tokenizer = load_trainable(model_name, config.rl.adapters, ranks)
    replica = None if ranks.is_alone else _replica(model_name, config.rl)
    actor = model if replica is None else replica
    dialect = dialect_of(tokenizer, TOOLS, reasoning=config.reasoning, observation=config.observation)
    load = partial(load_problems, config.problems, configs=config.families)
    problems = load(split=Split.TRAIN, count=config.num_rl, seed=seed_for("rl", config.seed))
    async with runtime.engine(actor, tokenizer) as engine:
        validate = None
        if config.rl.validate_every:
            held_out = load(
                split=Split.VALIDATION, count=config.rl.num_validation, seed=seed_for("validation", config.seed)
            )
            longest = config.rl.rollout.max_completion_length
            rollout = replace(config.eval.rollout, max_completion_length=longest)
            setup = runtime.setup(
                engine,
                dialect,
                rollout,
            )
            validate = partial(_validate, held_out, setup, runtime.journal(folder / "validation.jsonl"))
        inputs = rl.TrainerInputs(
            model=model,
            replica=replica,
            tokenizer=tokenizer,
            policy=engine,
            source=RoundSource(
                setup=runtime.setup(engine, dialect, config.rl.rollout),
                problems=problems,
                rollouts=runtime.journal(folder / "rollouts.jsonl"),
                is_substantial=lambda code: fault_of(code, needs_import_or_control_flow=False) is None,
            ),
            exhibit=partial(
                exhibit_round,
                journal=Journal(folder / "trajectories.jsonl", is_ours=ranks.leads),
                decode=dialect.decode,
                count=config.rl.monitor.show_count,
            ),
            say=reporter.say,
            validate=validate,
        )
        with reporter.stage(TITLES[config.rl.levels], config.rl.num_rounds) as progress:
            await rl.train(inputs, config.rl, folder, progress)
    dtype = publishing_dtype(model_name, config.rl.save_dtype)
    return ranks.lead(lambda: publish(actor, tokenizer, folder / "model", dtype=dtype, say=reporter.say))


def _replica(name: str, config: RLConfig) -> CausalLM:
    """A whole model for this process to sample from, in the precision in which the shared one multiplies."""
    dtype = torch.bfloat16 if config.bf16 else torch.float32
    return with_adapters(load_model(name, dtype=dtype)[0], config.adapters)


async def _validate(problems: Sequence[Problem], setup: SamplingSetup, journal: Journal, version: int) -> float:
    requests = [
        AttemptRequest(id=f"version{version}/{p.id}", problem=p, seed=seed_of("validation", p.id)) for p in problems
    ]
    attempts = await attempt_all(requests, setup, journal)
    return sum(attempt.is_correct for attempt in attempts) / max(1, len(attempts))


def exhibit_round(number: int, gathered: RoundSamples, journal: Journal, decode: Decode, *, count: int) -> None:
    """Write a draw of a round's trajectories, half of it with repairs where there are so many; what is there stays."""
    repairs = repairs_by_parent(gathered.repairs, decode)
    rng = Random(f"exhibits {number}")
    attempts = rng.sample(gathered.attempts, len(gathered.attempts))
    mended = [a for a in attempts if a.trajectory.id in repairs][: (count + 1) // 2]
    others = [a for a in attempts if a.trajectory.id not in repairs]
    for attempt in [*mended, *others][:count]:
        id = attempt.trajectory.id
        if id not in journal:
            line = exhibit(
                attempt.problem,
                attempt.trajectory,
                stage=f"RL round {number + 1}",
                verdict=attempt.verdict,
                decode=decode,
                repairs=repairs.get(id, ()),
            )
            journal.add(id, line)
    journal.commit()


def repairs_by_parent(
    groups: Sequence[tuple[StepPrompt, Sequence[StepSample]]], decode: Decode
) -> dict[str, list[ShownRepair]]:
    """Repairs as they are shown, under the trajectory that they were cut from."""
    found: dict[str, list[ShownRepair]] = {}
    for query, repairs in groups:
        for repair in repairs:
            seen = repair.step.observation
            shown = ShownRepair(
                call=query.prefix.call,
                segments=step_segments(repair.step, decode),
                reward=int(repair.reward),
                status=None if seen is None else seen.result.status,
            )
            found.setdefault(query.prefix.parent, []).append(shown)
    return found
