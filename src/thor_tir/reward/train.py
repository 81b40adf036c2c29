"""Training of a sequence classifier on verdicts, and how well it tells right from wrong on problems held out."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean
from typing import Any

from thor_tir.engines.reward_model import batches, padded, scores
from thor_tir.reward.examples import Labels, RewardExample


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Training of a reward model."""

    labels: Labels = "outcome"
    """Labels: `outcome`, whether the answer is right, or `process`, the same for each step whose call succeeded."""
    num_train_epochs: int = 2
    """Passes over the examples."""
    learning_rate: float = 3e-4
    """Learning rate of AdamW after warm-up; falls to a tenth over the run."""
    batch_tokens: int = 4096
    """Tokens of an optimiser step, padding included."""
    warmup_share: float = 0.1
    """Share of the steps over which the learning rate grows to its full value."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped."""
    held_out: float = 0.15
    """Share of the problems that are held out for the figures."""
    seed: int = 0
    """Seed of the split, of the head and of the order."""

    def __post_init__(self) -> None:
        if min(self.num_train_epochs, self.batch_tokens) < 1 or self.learning_rate <= 0 or self.max_grad_norm <= 0:
            raise ValueError(f"epochs, tokens, learning rate and gradient norm must be positive, found {self}")
        if not 0 < self.held_out < 1 or not 0 <= self.warmup_share < 1:
            raise ValueError(f"shares lie between 0 and 1, found {self}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardFigures:
    """Measures of how well a reward model tells good from bad."""

    examples: int
    """Examples that were looked at."""
    good: float
    """Share of good ones: the accuracy of saying good of all."""
    accuracy: float
    """Share that is told right with 0 as the border."""
    auc: float
    """Chance that a good example gets more than a bad one, of whatever problem; half for equal ones."""
    auc_within: float | None
    """The same within a problem, averaged over those that have both: what choosing among candidates needs. None where
    no problem has both."""
    problems_within: int
    """Problems that have both."""


def train(
    model: Any, examples: Sequence[RewardExample], config: RewardConfig, advance: Callable[[], None]
) -> list[float]:
    """Train a classifier with one output on labels; returns the loss of each step.

    Binary cross-entropy of the logit, every example alike. `advance` is called after each step.
    """
    import torch

    steps = plan(examples, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
    warmup = max(1, round(config.warmup_share * len(steps)))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min((n + 1) / warmup, 1.0) * (1 - 0.9 * n / len(steps))
    )
    losses = []
    model.train()
    for batch in steps:
        inputs = padded([examples[i].token_ids for i in batch], model.config.pad_token_id)
        labels_B = torch.tensor([float(examples[i].is_good) for i in batch])
        logits_B = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits[:, 0].float()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits_B, labels_B.to(model.device))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        advance()
    model.eval()
    return losses


def plan(examples: Sequence[RewardExample], config: RewardConfig) -> list[list[int]]:
    """Places of the examples of every step: like lengths share a batch, and batches come in an order of the seed."""
    draw = Random(config.seed)
    steps = []
    for _ in range(config.num_train_epochs):
        places = list(range(len(examples)))
        draw.shuffle(places)
        places.sort(key=lambda place: len(examples[place].token_ids) // 16)  # nearly, so that batches differ by epoch
        rows = [examples[place].token_ids for place in places]
        of_epoch = [[places[i] for i in batch] for batch in batches(rows, config.batch_tokens)]
        draw.shuffle(of_epoch)
        steps += of_epoch
    return steps


def figures(model: Any, examples: Sequence[RewardExample]) -> RewardFigures:
    """The figures of a classifier on examples."""
    return figures_of(scores(model, [e.token_ids for e in examples]), examples)


def figures_of(given: Sequence[float], examples: Sequence[RewardExample]) -> RewardFigures:
    """The figures of scores. There must be examples of both labels."""
    good = [score for score, e in zip(given, examples, strict=True) if e.is_good]
    bad = [score for score, e in zip(given, examples, strict=True) if not e.is_good]
    groups: defaultdict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for score, example in zip(given, examples, strict=True):
        groups[example.problem_id][example.is_good].append(score)
    within = [auc(of_good, of_bad) for of_bad, of_good in groups.values() if of_good and of_bad]
    return RewardFigures(
        examples=len(examples),
        good=len(good) / len(examples),
        accuracy=(sum(s > 0 for s in good) + sum(s <= 0 for s in bad)) / len(examples),
        auc=auc(good, bad),
        auc_within=fmean(within) if within else None,
        problems_within=len(within),
    )


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """Chance that one of `good` is larger than one of `bad`, equal ones counted half (Mann and Whitney's U / nm)."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(good, bad).statistic) / (len(good) * len(bad))
