"""Generated tokens a second of tool-using rollouts: this process's engine beside a vLLM server, same model and work.

    THOR_VLLM_PYTHON=.venv-vllm/bin/python python benchmarks/rollout_vs_vllm.py [--model nano/actor] [--rounds 3]

The work is that of `rollout_vs_hf.py`: groups of trajectories that share a prompt, two tool calls each, turns of
lengths that are drawn beforehand. Both keep log-probabilities, look for a stop string and get the same threads.
vLLM's figure holds what a run pays for it: requests over HTTP from this process, which share its cores. Its server is
started once, outside of what is measured; how long that took is said below the table. `--clock cpu` counts processor
time, of this process and of the server's: on a busy machine more processes get more of it. The rates by the other clock
stand below the table: vLLM's engine waits for its worker without sleeping, which is processor time too.
"""

import asyncio
import os
import statistics
from dataclasses import asdict, dataclass, fields
from time import perf_counter
from typing import Any

import psutil
import torch
import tyro

from rollout_vs_hf import Options as Work
from rollout_vs_hf import Plan, plans, sampled
from rounds import Clock, interleaved, save, show
from subjects import parameters, subject
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.vllm.engine import VLLMEngine
from thor_tir.engines.vllm.server import VLLMConfig


@dataclass(frozen=True, kw_only=True)
class Options(Work):
    """What is sampled, and by which servers."""

    rounds: int = 3
    replicas: int = 1
    python: str = os.environ.get("THOR_VLLM_PYTHON", "")
    """Interpreter of the environment that has vLLM."""
    arguments: str = ""
    """Further arguments of vLLM's server, such as --enforce-eager to leave its compilation out."""
    bf16: bool = False
    """Both sides in bfloat16 in place of float32."""


def spent() -> dict[Clock, float]:
    """Seconds on the wall, and of processor time of this process and of the servers that it started."""
    mine = psutil.Process()
    times = [each.cpu_times() for each in (mine, *mine.children(recursive=True))]
    return {"wall": perf_counter(), "cpu": sum(each.user + each.system for each in times)}


def main(options: Options) -> None:
    """Measure both in turns and print."""
    torch.set_num_threads(options.threads)
    model, tokenizer = subject(options.model)
    model = model.to(torch.bfloat16) if options.bf16 else model
    work: list[Plan] = plans(Work(**{f.name: getattr(options, f.name) for f in fields(Work)}), len(tokenizer))
    wanted = sum(sum(plan.turns) for plan in work)
    loop = asyncio.new_event_loop()
    ours = TransformersEngine(model, tokenizer, EngineConfig(max_num_seqs=len(work), num_threads=options.threads))
    config = VLLMConfig(
        python=options.python,
        num_threads=options.threads,
        max_num_seqs=len(work),
        arguments=tuple(options.arguments.split()),
        dtype="bfloat16" if options.bf16 else "float32",
    )
    theirs = VLLMEngine(model, tokenizer, config, num_replicas=options.replicas)

    other: Clock = "cpu" if options.clock == "wall" else "wall"
    by_other: dict[Any, list[float]] = {ours: [], theirs: []}

    def rate(engine: Any) -> float:
        async def run() -> None:
            await asyncio.gather(*(sampled(number, plan, engine) for number, plan in enumerate(work)))

        async def anew() -> None:  # neither side keeps what an earlier round computed
            await engine.update_weights(model.named_parameters(), 1)

        loop.run_until_complete(anew())
        began = spent()
        loop.run_until_complete(run())
        ended = spent()
        by_other[engine].append(wanted / (ended[other] - began[other]))
        return wanted / (ended[options.clock] - began[options.clock])

    began = perf_counter()
    loop.run_until_complete(ours.__aenter__())
    loop.run_until_complete(theirs.__aenter__())
    started_s = perf_counter() - began
    try:
        rows = interleaved({"thor": lambda: rate(ours), "vllm": lambda: rate(theirs)}, rounds=options.rounds)
    finally:
        loop.run_until_complete(theirs.__aexit__(None, None, None))
        loop.run_until_complete(ours.__aexit__(None, None, None))
    lengths = [turn for plan in work for turn in plan.turns]
    hits = [figures["prefix_hit_rate"] for figures in theirs.take_figures().values()]
    notes = [
        f"{options.trajectories} trajectories in groups of {options.group}, {options.calls} calls each, {wanted} "
        f"tokens; turns of {statistics.mean(lengths):.0f} tokens (spread {statistics.pstdev(lengths):.0f})",
        f"vLLM took {started_s:.0f} s to start; it found {', '.join(f'{hit:.0%}' for hit in hits)} of the tokens of "
        "prompts in its prefix cache",
        f"by the clock `{other}`: "
        + ", ".join(
            f"{name} {statistics.median(rates[1:]):,.0f}"
            for name, rates in zip(("thor", "vllm"), by_other.values(), strict=True)
        ),
    ]
    show(f"Rollouts, {options.model} ({parameters(model) / 1e6:.2f} M parameters)", "tokens/s", rows, notes)
    save(options.out, {"options": asdict(options), "parameters": parameters(model), "rows": rows, "start_s": started_s})


if __name__ == "__main__":
    main(tyro.cli(Options))
