"""Whole RL steps a second (rollout, reward, update): THOR against TRL's GRPOTrainer, same model, same work.

    pip install "trl>=1.16"; python benchmarks/step_vs_trl.py [--model nano/actor] [--problems 8] [--group 8]

A step samples `group` trajectories of each problem with two tool calls each, rewards a trajectory by a coin that lies
in its last token, and takes one optimiser step on the whole trajectories: clipped surrogate, token mean, no reference
model, AdamW. Lengths are drawn beforehand, as in rollout_vs_hf.py, so both sides write and train as many tokens.

  thor   `TransformersEngine`, rows, `Learner.step`; the engine's log-probabilities serve as those of the old policy
  trl    `GRPOTrainer` with a `rollout_func` that is the batched generate loop of rollout_vs_hf.py, observations masked,
         no gradient checkpointing, no log-probabilities of the old policy (it does not compute them at one update a
         batch)

The steps alternate within one run; the first of each is not counted.
"""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import tyro
from transformers import TrainerCallback

from rollout_vs_hf import Options as Work
from rollout_vs_hf import Plan, by_generate, plans, sampled
from rounds import Clock, now, rows_of, save, show
from subjects import copy_of, parameters, subject
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.options import EngineConfig
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.learner.sample import Term, TrainingSample
from thor_tir.rl.algorithms import group_advantages
from thor_tir.trajectory import Completion

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure whole RL steps beside TRL."""

    work: Work = field(default_factory=Work)
    """What is sampled."""
    micro_batch_rows: int = 16
    """Rows that TRL puts through the model at once."""
    micro_batch_tokens: int = 4096
    """Tokens that THOR puts through the model at once."""
    rounds: int = 4
    clock: Clock = "wall"
    out: Path | None = None
    """Where the numbers go as JSON, besides the table."""


def reward(token_ids: Sequence[int]) -> float:
    """A coin that costs nothing to read."""
    return float(token_ids[-1] % 2)


class Ours:
    """THOR's side: an engine and a learner over one model."""

    def __init__(self, model: Any, tokenizer: Any, options: Options) -> None:
        self.model, self.tokenizer = model, tokenizer
        config = LearnerConfig(learning_rate=1e-6, micro_batch_tokens=options.micro_batch_tokens)
        self.learner = Learner(model, config)

    def step(self, work: Sequence[Plan], group: int, seed: int) -> None:
        """Sample, reward, update."""
        rows = asyncio.run(self._rows(work, group, seed))
        self.learner.step(rows)

    async def _rows(self, work: Sequence[Plan], group: int, seed: int) -> list[TrainingSample]:
        config = EngineConfig(max_num_seqs=len(work), num_threads=torch.get_num_threads())
        async with TransformersEngine(self.model, self.tokenizer, config) as engine:
            tasks = (sampled(seed + number, plan, engine) for number, plan in enumerate(work))
            spoken = await asyncio.gather(*tasks)
        rows = []
        for start in range(0, len(work), group):
            members = list(zip(work[start : start + group], spoken[start : start + group], strict=True))
            advantages = group_advantages([reward(turns[-1][-1].span.token_ids) for _, turns in members])
            rows += [
                row_of(f"{start + n}", plan, turns, advantage)
                for n, ((plan, turns), advantage) in enumerate(zip(members, advantages, strict=True))
            ]
        return rows


def row_of(id: str, plan: Plan, turns: Sequence[Sequence[Completion]], advantage: float) -> TrainingSample:
    """A trajectory as the learner reads it."""
    ids, trained, logprobs = list(plan.prompt), [False] * len(plan.prompt), [NAN] * len(plan.prompt)
    for place, completions in enumerate(turns):
        for completion in completions:
            ids += completion.span.token_ids
            trained += [True] * len(completion.span)
            logprobs += completion.span.logprobs or ()
        observation = plan.observations[place] if place < len(plan.observations) else ()
        ids += observation
        trained += [False] * len(observation)
        logprobs += [NAN] * len(observation)
    return TrainingSample(
        id=id,
        token_ids=tuple(ids),
        trained=tuple(trained),
        old_logprobs=tuple(logprobs),
        terms=(Term(name="episode", formula="surrogate", advantage=advantage),),
    )


