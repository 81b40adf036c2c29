"""What RL gains from more than one thing at a time: sampling ahead of training, and a second process that learns.

    python benchmarks/scaleout.py async [--max-staleness 1 2] [--tool 1.0]
    python benchmarks/scaleout.py ranks [--model 10M]

`async` runs whole rounds of RL (embedded model, its engine, both levels) whose programs take `--tool` seconds and no
processor, ahead of training and in turn, and prints rounds a second. `tools` is the share of the wall clock of a run in
turn that is gone where programs take no time: the part that sampling ahead can hide.

`ranks` takes optimiser steps over the same rows in one process and in two (over gloo, a thread each), whose model is
whole in each or in parts (FSDP2), and prints tokens a second. Efficiency is that of two processes over the sum of two
single ones that run at the same time: what two cores of this machine do when nothing is exchanged.

    python benchmarks/scaleout.py ray

`ray` runs the same deterministic RL (embedded model) in two processes that a Ray cluster of this host places and in two
that the command starts itself, and prints what Ray costs until the first round, for each row after that and at the end.
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
from time import perf_counter, process_time, sleep
from typing import Annotated, Any

import torch
import tyro

from rounds import Measured, interleaved, rows_of, save, show
from subjects import copy_of, parameters, subject
from thor_tir.dialect.dialect import Dialect, DialectConfig
from thor_tir.distributed import ALONE, Ranks, free_port, together
from thor_tir.engines.loading import load_model
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.execution import ExecutionResult, Status
from thor_tir.learner import trainable
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
    steps: int = 10
    """Steps of each kind, in turns."""
    kept: float = 0.5
    """Share of the steps that counts: those in which other work took least."""
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """Wall time of RL in two processes, placed by Ray and not."""

    num_rounds: int = 40
    """Rounds of a run; the first one is measured apart, with the start."""
    rounds: int = 2
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


def rows_to_learn(options: RanksOptions) -> list[TrainingSample]:
    """Rows of one length, half of their tokens trained."""
    draw = random.Random(0)
    trained = tuple(place >= options.length // 2 for place in range(options.length))
    return [
        TrainingSample(
            id=str(number),
            token_ids=tuple(draw.randrange(400) for _ in range(options.length)),
            trained=trained,
            old_logprobs=tuple(-3.0 if t else float("nan") for t in trained),
            terms=(Term(name="episode", formula="surrogate", advantage=1.0 if number % 2 else -1.0),),
        )
        for number in range(options.rows)
    ]


def busy_s() -> float:
    """Seconds of processor time that everything on this machine has taken."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:8])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")


def learn(options: RanksOptions, ranks: Ranks) -> dict[str, list[tuple[float, float]]]:
    """Optimiser steps over the same rows, of two processes together, of one, and of two at a time: tokens a second, and
    the share of the machine's processor time that something else took. All in turns within the same two processes.
    """
    torch.set_num_threads(1)
    rows, config = rows_to_learn(options), LearnerConfig(micro_batch_tokens=1024)

    def learner(with_whom: Ranks, whole_up_to: int = trainable.WHOLE_UP_TO) -> Learner:
        trainable.WHOLE_UP_TO = whole_up_to
        return Learner(subject(options.model)[0], config, with_whom)

    both, alone, in_parts = learner(ranks), learner(ALONE), learner(ranks, 0)
    sides: dict[str, tuple[Learner | None, int]] = {
        "two processes": (both, 1),
        "two processes, model in parts": (in_parts, 1),
        "one process": (alone if ranks.leads else None, 1),
        "two that know nothing of each other": (alone, 2),
    }
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for step in range(options.steps + 1):
        for name, (mine, work) in sides.items():
            ranks.wait()
            began, own, all_s = perf_counter(), process_time(), busy_s()
            if mine is not None:
                mine.step(rows)
            taken = ranks.gather((perf_counter() - began, process_time() - own))
            seconds, own_s = [each[0] for each in taken], sum(each[1] for each in taken)
            others = (busy_s() - all_s - own_s) / (os.cpu_count() or 1) / max(seconds)
            if step:  # the first one loads code
                mean = seconds[0] if name == "one process" else sum(seconds) / len(seconds)
                rates[name].append((work * options.rows * options.length / mean, others))
    return rates


