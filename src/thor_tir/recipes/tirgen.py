"""TIRGen as a stage of a run: raw trajectories of an actor and a critic, and what the actor solves in words alone.

The rows of `raw.jsonl` are all that later stages need: problem, trajectory, verdict, seed, and each step's fate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from thor_tir.attempt import (
    DROPPED,
    Attempt,
    Progress,
    Request,
    Workshop,
    attempt_all,
    attempt_to_json,
    record_all,
)
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompts import CRITIC, WORDS
from thor_tir.engines.attendance import Attendance
from thor_tir.journal import Journal
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, load_problems
from thor_tir.recipes.settings import RunConfig
from thor_tir.recipes.stages import Bench, Reporter, dialect_of, in_words
from thor_tir.recipes.tirgen_filter import filter_raw
from thor_tir.rollout import seed_of
from thor_tir.tirgen.critic import Critic
from thor_tir.tirgen.generate import Studio, generate
from thor_tir.tirgen.provenance import prompt_digest, sign, thinking_of, versions
from thor_tir.tirgen.raw_rows import PROVENANCE
from thor_tir.verdict import Outcome


async def generate_data(config: RunConfig, folder: Path, bench: Bench, reporter: Reporter) -> Path:
    """TIRGen and its filter: what `generate_raw` and `filter_raw` write; the data set's path is returned."""
    await generate_raw(config, folder, bench, reporter)
    return filter_raw([folder], config.filter, folder)


def tirgen_problems(config: RunConfig) -> list[Problem]:
    """The questions that TIRGen is run on."""
    return load_problems(
        config.problems, split=Split.TRAIN, count=config.num_tirgen, seed=config.seed + 1, configs=config.families
    )


async def generate_raw(config: RunConfig, folder: Path, bench: Bench, reporter: Reporter) -> None:
    """Write or continue `raw.jsonl` and `words.jsonl`."""
    problems = tirgen_problems(config)
    attendance = Attendance()
    async with (
        bench.seat(config.actor, config.actor_served, reporter, attendance) as actor,
        bench.seat(config.critic, config.critic_served, reporter, attendance) as critic,
    ):
        dialect = dialect_of(actor.tokenizer, WORDS, reasoning=config.reasoning)
        studio = Studio(
            actor=actor.policy,
            dialect=dialect,
            critic=Critic(
                policy=critic.policy, dialect=dialect_of(critic.tokenizer, CRITIC), config=config.tirgen.critic
            ),
            sandbox=bench.sandbox,
        )
        shop = bench.shop(actor.policy, dialect, in_words(config.tirgen.max_tokens))
        with reporter.stage("TIRGen: actor, critic, sandbox", len(problems)) as progress:
            raw = bench.journal(folder / "raw.jsonl")
            signed = sign(folder / PROVENANCE, provenance_of(config, dialect))
            units = {f"{p.id}/0": partial(_raw_sample, p, studio, config, bench, signed) for p in problems}
            await record_all(units, shop, raw, progress)
        good = [p for p in problems if _is_promising(raw[f"{p.id}/0"])]
        with reporter.stage("TIRGen: what words alone solve", len(good) * config.words_samples) as progress:
            await _answer_in_words(good, shop, bench.journal(folder / "words.jsonl"), config, progress)


def provenance_of(config: RunConfig, dialect: Dialect) -> dict[str, Any]:
    """What every raw row of this run has in common."""
    return {
        "actor": config.actor,
        "critic": config.critic,
        "served_as": [config.actor_served.model, config.critic_served.model],
        "prompts": {"actor": prompt_digest(WORDS), "critic": prompt_digest(CRITIC)},
        "thinking": thinking_of(dialect).value,
        "problems": config.problems,
        "seed": config.seed,
        "tirgen": asdict(config.tirgen),
        "versions": versions(),
    }


async def _raw_sample(problem: Problem, studio: Studio, config: RunConfig, bench: Bench, signed: str) -> dict[str, Any]:
    seed = seed_of(config.seed, "tirgen", problem.id)
    sample = await generate(problem, studio, config.tirgen, id=f"{problem.id}/0", seed=seed)
    verdict = await bench.grader.grade(problem, sample.trajectory.response_text)
    attempt = Attempt(problem=problem, trajectory=sample.trajectory, verdict=verdict)
    told = {"critic": dict(sample.critic), "seed": seed, "problem": asdict(problem), "provenance": signed}
    return {**attempt_to_json(attempt), **told}


def _is_promising(row: Mapping[str, Any]) -> bool:
    """Only for these is it worth knowing what words alone do."""
    return DROPPED not in row and row["outcome"] == Outcome.CORRECT and row["critic"].get("rewritten", 0) > 0


async def _answer_in_words(
    problems: Sequence[Problem], shop: Workshop, journal: Journal, config: RunConfig, progress: Progress
) -> None:
    """Tool-free samples of each question."""
    requests = [
        Request(id=f"{p.id}/words{k}", problem=p, seed=seed_of(config.seed, "words", p.id, k))
        for p in problems
        for k in range(config.words_samples)
    ]
    await attempt_all(requests, shop, journal, progress)
