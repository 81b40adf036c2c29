"""The stages of a run: each has a folder of its own to be resumed in, and can be run alone from the command line."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from thor_tir.attempt import (
    Progress,
    Request,
    Workshop,
    attempt_all,
    words_of,
)
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.dialect.prompts import TOOLS, WORDS, PromptStyle
from thor_tir.dialect.thinking import thinking_of, unless_cut_short
from thor_tir.engines.attendance import Attendance
from thor_tir.engines.endpoint import ServedAs
from thor_tir.engines.loading import load_model
from thor_tir.engines.protocol import Policy
from thor_tir.engines.transformers import TransformersEngine
from thor_tir.eval.run import Evaluation, evaluate
from thor_tir.exchange import open_shared
from thor_tir.grading.blocking import Judge
from thor_tir.grading.equivalence import Grader
from thor_tir.grading.strictness import Strictness
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.journal import Brief, Journal, told_when_full
from thor_tir.learner.adapters import AdapterConfig, merged, with_adapters
from thor_tir.learner.ranks import ALONE, Ranks
from thor_tir.learner.sharding import copy_weights
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, load_problems
from thor_tir.recipes.models import Seat, local_engine, seated
from thor_tir.recipes.settings import Machinery, RunConfig
from thor_tir.recipes.training_exhibits import exhibit_round
from thor_tir.rl import train as rl
from thor_tir.rollout import RolloutConfig, World, seed_of
from thor_tir.sandbox.batch import OpenableSandbox
from thor_tir.sandbox.local import LocalSandbox, LocalSandboxConfig
from thor_tir.sandbox.protocol import Limits, Sandbox
from thor_tir.sandbox.remote import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sft import train as sft
from thor_tir.sft.examples import sft_row, spelled_for, within
from thor_tir.tirgen.code_quality import fault_of
from thor_tir.tirgen.dataset import read_dataset


class Reporter(Protocol):
    """Where stages tell a person what goes on."""

    def stage(self, title: str, total: int) -> AbstractContextManager[Progress]:
        """Work of `total` units begins; leaving the context ends it."""
        ...

    def say(self, text: str) -> None:
        """One line."""
        ...


class Bench:
    """What stages share: a sandbox and a grader that are started once, and how engines are made."""

    def __init__(self, machinery: Machinery, sandbox: Sandbox, grader: Grader, ranks: Ranks = ALONE) -> None:
        self.ranks = ranks
        self.machinery = machinery
        self.sandbox = sandbox
        self.grader = grader

    def engine(self, model: Any, tokenizer: Any) -> TransformersEngine:
        """An engine over a loaded model."""
        return local_engine(model, tokenizer, self.machinery)

    def seat(
        self,
        name: str,
        served: ServedAs,
        reporter: Reporter,
        attendance: Attendance | None = None,
        *,
        thinks: bool = False,
    ) -> AbstractAsyncContextManager[Seat]:
        """A model to sample from, by whatever name (see `recipes/models.py`)."""
        return seated(name, served, self.machinery, reporter.say, attendance=attendance, thinks=thinks)

    def shop(self, policy: Policy, dialect: Dialect, config: RolloutConfig) -> Workshop:
        """Attempts by one policy."""
        return Workshop(
            world=World(policy=policy, sandbox=self.sandbox, dialect=dialect),
            grade=self.grader.grade,
            config=config,
            graded=unless_cut_short(words_of, thinking_of(dialect)),
            concurrency=self.machinery.concurrency,
            ranks=self.ranks,
        )

    def journal(self, path: Path, brief: Brief | None = None) -> Journal:
        """A journal that is committed unit by unit, or chunk by chunk where bits must not depend on a kill."""
        return open_shared(path, self.ranks, hold=self.machinery.deterministic, brief=brief)


@asynccontextmanager
async def bench(
    machinery: Machinery,
    strictness: Strictness = Strictness.STRICT,
    ranks: Ranks = ALONE,
    judge: Judge | None = None,
) -> AsyncIterator[Bench]:
    """Sandbox and grader for as long as the stages run. Raises SandboxUnavailable when programs cannot be run here."""
    async with _sandbox(machinery) as sandbox, Grader(strictness=strictness, judge=judge) as grader:
        yield Bench(machinery, sandbox, grader, ranks)


def _sandbox(machinery: Machinery) -> OpenableSandbox:
    """On this machine, or on the servers that the run names."""
    limits = Limits(timeout_s=machinery.sandbox_timeout_s)
    if machinery.sandbox_endpoints:
        return RemoteSandbox(RemoteSandboxConfig(endpoints=machinery.sandbox_endpoints, limits=limits))
    return LocalSandbox(LocalSandboxConfig(limits=limits))


def dialect_of(
    tokenizer: Any, style: PromptStyle, *, reasoning: bool = False, observation: ObservationConfig | None = None
) -> Dialect:
    """The conventions of one model under one prompt; `observation` matters where programs are run."""
    told = observation or ObservationConfig()
    return Dialect(tokenizer, DialectConfig(style=style, is_reasoning=reasoning, observation=told))


def in_words(max_tokens: int) -> RolloutConfig:
    """Answers without tools."""
    return RolloutConfig(max_tokens=max_tokens, max_calls=0, temperature=0.6, top_k=50)


def fine_tune(
    model_name: str,
    dataset: Path,
    config: sft.SftConfig,
    folder: Path,
    reporter: Reporter,
    *,
    reasoning: bool = False,
    ranks: Ranks = ALONE,
) -> Path:
    """Cold start from a data set; returns the folder of the trained model."""
    attempts = read_dataset(dataset)
    model, tokenizer = load_trainable(model_name, config.adapters, ranks)
    dialect = dialect_of(tokenizer, TOOLS, reasoning=reasoning)
    spelled = [spelled_for(a.trajectory, dialect) for a in attempts]
    if anew := sum(ours is not a.trajectory for ours, a in zip(spelled, attempts, strict=True)):
        reporter.say(
            f"{anew} of {len(spelled)} samples are not in {model_name}'s own tokens: their text is encoded anew"
        )
    rows = within(
        (
            sft_row(
                ours,
                prompt=dialect.prompt(a.problem.question),
                trains_observations=config.trains_observations,
            )
            for ours, a in zip(spelled, attempts, strict=True)
        ),
        config.max_tokens,
    )
    held_out = max(1, len(rows) // 20) if len(rows) > 40 else 0
    data = sft.SftData(train=rows[held_out:], validation=rows[:held_out])
    steps = len(sft.batches(data.train, config))
    with reporter.stage(f"cold-start SFT on {len(data.train)} samples", steps) as progress:
        learner = sft.train(model, tokenizer, data, config, folder, progress, ranks)
    if not ranks.is_alone:
        model, _ = load_trainable(model_name, config.adapters, ranks)
        copy_weights(learner.weights.items(), model)
    return ranks.lead(lambda: publish(model, tokenizer, folder / "model"))


async def reinforce(config: RunConfig, model_name: str, folder: Path, bench: Bench, reporter: Reporter) -> Path:
    """Hierarchical RL from a model; returns the folder of the trained model."""
    ranks = bench.ranks
    model, tokenizer = load_trainable(model_name, config.rl.adapters, ranks)
    replica = None if ranks.is_alone else _replica(model_name, config.rl)
    actor = model if replica is None else replica
    dialect = dialect_of(tokenizer, TOOLS, reasoning=config.reasoning, observation=config.observation)
    load = partial(load_problems, config.problems, configs=config.families)
    problems = load(split=Split.TRAIN, count=config.num_rl, seed=config.seed + 2)
    async with bench.engine(actor, tokenizer) as engine:
        validate = None
        if config.rl.validate_every:
            held_out = load(split=Split.VALIDATION, count=config.rl.num_validation, seed=config.seed + 3)
            shop = bench.shop(engine, dialect, replace(config.eval.rollout, max_tokens=config.rl.rollout.max_tokens))
            validate = partial(_validate, held_out, shop, bench.journal(folder / "validation.jsonl"))
        trainees = rl.Trainees(
            model=model,
            replica=replica,
            tokenizer=tokenizer,
            policy=engine,
            shop=bench.shop(engine, dialect, config.rl.rollout),
            problems=problems,
            rollouts=bench.journal(folder / "rollouts.jsonl"),
            exhibit=partial(
                exhibit_round,
                journal=Journal(folder / "trajectories.jsonl", is_ours=ranks.leads),
                decode=dialect.decode,
                count=config.rl.watch.show_count,
            ),
            say=reporter.say,
            is_substantial=lambda code: fault_of(code, needs_import_or_control_flow=False) is None,
            validate=validate,
        )
        with reporter.stage(rl.TITLES[config.rl.recipe], config.rl.num_rounds) as progress:
            await rl.train(trainees, config.rl, folder, progress)
    return ranks.lead(lambda: publish(actor, tokenizer, folder / "model"))


def load_trainable(name: str, adapters: AdapterConfig, ranks: Ranks) -> tuple[Any, Any]:
    """A model to be trained, with its adapters, and its tokenizer. One to be shared out waits in the host's memory."""
    model, tokenizer = load_model(name, dtype=torch.float32, device=None if ranks.is_alone else "cpu")
    return with_adapters(model, adapters), tokenizer