def in_processes(options: RanksOptions) -> dict[str, list[tuple[float, float]]]:
    """The rates that two processes measured."""
    known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port("127.0.0.1")), "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, "learner", json.dumps(asdict(replace(options, out=None)))],
            env={**os.environ, **known, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in started]
    rates: dict[str, list[tuple[float, float]]] = json.loads(said[0].splitlines()[-1])
    return rates


def compare_ranks(options: RanksOptions) -> None:
    """Measure in turns and print."""
    rates = in_processes(options)
    count = max(1, round(options.kept * options.steps))
    kept = {name: sorted(found, key=lambda each: each[1])[:count] for name, found in rates.items()}
    others = max(share for found in kept.values() for _, share in found)
    *_, ideal = (median(rate for rate, _ in found) for found in kept.values())
    rows = [
        Measured(name=n, rates=tuple(rate for rate, _ in found), ratio=median(rate for rate, _ in found) / ideal)
        for n, found in kept.items()
    ]
    size = parameters(subject(options.model)[0]) / 1e6
    title = f"Optimiser steps over {options.rows} rows of {options.length} tokens, {size:.1f} M parameters"
    notes = [
        f"efficiency {rows[0].ratio:.2f} of what two cores do, {rows[1].ratio:.2f} in parts",
        f"{count} of {options.steps} steps each, in which other work took at most {others:.0%} of the processors",
    ]
    show(title, "tokens/s", rows, notes)
    save(options.out, {"options": asdict(options), "rows": rows, "rates": rates})


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A run of RL in two processes by the clock."""

    first_round_s: float
    """Seconds until its first round was complete."""
    rest_s: float
    """Seconds of the others."""
    rows: int
    """Trajectories and repairs of the others."""
    end_s: float
    """Seconds from its last round to its end."""


def launched(options: OnRay, more: Sequence[str]) -> Launched:
    """Run it, and see by its files when each round is complete: reading a number of lines costs the run nothing."""
    words = (
        "rl --deterministic --processes 2 --model nano/actor --problems reasoning_gym:gcd,lcm --count 64 "
        "--validate-every 0 --problems-per-round 4 --num-generations 4 --step.num-generations 4 --engine.num-threads 1"
    )
    command = [sys.executable, "-m", "thor_tir", *words.split(), "--num-rounds", str(options.num_rounds), *more]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        done, rows = [], []
        began = perf_counter()
        with (Path(folder) / "said").open("wb") as said:  # a pipe would be waited for as long as any daemon holds it
            process = subprocess.Popen([*command, "--output", str(out)], stdout=said, stderr=said)
        while process.poll() is None:
            if _lines(out / "metrics.jsonl") > len(done):
                done.append(perf_counter() - began)
                rows.append(_lines(out / "rollouts.jsonl"))
            sleep(0.05)
        ended = perf_counter() - began
        if process.returncode or len(done) != options.num_rounds:
            raise SystemExit((Path(folder) / "said").read_text(encoding="utf-8", errors="replace")[-2000:])
    return Launched(first_round_s=done[0], rest_s=done[-1] - done[0], rows=rows[-1] - rows[0], end_s=ended - done[-1])


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def compare_launchers(options: OnRay) -> None:
    """Measure in turns and print."""
    sides = {"Ray": ["--launcher", "ray", "--ray.cpus", "0.5"], "processes": []}
    runs: dict[str, list[Launched]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, more in sides.items():
            runs[name].append(launched(options, more))
            print(f"{name}: {runs[name][-1]}", flush=True)
    rows = rows_of({name: [each.rows / each.rest_s for each in found] for name, found in runs.items()})
    pairs = list(zip(runs["Ray"], runs["processes"], strict=True))
    first, row, end = (
        median(found)
        for found in (
            [one.first_round_s - other.first_round_s for one, other in pairs],
            [one.rest_s / one.rows - other.rest_s / other.rows for one, other in pairs],
            [one.end_s - other.end_s for one, other in pairs],
        )
    )
    notes = [f"Ray: {first:+.1f} s until the first round, then {1000 * row:+.1f} ms a row, {end:+.1f} s at the end"]
    show(f"RL of {options.num_rounds} rounds in two processes, after the first round", "rows/s", rows, notes)
    save(options.out, {"options": asdict(options), "runs": {n: [asdict(e) for e in f] for n, f in runs.items()}})


def main() -> None:
    """Measure what is asked for."""
    if sys.argv[1:2] == ["learner"]:
        options = RanksOptions(**json.loads(sys.argv[2]))
        with together() as ranks:
            print(json.dumps(learn(options, ranks)), flush=True)
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
