"""A run before it runs: what `--dry-run` prints. Options, model configurations, tokenizers and problems are resolved as
the run itself does it; no weights are read, nothing is sampled and nothing is written.
"""

import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from thor_tir.address import is_address
from thor_tir.app import memory
from thor_tir.app.chips import ClusterOptions
from thor_tir.app.cluster_plan import ClusterPlan, plan_cluster, remedies, training_parts
from thor_tir.app.config import RunConfig
from thor_tir.app.known_models import KNOWN, known_config
from thor_tir.app.runtime import check_resources, check_served, dialect_of
from thor_tir.app.stages.evaluate import EvalRun, check_eval, requests_of, rollout_of
from thor_tir.app.stages.rl import TrainingProblems, check_rl, problems_of
from thor_tir.app.stages.sft import prepared
from thor_tir.app.stages.sft_data import SftSource
from thor_tir.app.stages.tirgen import check_spelling, check_tirgen, engine_of_critic, tirgen_problems
from thor_tir.dialect.dialect import Dialect
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import NO_TOOLS, TOOLS, PromptStyle
from thor_tir.engines.loading import load_tokenizer, model_config
from thor_tir.engines.local.model import longest_context
from thor_tir.engines.options import EngineOptions
from thor_tir.engines.vllm.addresses import addresses_of
from thor_tir.engines.vllm.place import Place
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.provenance import machine
from thor_tir.rl.config import RLConfig
from thor_tir.sft.config import SftConfig
from thor_tir.sft.train import batches
from thor_tir.tools.loading import load_tools

PROMPTS_READ = 500
"""Problems whose prompts are encoded to find the longest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The arithmetic of one stage, and the memory of its process."""

    name: str
    """Name of the stage."""
    counts: Sequence[tuple[str, str]]
    """Names and numbers of the things that are made."""
    memory: Mapping[str, int]
    """Bytes of each part; empty where nothing is computed on this machine."""

    @property
    def memory_rows(self) -> list[tuple[str, str]]:
        """The parts, their sum, and what this machine has."""
        if not self.memory:
            return []
        (place, room), own = room_here(), resident()
        total = sum(self.memory.values()) + (0 if torch.cuda.is_available() else own)
        verdict = "" if total <= room else f"  does NOT fit into {_bytes(room)} of {place}"
        rows = [(part, _bytes(size)) for part, size in self.memory.items()]
        where = ", beside it in the machine's memory" if torch.cuda.is_available() else ""
        rows.append((f"Python, torch and what was read{where}", _bytes(own)))
        return [*rows, ("together, at most", _bytes(total) + verdict), (place, _bytes(room))]


def resident() -> int:
    """Bytes of memory that this process has now: interpreter, libraries, tokenizer and problems, and no tensors."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # another system than Linux: the most that it had
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def room_here() -> tuple[str, int]:
    """Where tensors are placed, and how many bytes there are in all."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0), int(torch.cuda.get_device_properties(0).total_memory)
    return "memory of this machine", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def plan_rl(
    config: RunConfig, model: str, say: Callable[[str], None], *, processes: int = 1, is_here: bool = True
) -> Plan:
    """A run of RL by so many processes, on this machine or elsewhere.

    Raises UsageError for whatever the run would refuse before it samples.
    """
    rl, resources = config.rl, config.resources
    check_rl(config)
    check_resources(resources, processes=processes, trains=True, is_here=is_here)
    architecture, dialect = _actor(config, model)
    problems = problems_of(config)
    say(f"problems: {config.problems}; {problems.remark}")
    train = problems.train.problems
    limit, prompt = _lengths(architecture, dialect, train, rl.rollout.max_completion_length)
    shape = memory.Shape.within(rl.micro_batch_tokens, tokens=prompt + limit, trained=limit)
    counts = [_problem_count(rl, len(train), prompt), *_round_counts(rl, limit, shape, _validated(rl, problems))]
    trained = training_parts(architecture, rl, shape, processes)
    is_local = resources.engine.name == "local"
    counts += _servers(resources.engine, processes)
    samples_apart = processes > 1 or (rl.bf16 and is_local) or rl.max_staleness > 0
    width = memory.HALF if rl.bf16 else memory.FULL
    if not is_local:
        copy = memory.parameters(architecture, rl.adapters) * width if samples_apart else 0
        beside = ", in the machine's memory" if torch.cuda.is_available() else ""
        return Plan(name="rl", counts=counts, memory=trained | ({f"replica{beside}": copy} if copy else {}))
    at_once = min(resources.engine.max_num_seqs, resources.concurrency, max(rl.most_samples))
    sampling = memory.sampling_memory(
        architecture, rows=at_once, tokens=prompt + limit, width=width, pool=resources.engine.cache_tokens
    )
    replica = {"replica": sampling[memory.WEIGHTS]} if samples_apart else {}
    return Plan(name="rl", counts=counts, memory=memory.of_both(trained, sampling) | replica)