def trl_config(options: Options, folder: str) -> Any:
    """TRL's settings for the same step, the quick ones where there is a choice."""
    from trl import GRPOConfig

    rows = options.work.trajectories
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        logging_steps=10_000,
        max_steps=options.rounds + 1,
        per_device_train_batch_size=options.micro_batch_rows,
        gradient_accumulation_steps=rows // options.micro_batch_rows,
        num_generations=options.work.group,
        max_completion_length=4096,
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        beta=0.0,
        loss_type="dapo",
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        temperature=1.0,
    )


def trl_trainer(model: Any, tokenizer: Any, work: Sequence[Plan], options: Options, folder: str, turns: Any) -> Any:
    """A GRPOTrainer whose rollouts are the batched generate loop over `work`."""
    from datasets import Dataset
    from trl import GRPOTrainer

    def rollout(prompts: Any, trainer: Any) -> dict[str, Any]:
        trainer.model.eval()
        contexts = by_generate(trainer.model, tokenizer, work)
        trainer.model.train()
        responses = [context[len(plan.prompt) :] for context, plan in zip(contexts, work, strict=True)]
        return {
            "prompt_ids": [list(plan.prompt) for plan in work],
            "completion_ids": responses,
            "logprobs": None,
            "env_mask": [own_tokens(plan) for plan in work],
        }

    def rewards(completion_ids: Sequence[Sequence[int]], **kwargs: Any) -> list[float]:
        return [reward(ids) for ids in completion_ids]

    asked = [{"prompt": f"problem {n}"} for n in range(len(work) // options.work.group)]
    return GRPOTrainer(
        model=model,
        processing_class=tokenizer,
        reward_funcs=rewards,
        args=trl_config(options, folder),
        train_dataset=Dataset.from_list(asked),
        rollout_func=rollout,
        callbacks=[turns],
    )


def own_tokens(plan: Plan) -> list[int]:
    """1 for each token of a response that the model writes, 0 for observations."""
    mask: list[int] = []
    for place, length in enumerate(plan.turns):
        mask += [1] * length
        mask += [0] * (len(plan.observations[place]) if place < len(plan.observations) else 0)
    return mask


class Alternate(TrainerCallback):  # type: ignore[misc]
    """Takes one of our steps before each of TRL's, and the time of both."""

    def __init__(self, ours: Ours, work: Sequence[Plan], options: Options) -> None:
        self.ours, self.work, self.options = ours, work, options
        self.rates: dict[str, list[float]] = {"thor": [], "trl": []}

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        began = now(self.options.clock)
        self.ours.step(self.work, self.options.work.group, seed=1000 * len(self.rates["thor"]))
        self.rates["thor"].append(1 / (now(self.options.clock) - began))
        self.began = now(self.options.clock)

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.rates["trl"].append(1 / (now(self.options.clock) - self.began))


def main(options: Options) -> None:
    """Take steps in turns and print."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    torch.set_num_threads(options.work.threads)
    model, tokenizer = subject(options.work.model)
    work = plans(options.work, len(tokenizer))
    turns = Alternate(Ours(copy_of(model), tokenizer, options), work, options)
    tokenizer.eos_token = tokenizer.pad_token  # TRL wants one; it is never sampled on purpose, and ends nothing here
    with TemporaryDirectory() as folder:
        trl_trainer(model.train(), tokenizer, work, options, folder, turns).train()
    rows = rows_of({name: rates[1:] for name, rates in turns.rates.items()})
    written = sum(sum(plan.turns) for plan in work)
    title = f"RL steps, {options.work.model} ({parameters(model) / 1e6:.2f} M parameters), trl {version('trl')}"
    show(
        title,
        "steps/s",
        rows,
        [f"{len(work)} trajectories in groups of {options.work.group}, {written} tokens trained"],
    )
    save(options.out, {"options": asdict(options), "trl": version("trl"), "rows": rows})


if __name__ == "__main__":
    main(tyro.cli(Options))
