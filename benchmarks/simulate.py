"""What a run on other machines would take, by simulation: `simulation.py` with costs that were measured or counted.

    python benchmarks/simulate.py check
    python benchmarks/simulate.py table
    python benchmarks/simulate.py distribution RUN [RUN ...]

`check` measures small runs of the embedded model on this machine and predicts them. The costs of decoding, reading and
training come from one run whose programs take no time, sampled and trained in turn; the factor by which sampling and
training slow each other down comes from one that samples ahead; training by two processes, and what they take to tell
each other their rows, from one of two processes. Runs with programs of other lengths are predicted, and then measured;
`two engines` is the sampling of two processes alone.

`table` prints the table of docs/scaling.md: models of the paper on GPUs that are not here, from counted operations and
bytes and the rates of data sheets, with the turns of a measured run. `distribution` reads these from runs' folders.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import tyro

from simulation import Cluster, Costs, Round, Row, Turn, simulate, turns_of

DISTRIBUTION = Path(__file__).with_name("turns.json")
"""Rows of a measured run: of each turn its tokens, the tokens read before it and the seconds of its program."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Predict small runs of this machine, and measure them."""

    tools: tuple[float, ...] = (0.25, 1.0)
    """Seconds of a program."""
    max_staleness: int = 2
    num_rounds: int = 6
    problems: int = 4
    samples: int = 4
    two_processes: bool = True
    """False leaves out what needs two cores."""
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One small run."""

    seconds: float
    """All of it."""
    rounds: Sequence[Round]
    train: Sequence[float]
    """Seconds of training on each round."""
    save_s: float
    """Seconds of each round that are neither sampling nor training: checkpoints, files; 0 where they overlap."""
    sampled_s: float
    """Seconds of sampling, summed over the rounds."""
    steps: Sequence[tuple[int, float]]
    """Rows and seconds of each decode step."""
    read_s: float
    """Seconds of reading."""


def rounds_of(folder: Path) -> list[Round]:
    """What each round of a run sampled, in the order in which processes share it."""
    found: dict[int, tuple[list[Row], list[Row]]] = {}
    rows = map(json.loads, (folder / "rollouts.jsonl").read_text(encoding="utf-8").splitlines())
    for row in sorted(rows, key=lambda row: [int(n) for n in re.findall(r"\d+", row["key"])]):
        parts = row["key"].split("/")
        is_repair = len(parts) > 3
        found.setdefault(int(parts[0].removeprefix("round")), ([], []))[is_repair].append(turns_of(row["trajectory"]))
    return [Round(trajectories=found[number][0], repairs=found[number][1]) for number in sorted(found)]


def measured(options: Check, *, ahead: int, tool: float, processes: int = 1) -> Measured:
    """Run it, in processes of its own."""
    from thor_tir.distributed import free_port

    with tempfile.TemporaryDirectory() as folder:
        known = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port("127.0.0.1")), "WORLD_SIZE": str(processes)}
        asked = json.dumps({"options": asdict(replace(options, out=None)), "ahead": ahead, "tool": tool})
        started = [
            subprocess.Popen(
                [sys.executable, __file__, "one", asked, folder],
                env={**os.environ, **known, "OMP_NUM_THREADS": "1", "RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(processes)
        ]
        said = [process.communicate()[0] for process in started]
        own = json.loads(said[0].splitlines()[-1])
        metrics = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text("utf-8").splitlines()]
        parts = [record["seconds"] for record in metrics]
        sampled = sum(each["rollout"] + each["repair"] for each in parts)
        besides = own["seconds"] - sampled - sum(each["train"] for each in parts)  # checkpoints, rows, files
        return Measured(
            seconds=own["seconds"],
            rounds=rounds_of(Path(folder)),
            train=[each["train"] for each in parts],
            sampled_s=sampled,
            save_s=0.0 if ahead else max(0.0, besides) / len(parts),
            steps=[(int(rows), float(seconds)) for rows, seconds in own["steps"]],
            read_s=own["read_s"],
        )


def one(asked: Mapping[str, Any], folder: Path) -> None:
    """Run here, and print the seconds of it, of its decode steps and of its reading."""
    import torch

    from scaleout import Async, whole_run
    from thor_tir.distributed import together
    from thor_tir.engines.local.engine import TransformersEngine

    steps: list[tuple[int, float]] = []
    reads: list[float] = []

    class Timed(TransformersEngine):
        def _decode(self) -> None:
            rows, began = len(self._rows), perf_counter()
            super()._decode()
            steps.append((rows, perf_counter() - began))

        def _prefill(self, first_row: int, starts: Sequence[int]) -> None:
            began = perf_counter()
            super()._prefill(first_row, starts)
            reads.append(perf_counter() - began)

    torch.set_num_threads(1)
    given = asked["options"]
    small = Async(num_rounds=given["num_rounds"], problems=given["problems"], samples=given["samples"])
    whole_run(replace(small, num_rounds=1), folder / f"first{os.environ['RANK']}", ahead=0, tool=0.0)  # loads code
    steps.clear()
    reads.clear()
    with together() as ranks:
        seconds = whole_run(small, folder, ahead=asked["ahead"], tool=asked["tool"], ranks=ranks, kind=Timed)
    print(json.dumps({"seconds": seconds, "steps": steps, "read_s": sum(reads)}))


def costs_of(run: Measured) -> Costs:
    """A step costs a + b rows; everything else of sampling is shared out over the steps."""
    rows, seconds = (np.array(column) for column in zip(*run.steps, strict=True))
    kept = seconds < np.quantile(seconds, 0.98)
    b, a = np.polyfit(rows[kept], seconds[kept], 1)
    read = sum(turn.read for each in run.rounds for row in (*each.trajectories, *each.repairs) for turn in row)
    plain = Costs(
        step=lambda count, held: a + b * count,
        read_token=run.read_s / read,
        train=run.train.__getitem__,
        save_s=run.save_s,
    )
    others = sum(run.train) + run.save_s * len(run.rounds)
    scale = (run.seconds - others) / (simulate(run.rounds, plain, Cluster()).trained_at[-1] - others)
    print(f"a step takes {1000 * a:.2f} + {1000 * b:.3f} B ms; all of sampling takes {scale:.2f} times what steps do")
    return replace(plain, step=lambda count, held: scale * (a + b * count), read_token=scale * plain.read_token)


def with_tools(rounds: Sequence[Round], tool: float) -> list[Round]:
    """The same rounds with programs that take so long."""

    def slow(rows: Sequence[Row]) -> list[Row]:
        return [[replace(t, tool_s=None if t.tool_s is None else tool) for t in row] for row in rows]

    return [Round(trajectories=slow(each.trajectories), repairs=slow(each.repairs)) for each in rounds]


def check(options: Check) -> None:
    """Measure, predict and print."""
    base = measured(options, ahead=0, tool=0.0)
    costs = costs_of(base)
    ahead = measured(options, ahead=options.max_staleness, tool=0.0)
    scored = replace(costs, train=lambda number: 4 / 3 * base.train[number])  # a forward pass more, for the correction
    far = Cluster(max_staleness=options.max_staleness)

    def in_ahead(contention: float) -> float:
        return simulate(base.rounds, replace(scored, contention=contention), far).trained_at[-1]

    factor = min((f / 100 for f in range(100, 301, 5)), key=lambda f: abs(in_ahead(f) - ahead.seconds))
    print(f"sampling and training at the same time take {factor:.2f} times as long")
    found: list[tuple[str, float, float]] = []

    def compare(name: str, seconds: float, predicted: float) -> None:
        found.append((name, seconds, predicted))
        ratio = predicted / seconds
        print(f"{name:22s} measured {seconds:6.1f} s, predicted {predicted:6.1f} s, {ratio:.2f}", flush=True)

    compare("in turn, 0 s", base.seconds, base.seconds)
    compare("ahead, 0 s", ahead.seconds, in_ahead(factor))
    sides = [("in turn", costs, Cluster(), 1), ("ahead", replace(scored, contention=factor), far, 1)]
    if options.two_processes:
        both = measured(options, ahead=0, tool=0.0, processes=2)
        shared = replace(costs, train=both.train.__getitem__, save_s=both.save_s)
        pair = Cluster(replicas=2, processes=2)
        only = replace(shared, train=lambda number: 0.0, save_s=0.0)
        wait = max(0.0, both.sampled_s - simulate(base.rounds, only, pair).trained_at[-1]) / (2 * len(base.rounds))
        print(f"two processes take {1000 * wait:.0f} ms to tell each other their rows")
        shared, only = replace(shared, tell_s=wait), replace(only, tell_s=wait)
        sides.append(("two processes", shared, pair, 2))
        compare("two processes, 0 s", both.seconds, simulate(base.rounds, shared, pair).trained_at[-1])
        compare("two engines, 0 s", both.sampled_s, simulate(base.rounds, only, pair).trained_at[-1])
    for tool in options.tools:
        rounds = with_tools(base.rounds, tool)
        for name, given, cluster, processes in sides:
            predicted = simulate(rounds, given, cluster).trained_at[-1]
            run = measured(options, ahead=cluster.max_staleness, tool=tool, processes=processes)
            compare(f"{name}, {tool:g} s", run.seconds, predicted)
            if processes > 1:
                compare(f"two engines, {tool:g} s", run.sampled_s, simulate(rounds, only, cluster).trained_at[-1])
    if options.out is not None:
        options.out.write_text(json.dumps(found), encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Table:
    """The table of docs/scaling.md."""

    models: tuple[str, ...] = ("qwen2.5-math-1.5b", "qwen3-8b")
    """Recipes of configs/, without their numbers of GPUs."""
    gpus: tuple[int, ...] = (1, 8, 64, 1024)
    ahead_rounds: int = 8
    """Rounds of which the mean is taken where sampling runs ahead."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """Write down the turns of measured runs."""

    runs: tuple[Path, ...]
    count: int = 400
    """Trajectories that are kept, drawn at random."""


def write_distribution(options: Distribution) -> None:
    """Keep tokens and seconds of each turn of some trajectories."""
    rounds = [each for run in options.runs for each in rounds_of(run)]
    rows = Random(0).sample([row for each in rounds for row in each.trajectories], options.count)
    kept = [[[t.tokens, t.read if place else 0, t.tool_s] for place, t in enumerate(row)] for row in rows]
    DISTRIBUTION.write_text(json.dumps(kept, separators=(",", ":")) + "\n", encoding="utf-8")


def drawn_rows(count: int, *, mean: int, limit: int, prompt: float) -> list[Row]:
    """Rows as they were measured, stretched to a mean of so many tokens and cut off at the limit."""
    known = json.loads(DISTRIBUTION.read_text("utf-8"))
    scale = mean / (sum(tokens for row in known for tokens, _, _ in row) / len(known))
    draw, rows = Random(0), []
    for _ in range(count):
        left, row = limit, []
        for number, (tokens, read, tool_s) in enumerate(draw.choice(known)):
            taken = min(left, max(1, round(scale * tokens)))
            row.append(Turn(tokens=taken, read=read if number else int(prompt), tool_s=tool_s))
            left -= taken
            if not left:
                break
        rows.append(row)
    return rows


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A round on GPUs."""

    round_s: float
    """Seconds of all of it, in the mean."""
    train_s: float
    """Seconds of training."""
    transfer_s: float
    """Seconds of weights on their way to the engines."""
    tail_s: float
    """Seconds in which fewer than a tenth of its trajectories were left."""