def _servers(engine: EngineOptions, processes: int) -> Iterator[tuple[str, str]]:
    """The row on servers that are named."""
    if not engine.address:
        return
    addresses, place = addresses_of(engine.address), Place(size=processes)
    found = f"{len(addresses):,} named"
    if place.has_to_share(addresses):
        found = f"{found}, which {processes:,} processes share"
    elif processes > 1:
        found = f"{found}, dealt out to {processes:,} processes"
    yield "servers", found


ASSUMED_PROMPT = 512
"""Tokens of the longest prompt where no tokenizer is at hand."""


def plan_rl_on(
    config: RunConfig, model: str, cluster: ClusterOptions, say: Callable[[str], None]
) -> tuple[Plan, ClusterPlan]:
    """A run of RL on GPUs that are not here, sampled by vLLM: its arithmetic, and memory and time of each GPU.

    A model of the paper needs no hub. Raises UsageError for whatever the run would refuse before it samples.
    """
    rl = config.rl
    check_rl(config)
    check_resources(config.resources, is_here=False)
    problems = problems_of(config)
    say(f"problems: {config.problems}; {problems.remark}")
    train, limit = problems.train.problems, rl.rollout.max_completion_length
    try:
        architecture, dialect = _actor(config, model)
        limit, prompt = _lengths(architecture, dialect, train, limit)
    except UsageError:
        planned_for = cluster.model or model
        if (architecture := known_config(planned_for)) is None:
            if cluster.model:
                raise UsageError(
                    f"--cluster.model {cluster.model!r} has no published shape here: {', '.join(KNOWN)} have; for "
                    "another give --model the folder of its config.json and tokenizer"
                ) from None
            raise
        prompt = ASSUMED_PROMPT
        limit = max(1, min(limit, longest_context(architecture, None) - prompt))
        say(f"{model} is not at hand: planned for the published shape of {planned_for}, prompts of {prompt:,} tokens")
    shape = memory.Shape.within(rl.micro_batch_tokens, tokens=prompt + limit, trained=limit)
    counts = [_problem_count(rl, len(train), prompt), *_round_counts(rl, limit, shape, _validated(rl, problems))]

    def on_gpus(other: RLConfig, on: ClusterOptions) -> ClusterPlan:
        return plan_cluster(architecture, other, on, config.resources.engine, prompt=prompt, limit=limit)

    planned = on_gpus(rl, cluster)
    if not planned.fits:
        for sentence in remedies(rl, cluster, on_gpus):
            say(sentence)
    return Plan(name="rl", counts=counts, memory={}), planned


def _problem_count(rl: RLConfig, found: int, prompt: int) -> tuple[str, str]:
    drawn = rl.num_rounds * rl.problems_per_round
    return "problems", f"{found:,}, longest prompt {prompt:,} tokens; {drawn:,} drawn, {drawn / found:.1f} times each"


def _validated(rl: RLConfig, problems: TrainingProblems) -> int:
    """Answers of all validations."""
    checks = rl.num_rounds // rl.validate_every if rl.validate_every else 0
    return 0 if problems.validation is None else checks * len(problems.validation.problems)


