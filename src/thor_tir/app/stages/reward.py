"""A reward model from the trajectories of runs, as a stage: a short training, done anew after a kill."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from thor_tir.app.runtime import publish
from thor_tir.engines.loading import load_tokenizer, resolved, silent_transformers
from thor_tir.engines.reward_model import REWARD_FILE
from thor_tir.errors import UsageError
from thor_tir.pretrained import ModelTokenizer
from thor_tir.progress import Reporter
from thor_tir.reward.examples import RewardExample, attempt_files, read_examples, split
from thor_tir.reward.train import RewardConfig, RewardFigures, figures, plan, train
from thor_tir.storage.journal import write_atomically


def train_reward(runs: Sequence[Path], name: str, config: RewardConfig, output: Path, reporter: Reporter) -> Path:
    """Train a classifier over a policy's body on the verdicts of its trajectories; returns the model's folder.

    Raises UsageError for runs without usable examples, and for a model that did not write them.
    """
    if (output / REWARD_FILE).is_file():
        reporter.say(f"{output} is finished: its figures stand in {REWARD_FILE}")
        return output / "model"
    files = [path for run in runs for path in attempt_files(run)]
    data = read_examples(files, config.labels)
    tokenizer = load_tokenizer(name)
    model = classifier_over(name, tokenizer, seed=config.seed)
    examples = _fitting(data.examples, model, tokenizer, name)
    left_out = {**data.counts, "too long": len(data.examples) - len(examples)}
    reporter.say(f"{len(files)} files: " + ", ".join(f"{name} {count}" for name, count in left_out.items() if count))
    trained, held_out = split(examples, config.held_out, config.seed)
    with reporter.stage(f"reward model on {len(trained)} examples", len(plan(trained, config))) as progress:
        losses = train(model, trained, config, progress.advance)
    found = {"trained": figures(model, trained), "held out": figures(model, held_out)}
    for side, each in found.items():
        reporter.say(figures_line(side, each))
    folder = publish(model, tokenizer, output / "model", dtype=torch.float32, say=reporter.say)
    about: dict[str, Any] = {
        "schema": 1,
        "labels": config.labels,
        "counts": left_out,
        "losses": losses,
        "figures": {side: asdict(each) for side, each in found.items()},
        "problems": sorted({example.problem_id for example in trained}),
    }
    write_atomically(output / REWARD_FILE, json.dumps(about, indent=1) + "\n")
    return folder


def classifier_over(name: str, tokenizer: ModelTokenizer, *, seed: int) -> Any:
    """A sequence classifier with one output over a causal model's body; its head is drawn from the seed."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(seed)
    try:
        with silent_transformers():
            model = AutoModelForSequenceClassification.from_pretrained(
                resolved(name), num_labels=1, dtype=torch.float32, trust_remote_code=False, use_safetensors=True
            )
    except Exception as error:  # the files are foreign, and each may be damaged in its own way
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        raise UsageError(f"no sequence classifier can be made over {name!r}: {reason}") from error
    if model.config.pad_token_id is None:
        model.config.pad_token_id = getattr(tokenizer, "pad_token_id", None) or 0
    return model.to("cuda" if torch.cuda.is_available() else "cpu")


def _fitting(
    examples: Sequence[RewardExample], model: Any, tokenizer: ModelTokenizer, name: str
) -> list[RewardExample]:
    """The examples that fit the model's context. Raises UsageError for tokens that it does not have."""
    largest = max((max(e.token_ids) for e in examples), default=0)
    if largest >= max(len(tokenizer), model.config.vocab_size):
        raise UsageError(f"the trajectories hold token {largest}, which {name} lacks: give the model that wrote them")
    longest = getattr(model.config, "max_position_embeddings", None) or 2**31
    return [e for e in examples if len(e.token_ids) <= longest]


def figures_line(side: str, found: RewardFigures) -> str:
    """The figures of one side of the split, for people."""
    within = "-" if found.auc_within is None else f"{found.auc_within:.3f} over {found.problems_within}"
    return (
        f"{side}: {found.examples} examples, {100 * found.good:.1f} % good; accuracy {100 * found.accuracy:.1f} %, "
        f"AUC {found.auc:.3f}, within problems {within}"
    )