def _replica(name: str, config: rl.RLConfig) -> Any:
    """A whole model for this process to sample from, in the precision in which the shared one multiplies."""
    dtype = torch.bfloat16 if config.autocast else torch.float32
    return with_adapters(load_model(name, dtype=dtype)[0], config.adapters)


async def _validate(problems: Sequence[Problem], shop: Workshop, journal: Journal, version: int) -> float:
    requests = [Request(id=f"version{version}/{p.id}", problem=p, seed=seed_of("validation", p.id)) for p in problems]
    attempts = await attempt_all(requests, shop, journal)
    return sum(attempt.is_correct for attempt in attempts) / max(1, len(attempts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """One model under one way of being asked: a row of the results."""

    name: str
    model: str
    """By name, or the address that serves it."""
    samples: int
    """Attempts per problem."""
    style: PromptStyle = TOOLS
    """WORDS runs no program."""
    correction: SelfCorrectionConfig | None = None
    served: ServedAs = field(default_factory=ServedAs)
    """Of an address: which model, and how."""


async def evaluate_model(
    contestant: Contestant,
    problems: Sequence[Problem],
    config: RunConfig,
    folder: Path,
    bench: Bench,
    reporter: Reporter,
) -> Evaluation:
    """A contestant's attempts at given problems, journaled in `folder` under its name."""
    name, style = contestant.name, contestant.style
    rollout = config.eval.rollout if style is not WORDS else in_words(config.eval.rollout.max_tokens)
    async with bench.seat(contestant.model, contestant.served, reporter, thinks=config.reasoning) as seat:
        dialect = dialect_of(seat.tokenizer, style, reasoning=config.reasoning, observation=config.observation)
        shop = bench.shop(seat.policy, dialect, rollout)
        if contestant.correction is not None:
            shop.repair = self_correction(shop.world, rollout, contestant.correction)
        journal = bench.journal(folder / f"{name.replace(' ', '-').replace(',', '')}.jsonl")
        with reporter.stage(f"evaluation: {name}", len(problems) * contestant.samples) as progress:
            return await evaluate(
                name,
                problems,
                shop,
                journal,
                samples=contestant.samples,
                seed=config.eval.seed,
                progress=progress,
            )


def publish(model: Any, tokenizer: Any, path: Path) -> Path:
    """Write a model folder whole, adapters merged: beside its place first, then renamed into it."""
    draft = path.with_name(f".{path.name}.draft")
    with told_when_full(path):
        merged(model).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
    if path.exists():
        shutil.rmtree(draft)
    else:
        draft.rename(path)
    return path