def _round_counts(rl: RLConfig, limit: int, shape: memory.Shape, validated: int) -> list[tuple[str, str]]:
    """The arithmetic of a round, and of all."""
    trajectories, repairs = rl.most_samples
    rows = (0 if rl.levels == "step" else trajectories) + repairs
    an_update = ceil(rows / rl.updates_per_round)
    groups = f"{rl.problems_per_round:,} of {rl.episode.num_sampled} trajectories"
    queries = repairs // rl.step.num_generations
    steps = f"{rl.updates_per_round} optimiser steps: {rl.num_rounds * rl.updates_per_round:,} in all"
    batches = f"of {shape.rows:,} x {shape.tokens:,} tokens"
    return [
        ("rounds", f"{rl.num_rounds:,}, each with {steps}"),
        ("groups a round", f"{groups}, and at most {queries:,} of {rl.step.num_generations} repairs"),
        ("rows a round", f"at most {rows:,}, {an_update:,} an optimiser step"),
        ("tokens a round", f"at most {(trajectories + repairs) * limit:,}, in responses of at most {limit:,}"),
        ("micro-batches", f"at most {ceil(an_update / shape.rows):,} an optimiser step {batches}"),
        ("generations", f"at most {rl.num_rounds * (trajectories + repairs) + validated:,} in all"),
        ("validation", f"{validated:,} of them"),
    ]


def plan_sft(
    config: SftConfig,
    model: str,
    source: SftSource,
    dialect: Dialect,
    say: Callable[[str], None],
    *,
    processes: int = 1,
) -> Plan:
    """A cold start on data that is there. Raises UsageError for whatever it would refuse."""
    architecture = model_config(model)
    data, counted = prepared(model, architecture, source, dialect, config, say)
    steps = batches(data.train, config)
    longest = max(len(row.token_ids) for row in data.train)
    trained = max(row.num_trained for row in data.train)
    shape = memory.Shape.within(config.micro_batch_tokens, tokens=longest, trained=trained)
    shape = replace(shape, rows=min(shape.rows, config.train_batch_size, len(data.train)))
    tokens = sum(len(row.token_ids) for row in data.train)
    epochs = f"{config.num_train_epochs} epochs of {config.train_batch_size:,} rows a step"
    a_step = ceil(min(config.train_batch_size, len(data.train)) / shape.rows)
    counts = [
        ("rows", f"{len(data.train):,} trained, {len(data.validation):,} held out, {counted['too_long']:,} too long"),
        ("tokens an epoch", f"{tokens:,}, longest row {longest:,}"),
        ("optimiser steps", f"{len(steps):,} in {epochs}"),
        ("micro-batches", f"at most {a_step:,} a step of {shape.rows:,} x {longest:,} tokens"),
    ]
    return Plan(
        name="sft", counts=counts, memory=memory.training_memory(architecture, shape, config, processes=processes)
    )


def plan_tirgen(config: RunConfig, say: Callable[[str], None], *, is_here: bool = True) -> Plan:
    """A run of TIRGen. Raises UsageError for whatever it would refuse before it samples."""
    check_tirgen(config)
    found, tirgen, tries = tirgen_problems(config), config.tirgen, config.schedule.attempts
    if found.taken:
        say(found.taken)
    num, limit = len(found.problems), tirgen.max_completion_length
    critic = num * tries * tirgen.max_steps * (1 + tirgen.max_repairs)
    parts: dict[str, int] = {}
    check_served(config.actor, config.actor_served, thinks=config.reasoning)
    check_served(config.critic, config.critic_served, thinks=False)
    engine = config.resources.engine
    engines = {config.actor: engine, config.critic: engine_of_critic(engine)}
    opened = [each for name, each in engines.items() if not is_address(name)]
    check_resources(config.resources, opened, is_here=is_here)
    for role, name in (("actor", config.actor), ("critic", config.critic)):
        if is_address(name):
            continue
        if role == "actor":
            architecture, dialect = _actor(config, name, NO_TOOLS)
            check_spelling(dialect)
        else:
            architecture, dialect = model_config(name), dialect_of(load_tokenizer(name), NO_TOOLS)
        most = limit if role == "actor" else tirgen.critic.max_tokens
        most, prompt = _lengths(architecture, dialect, found.problems, most)
        found_parts = _sampled(config, architecture, num * tries, prompt + most)
        parts |= {f"{role}, {part}": size for part, size in found_parts.items()}
    counts = [
        ("questions", f"{num:,}, {tries} attempts each: {num * tries:,} trajectories"),
        ("without tools", f"at most {num * config.no_tools_samples:,} further answers"),
        ("tokens of the actor", f"at most {num * (tries + config.no_tools_samples) * limit:,}"),
        ("replies of the critic", f"at most {critic:,} of {tirgen.critic.max_tokens:,} tokens"),
    ]
    return Plan(name="tirgen", counts=counts, memory=parts)


