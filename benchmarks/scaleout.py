"""What RL gains from more than one thing at a time: sampling ahead of training, and a second process that learns.

    python benchmarks/scaleout.py async [--max-staleness 1 2] [--tool 1.0]
    python benchmarks/scaleout.py ranks [--model 10M]

`async` runs whole rounds of RL (embedded model, its engine, both levels) whose programs take `--tool` seconds and no
processor, ahead of training and in turn, and prints rounds a second. `tools` is the share of the wall clock of a run in
turn that is gone where programs take no time: the part that sampling ahead can hide.

`ranks` takes optimiser steps over the same rows in one process and in two (FSDP2 over gloo, a thread each) and prints
tokens a second. Efficiency is the second over the sum of two single processes that run at the same time: what two cores
of this machine do when nothing is exchanged.

    python benchmarks/scaleout.py ray

`ray` runs the same deterministic RL (embedded model) in two processes that a Ray cluster of this host places and in two
that the command starts itself, short and long, and prints what Ray costs at the start and for each row after that.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import torch
import tyro

from rounds import interleaved, rows_of, save, show
from subjects import copy_of, parameters, subject
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.distributed import ALONE, Ranks, free_port, together
from thor_tir.engines.loading import load_model
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.execution import ExecutionResult, Status
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.problem import Problem
from thor_tir.problems.sources import Split, load_problems
from thor_tir.rl.config import EpisodeConfig, MonitorConfig, RLConfig, StepConfig
from thor_tir.rl.source import RoundSource
from thor_tir.rl.train import TrainerInputs, train
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.rollout.sample_many import SamplingSetup
from thor_tir.storage.shared_journal import open_shared
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, kw_only=True)
class Async:
    """Rounds a second with sampling ahead of training, and in turn."""

    max_staleness: tuple[int, ...] = (1, 2)
    tool: float = 1.5
    """Seconds of a program, in which nothing is computed."""
    num_rounds: int = 6
    problems: int = 4
    samples: int = 4
    rounds: int = 3
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, kw_only=True)
class RanksOptions:
    """Tokens a second of optimiser steps in one process and in two."""

    model: str = "10M"
    rows: int = 64
    length: int = 128
    steps: int = 4
    rounds: int = 3
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """Wall time of RL in two processes, placed by Ray and not."""

    num_rounds: tuple[int, int] = (2, 12)
    """Rounds of a short run and of a long one; what both have in common is the start."""
    rounds: int = 1
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


class Sleeping:
    """A sandbox whose programs sleep, then print a number; one in three fails, so that there is something to repair."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    async def run(self, code: str, limits: Any = None) -> ExecutionResult:
        await asyncio.sleep(self._seconds)
        if zlib.crc32(code.encode()) % 3:
            return ExecutionResult(status=Status.OK, stdout="7\n", seconds=self._seconds)
        return ExecutionResult(status=Status.RUNTIME, stdout="", error="NameError: x", seconds=self._seconds)


async def grade(problem: Problem, text: str) -> Verdict:
    """Right for half of all texts, so that groups differ whatever the model can do."""
    is_right = zlib.crc32(text.encode()) % 2
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, extracted=None, reason="")


def whole_run(
    options: Async,
    folder: Path,
    *,
    ahead: int,
    tool: float,
    ranks: Ranks = ALONE,
    kind: type[TransformersEngine] = TransformersEngine,
) -> float:
    """Seconds of a whole run in this folder, by an engine of this kind."""
    model, tokenizer = load_model("nano/actor", dtype=torch.float32)
    replica = copy_of(model) if ahead or not ranks.is_alone else None
    config = RLConfig(
        num_rounds=options.num_rounds,
        problems_per_round=options.problems,
        max_staleness=ahead,
        rollout=RolloutConfig(max_completion_length=160, stop_at_failure=True),
        episode=EpisodeConfig(num_generations=options.samples),
        step=StepConfig(num_generations=options.samples, suffix_tokens=20, max_queries_share=0.5),
        monitor=MonitorConfig(report_to=(), show_every=0),
    )
    problems = load_problems("reasoning_gym:gcd,lcm", split=Split.TRAIN, seed=0, count=64).problems
    dialect, journal = Dialect(tokenizer, DialectConfig()), open_shared(folder / "rollouts.jsonl", ranks, hold=False)

    async def whole() -> float:
        async with kind(replica or model, tokenizer, EngineConfig(num_threads=1)) as engine:
            agent = Agent(policy=engine, sandbox=Sleeping(tool), dialect=dialect)
            setup = SamplingSetup(agent=agent, grade=grade, config=config.rollout, ranks=ranks)
            source = RoundSource(setup=setup, problems=problems, rollouts=journal)
            inputs = TrainerInputs(model=model, tokenizer=tokenizer, policy=engine, source=source, replica=replica)
            began = perf_counter()
            await train(inputs, config, folder)
            return perf_counter() - began

    return asyncio.run(whole())


def rl(options: Async, *, ahead: int, tool: float) -> float:
    """Rounds a second of a whole run."""
    with tempfile.TemporaryDirectory() as folder:
        return options.num_rounds / whole_run(options, Path(folder), ahead=ahead, tool=tool)