def planned(model: str, gpus: int, *, engine_gpus: int = 0, ahead_rounds: int = 1) -> Planned:
    """A round on so many GPUs: memory, rates and transfers are those of the plan (`app/cluster_plan.py`)."""
    from thor_tir.app.cluster_plan import pace_of
    from thor_tir.app.known_models import known_config
    from thor_tir.app.plan import ASSUMED_PROMPT
    from thor_tir.commands.config_file import with_config
    from thor_tir.commands.options import defaults
    from thor_tir.commands.training import Rl
    from thor_tir.engines.local.model import longest_context

    file = Path(__file__).parents[1] / "configs" / f"{model}-{16 if gpus > 1 else 1}gpu.toml"
    args = with_config("rl", ["--config", str(file)])
    recipe = tyro.cli(Rl, args=args, default=defaults("rl", args))
    rl, cluster = recipe.rl, replace(recipe.cluster, gpus=gpus, engine_gpus=engine_gpus)
    engine = recipe.resources.engine
    if engine_gpus:
        engine = replace(engine, placement="apart", weights="nccl", gpu_memory_utilization=None)
    architecture = known_config(cluster.model)
    prompt = ASSUMED_PROMPT
    limit = min(rl.rollout.max_completion_length, longest_context(architecture, None) - prompt)
    pace = pace_of(architecture, rl, cluster, engine, prompt=prompt, limit=limit)
    decoder, train_s = pace.decoder, pace.seconds["training"]
    shared = prompt / rl.episode.num_sampled  # a group reads its prompt once
    again = [[Turn(tokens=pace.repair, read=int(shared), tool_s=0.0)]] * pace.repairs
    rows = drawn_rows(pace.trajectories, mean=pace.mean, limit=limit, prompt=shared)
    costs = Costs(
        step=lambda rows, tokens: decoder.step_seconds(rows, tokens // rows),
        read_token=2 * decoder.size / (decoder.chip.flops * cluster.efficiency),
        train=lambda number: train_s,
        transfer_s=pace.seconds["weights to the engines"],
    )
    place = Cluster(
        replicas=cluster.replicas,
        processes=cluster.learners,
        max_rows=max(1, pace.at_once),
        sandboxes=SANDBOXES * gpus,
        max_staleness=int(ahead_rounds > 1),
    )
    found = simulate([Round(trajectories=rows, repairs=again)] * ahead_rounds, costs, place)
    if ahead_rounds == 1:
        return Planned(round_s=found.round_s, train_s=train_s, transfer_s=costs.transfer_s, tail_s=found.tail_s)
    first, last = found.trained_at[0], found.trained_at[-1]
    mean_s = (last - first) / (ahead_rounds - 1)
    return Planned(round_s=mean_s, train_s=train_s, transfer_s=costs.transfer_s, tail_s=found.tail_s)


SANDBOXES = 8
"""Programs that run side by side for each GPU: half of a host's 128 cores, eight GPUs a host."""


def table_lines(options: Table) -> Iterator[str]:
    """The table, a line at a time."""
    yield "|model|GPUs|a step in turn|sampling|last tenth|training|weights|GPU hours|ahead, apart|"
    yield "|---|---|---|---|---|---|---|---|---|"
    for model in options.models:
        for gpus in options.gpus:
            found, ahead = planned(model, gpus), "-"
            sampled = found.round_s - found.train_s - found.transfer_s
            if gpus > 1:
                apart = planned(model, gpus, engine_gpus=gpus // 2, ahead_rounds=options.ahead_rounds)
                ahead = f"{apart.round_s:,.0f} s"
            seconds = [f"{s:,.0f} s" for s in (found.round_s, sampled, found.train_s, found.transfer_s)]
            cells = [model, f"{gpus:,}", *seconds[:2], f"{found.tail_s / sampled:.0%}", *seconds[2:]]
            yield f"|{'|'.join([*cells, f'{found.round_s * gpus / 3600:,.1f}', ahead])}|"


def main() -> None:
    """Do what is asked for."""
    if sys.argv[1:2] == ["one"]:
        one(json.loads(sys.argv[2]), Path(sys.argv[3]))
        return
    asked = tyro.cli(
        Annotated[Check, tyro.conf.subcommand("check")]
        | Annotated[Table, tyro.conf.subcommand("table")]
        | Annotated[Distribution, tyro.conf.subcommand("distribution")]
    )
    if isinstance(asked, Table):
        print("\n".join(table_lines(asked)))
    elif isinstance(asked, Distribution):
        write_distribution(asked)
    else:
        check(asked)


if __name__ == "__main__":
    main()