def plan_eval(run: EvalRun, say: Callable[[str], None], *, is_here: bool = True) -> Plan:
    """An evaluation. Raises UsageError for whatever it would refuse before it samples."""
    config, rollout = run.config, rollout_of(run)
    check_eval(run)
    check_served(run.spec.model, run.spec.served, thinks=config.reasoning and run.spec.has_tools)
    check_resources(config.resources, [] if is_address(run.spec.model) else None, is_here=is_here)
    asked = sum(len(requests_of(run, each)) for each in run.sets)
    problems = [problem for each in run.sets for problem in each.problems]
    for each in run.sets:
        say(f"{each.title}: {len(each.problems):,} problems{''.join(f'; {note}' for note in each.notes)}")
    limit, parts = rollout.max_completion_length, {}
    if not is_address(run.spec.model):
        architecture, dialect = _actor(config, run.spec.model)
        limit, prompt = _lengths(architecture, dialect, problems, limit)
        parts = _sampled(config, architecture, asked, prompt + limit)
    correction = run.spec.correction
    again = "" if correction is None else f"; a failed call is written again up to {correction.max_attempts} times"
    counts = [
        ("problems", f"{len(problems):,} in {len(run.sets)} sets"),
        ("generations", f"{asked:,}, {run.spec.samples} a problem{again}"),
        ("tokens", f"at most {asked * limit:,}, in responses of at most {limit:,}"),
    ]
    return Plan(name="eval", counts=counts, memory=parts)


def plan_quickstart(config: RunConfig, say: Callable[[str], None], *, processes: int = 1) -> list[Plan]:
    """The stages of a quickstart that make models: the rows of its cold start are those that TIRGen will keep."""
    tirgen = plan_tirgen(config, say)
    rl = plan_rl(config, config.actor, say, processes=processes)
    sft = config.sft
    architecture, length = model_config(config.actor), config.tirgen.max_completion_length
    shape = memory.Shape.within(sft.micro_batch_tokens, tokens=length, trained=length)
    rows = config.num_tirgen * config.schedule.attempts
    steps = sft.num_train_epochs * ceil(rows / sft.train_batch_size)
    counts = [
        ("rows", f"at most {rows:,}: what TIRGen's filter leaves"),
        ("optimiser steps", f"at most {steps:,} in {sft.num_train_epochs} epochs of {sft.train_batch_size:,} rows"),
    ]
    parts = memory.training_memory(architecture, shape, sft, processes=processes)
    cold = Plan(name="sft", counts=counts, memory=parts)
    return [tirgen, cold, rl]


def headline() -> str:
    """The machine, and that nothing is done."""
    return f"dry run: nothing is loaded, sampled or written; {machine()}"


def _actor(config: RunConfig, model: str, style: PromptStyle = TOOLS) -> tuple[Any, Dialect]:
    """Configuration and conventions of a model that solves problems."""
    resources, calls = config.resources, config.calls
    tokenizer = load_tokenizer(model, resources.end_token, resources.chat_template)
    dialect = dialect_of(
        tokenizer,
        read_prompts(calls.prompts).get(style, style),
        reasoning=config.reasoning,
        observation=config.observation,
        calls=calls.dialect,
        tools=load_tools(calls.tool),
        keeps_state=resources.sandbox.state == "trajectory",
    )
    return model_config(model), dialect


def _lengths(architecture: Any, dialect: Dialect, problems: Sequence[Problem], most: int) -> tuple[int, int]:
    """Tokens of the longest response, within the model's context, and of the longest prompt."""
    read = problems[:: max(1, len(problems) // PROMPTS_READ)]
    prompt = max((len(dialect.prompt(p.question, p.system)) for p in read), default=1)
    return max(1, min(most, longest_context(architecture.get_text_config(), None) - prompt)), prompt


def _sampled(config: RunConfig, architecture: Any, asked: int, tokens: int) -> dict[str, int]:
    """Memory of a model that is only sampled from; empty where another process holds it."""
    engine = config.resources.engine
    if engine.name != "local":
        return {}
    rows = min(engine.max_num_seqs, config.resources.concurrency, asked)
    width = memory.HALF if torch.cuda.is_available() or engine.bf16 else memory.FULL
    return memory.sampling_memory(architecture, rows=rows, tokens=tokens, width=width, pool=engine.cache_tokens)


def _bytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
