"""Generated tokens a second of tool-using rollouts: the engine against `transformers` generate, same model, same work.

    python benchmarks/rollout_vs_hf.py [--model nano/actor] [--trajectories 64] [--group 8] [--rounds 5]

Groups of trajectories share a prompt, as in RL. Each has two tool calls, hence three turns, whose lengths are drawn
beforehand, so that both sides write exactly as many tokens: about 37 a turn with a spread of 23, as the embedded actor
writes after its cold start, or as `--turn` and `--spread` say. A tool answers at once with a few tokens.

  thor       one coroutine a trajectory over `TransformersEngine`, which also looks for a stop string and keeps
             log-probabilities
  generate   one batch for all, left padding, a stopping criterion, and all contexts read again each turn: the loop
             that one writes around `model.generate`; it looks for no stop string and keeps no log-probabilities
"""

import asyncio
import random
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import log, sqrt
from pathlib import Path
from typing import Any

import torch
import tyro
from transformers import StoppingCriteria, StoppingCriteriaList

from rounds import Clock, interleaved, now, save, show
from subjects import parameters, subject
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.protocol import Sampling
from thor_tir.trajectory import Completion

SHORTEST = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is sampled, and how it is measured."""

    model: str = "nano/actor"
    """An embedded model, a folder, or 2M, 10M or 30M for random weights of that size."""
    trajectories: int = 64
    group: int = 8
    """Trajectories of one prompt."""
    calls: int = 2
    """Tool calls of each."""
    prompt: int = 64
    """Tokens of a prompt, give or take a quarter."""
    turn: float = 37.0
    """Mean tokens of a turn."""
    spread: float = 23.0
    """Standard deviation of a turn's tokens (log-normal)."""
    observation: int = 12
    """Tokens of a tool's answer."""
    rounds: int = 5
    threads: int = 1
    clock: Clock = "wall"
    seed: int = 0
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One trajectory, but for the tokens that the model chooses."""

    prompt: tuple[int, ...]
    turns: tuple[int, ...]
    observations: tuple[tuple[int, ...], ...]


def plans(options: Options, vocabulary: int) -> list[Plan]:
    """The work, by the seed."""
    draw = random.Random(options.seed)
    variance = log(1 + (options.spread / options.turn) ** 2)

    def words(count: int) -> tuple[int, ...]:
        return tuple(draw.randrange(vocabulary) for _ in range(count))

    def turn() -> int:
        return max(SHORTEST, round(draw.lognormvariate(log(options.turn) - variance / 2, sqrt(variance))))

    made: list[Plan] = []
    while len(made) < options.trajectories:
        prompt = words(round(options.prompt * draw.uniform(0.75, 1.25)))
        made += [
            Plan(
                prompt=prompt,
                turns=tuple(turn() for _ in range(options.calls + 1)),
                observations=tuple(words(options.observation) for _ in range(options.calls)),
            )
            for _ in range(options.group)
        ]
    return made[: options.trajectories]


async def sampled(number: int, plan: Plan, engine: TransformersEngine) -> list[list[Completion]]:
    """One trajectory: the completions of each turn, more than one where a random model spelled the stop string."""
    ids, turns = list(plan.prompt), []
    for place, length in enumerate(plan.turns):
        turn: list[Completion] = []
        end = len(ids) + length
        while len(ids) < end:
            sampling = Sampling(max_tokens=end - len(ids), stop=("\n```\n",), seed=number * 1000 + len(ids))
            turn.append(await engine.sample(ids, sampling))
            ids += turn[-1].span.token_ids
        turns.append(turn)
        if place < len(plan.observations):
            ids += plan.observations[place]
    return turns


def by_thor(model: Any, tokenizer: Any, work: Sequence[Plan]) -> list[list[list[Completion]]]:
    """All trajectories at once."""

    async def run() -> list[list[list[Completion]]]:
        config = EngineConfig(max_num_seqs=len(work), num_threads=torch.get_num_threads())
        async with TransformersEngine(model, tokenizer, config) as engine:
            return await asyncio.gather(*(sampled(number, plan, engine) for number, plan in enumerate(work)))

    return asyncio.run(run())


class OwnLengths(StoppingCriteria):
    """Each row ends at a length of its own."""

    def __init__(self, lengths_B: torch.Tensor) -> None:
        self.lengths_B = lengths_B

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        return input_ids.shape[1] >= self.lengths_B


@torch.inference_mode()
def by_generate(model: Any, tokenizer: Any, work: Sequence[Plan]) -> list[list[int]]:
    """The same in three calls of `generate`: prompts and what followed, without padding."""
    contexts = [list(plan.prompt) for plan in work]
    for place in range(len(work[0].turns)):
        width = max(map(len, contexts))
        padded = torch.tensor([[tokenizer.pad_token_id] * (width - len(c)) + c for c in contexts])
        mask = torch.tensor([[0] * (width - len(c)) + [1] * len(c) for c in contexts])
        lengths = [plan.turns[place] for plan in work]
        output = model.generate(
            padded,
            attention_mask=mask,
            max_new_tokens=max(lengths),
            stopping_criteria=StoppingCriteriaList([OwnLengths(width + torch.tensor(lengths))]),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
        )
        for context, plan, row, length in zip(contexts, work, output[:, width:].tolist(), lengths, strict=True):
            context += row[:length]
            if place < len(plan.observations):
                context += plan.observations[place]
    return contexts


def main(options: Options) -> None:
    """Measure both in turns and print."""
    torch.set_num_threads(options.threads)
    model, tokenizer = subject(options.model)
    work = plans(options, len(tokenizer))
    wanted = sum(sum(plan.turns) for plan in work)

    def rate(side: Any) -> float:
        began = now(options.clock)
        side(model, tokenizer, work)
        return wanted / (now(options.clock) - began)

    sides = {"thor": lambda: rate(by_thor), "generate": lambda: rate(by_generate)}
    rows = interleaved(sides, rounds=options.rounds)
    lengths = [turn for plan in work for turn in plan.turns]
    work_note = (
        f"{options.trajectories} trajectories in groups of {options.group}, {options.calls} calls each, "
        f"{wanted} tokens; turns of {statistics.mean(lengths):.0f} tokens (spread {statistics.pstdev(lengths):.0f})"
    )
    title = f"Rollouts, {options.model} ({parameters(model) / 1e6:.2f} M parameters)"
    show(title, "tokens/s", rows, [work_note])
    save(options.out, {"options": asdict(options), "parameters": parameters(model), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