def compare_async(options: Async) -> None:
    """Measure in turns and print."""

    def side(ahead: int, tool: float) -> Callable[[], float]:
        return lambda: rl(options, ahead=ahead, tool=tool)

    sides = {f"ahead by {n}": side(n, options.tool) for n in options.max_staleness}
    rows = interleaved(
        {**sides, "tools take no time": side(0, 0.0), "in turn": side(0, options.tool)}, rounds=options.rounds
    )
    share = 1 - 1 / next(row.ratio for row in rows if row.name == "tools take no time")
    title = f"{options.num_rounds} rounds of {options.problems} x {options.samples}, programs of {options.tool} s"
    show(title, "rounds/s", rows, [f"tools: {share:.0%} of the wall clock in turn"])
    save(options.out, {"options": asdict(options), "rows": rows, "tools": share})


def learn(options: RanksOptions, ranks: Ranks) -> float:
    """Tokens a second of optimiser steps over the same rows, by so many processes together."""
    torch.set_num_threads(1)
    model = subject(options.model)[0]
    learner = Learner(model, LearnerConfig(micro_batch_tokens=1024), ranks)
    draw = random.Random(0)
    trained = tuple(place >= options.length // 2 for place in range(options.length))
    rows = [
        TrainingSample(
            id=str(number),
            token_ids=tuple(draw.randrange(400) for _ in range(options.length)),
            trained=trained,
            old_logprobs=tuple(-3.0 if t else float("nan") for t in trained),
            terms=(Term(name="episode", formula="surrogate", advantage=1.0 if number % 2 else -1.0),),
        )
        for number in range(options.rows)
    ]
    taken = []
    for _ in range(options.steps + 1):
        began = perf_counter()
        learner.step(rows)
        taken.append(perf_counter() - began)
    return options.rows * options.length / median(taken[1:])


def in_processes(options: RanksOptions, *, together: int = 1, apart: int = 1) -> list[float]:
    """The rates that processes say: a group of them, or some at the same time that know nothing of each other."""
    port = free_port("127.0.0.1")
    given = replace(options, out=None)
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(together), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "learner", json.dumps(asdict(given))],
            env={**os.environ, **known, "RANK": str(number % together), "LOCAL_RANK": str(number % together)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(together * apart)
    ]
    return [float(process.communicate()[0].splitlines()[-1]) for process in started]


def compare_ranks(options: RanksOptions) -> None:
    """Measure in turns and print."""
    rates: dict[str, list[float]] = {"two processes": [], "one process": [], "two that know nothing of each other": []}
    for _ in range(options.rounds):
        rates["two processes"].append(in_processes(options, together=2)[0])
        rates["one process"].append(in_processes(options)[0])
        rates["two that know nothing of each other"].append(sum(in_processes(options, apart=2)))
    rows = rows_of(rates)
    size = parameters(subject(options.model)[0]) / 1e6
    title = f"Optimiser steps over {options.rows} rows of {options.length} tokens, {size:.1f} M parameters"
    show(title, "tokens/s", rows, [f"efficiency {rows[0].ratio:.2f} of what two cores do"])
    save(options.out, {"options": asdict(options), "rows": rows})


def launched(num_rounds: int, more: Sequence[str]) -> tuple[float, int]:
    """Seconds of a run of RL in two processes, and its rows: trajectories and repairs."""
    words = (
        "rl --deterministic --processes 2 --model nano/actor --problems reasoning_gym:gcd,lcm --count 64 "
        "--validate-every 0 --problems-per-round 4 --num-generations 4 --step.num-generations 4 --engine.num-threads 1"
    )
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "thor_tir", *words.split(), "--num-rounds", str(num_rounds)]
        began = perf_counter()
        subprocess.run([*command, "--output", folder, *more], check=True, capture_output=True)
        return perf_counter() - began, (Path(folder) / "rollouts.jsonl").read_bytes().count(b"\n")


def compare_launchers(options: OnRay) -> None:
    """Measure in turns and print."""
    sides = {"Ray": ["--launcher", "ray", "--ray.cpus", "0.5"], "processes": []}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    starts, per_row = [], []
    for _ in range(options.rounds):
        short, long = ({name: launched(num, more) for name, more in sides.items()} for num in options.num_rounds)
        for name, (seconds, rows) in long.items():
            rates[name].append(rows / seconds)
        rows = long["Ray"][1] - short["Ray"][1]
        slower = [each["Ray"][0] - each["processes"][0] for each in (short, long)]
        per_row.append((slower[1] - slower[0]) / rows)
        starts.append(slower[0])
        print(f"seconds and rows: short {short}, long {long}", flush=True)
    notes = [f"Ray: {median(starts):.1f} s more in a short run, then {1000 * median(per_row):+.1f} ms a row"]
    show(f"RL of {options.num_rounds[1]} rounds in two processes", "rows/s", rows_of(rates), notes)
    save(options.out, {"options": asdict(options), "rows": rows_of(rates), "starts": starts, "per_row": per_row})


def main() -> None:
    """Measure what is asked for."""
    if sys.argv[1:2] == ["learner"]:
        options = RanksOptions(**json.loads(sys.argv[2]))
        with together() as ranks:
            print(learn(options, ranks), flush=True)
        return
    asked = tyro.cli(
        Annotated[Async, tyro.conf.subcommand("async")]
        | Annotated[RanksOptions, tyro.conf.subcommand("ranks")]
        | Annotated[OnRay, tyro.conf.subcommand("ray")]
    )
    if isinstance(asked, Async):
        compare_async(asked)
    elif isinstance(asked, OnRay):
        compare_launchers(asked)
    else:
        compare_ranks(asked)


if __name__ == "__main__":
    main()
