"""Figures of a round as one line of metrics.jsonl holds them; `docs/rl.md` says what to look for."""

from dataclasses import dataclass
from typing import TypedDict

from thor_tir.storage.journal import JsonObject


class Gap(TypedDict):
    """Log ratios of two policies over trained tokens, in nats."""

    mean_log_ratio: float | None
    """Mean of their absolute values."""
    max_log_ratio: float
    """Largest absolute value."""
    histogram: list[int]
    """Tokens by log ratio, between `HISTOGRAM_EDGES`."""


class UpdateDrift(Gap):
    """Distance of the policy from the one that sampled, at one update (`learner/metrics.py: Drift`)."""

    low_share: float
    """Share of tokens of negative advantage below the clip range."""
    high_share: float
    """Share of tokens of positive advantage above the clip range."""
    dual_share: float
    """Share of tokens whose loss the dual clip caps."""
    approx_kl: float
    """Estimated KL(old || new) in nats per token."""


class UpdateFigures(TypedDict):
    """The part of one update that its round's record needs; checkpoints keep it until the round ends."""

    loss: dict[str, float]
    """Summand of the objective, by term."""
    drift: dict[str, UpdateDrift]
    """Distance of the policies, by surrogate."""
    grad_norm: float
    """Norm of the gradient before clipping."""


class LevelFigures(TypedDict):
    """Samples of one level, their credit and what became of it."""

    reward: float | None
    """Mean reward of the samples that have one."""
    reward_std: float | None
    """Deviation of these rewards."""
    pass_rate: float | None
    """Share of groups with a right answer, or a repair with a reward above 0, among them."""
    entropy: float | None
    """Mean -log probability of sampled tokens, nats."""
    tokens: float | None
    """Sampled tokens of a sample."""
    longest: int
    """Sampled tokens of the longest sample."""
    calls: float | None
    """Calls of a sample."""
    calls_ran: float | None
    """Share of these calls that ran to their end."""
    call_success: float | None
    """Share of these calls that ran and printed something."""
    groups: int
    """Groups that were sampled."""
    groups_kept: int
    """Groups that gave rows."""
    advantage_std: float | None
    """Deviation of the rows' advantages."""
    mismatch: Gap | None
    """Trainer against engine, on the same weights."""
    drift: UpdateDrift | None
    """Distance of the policies at the round's last update."""


class Seconds(TypedDict):
    """Wall-clock seconds of a round."""

    rollout: float
    """Seconds of sampling trajectories."""
    repair: float
    """Seconds of sampling repairs."""
    grade: float
    """Seconds of grading, summed over attempts that are graded at the same time."""
    reward: float
    """Seconds of the rewards that the run names, summed likewise."""
    train: float
    """Seconds of the updates."""
    learner_waited: float
    """Seconds in which training waited for samples."""
    sampler_waited: float
    """Seconds in which nothing was sampled, as training was not far enough."""


class Staleness(TypedDict):
    """Age of a round's samples in optimiser steps."""

    max: int
    """Updates between the oldest sample and the last update."""
    mean: float
    """Mean age of trained tokens when the round's first update began."""
    tokens: dict[str, int]
    """Trained tokens by that age."""
    stale_share: float
    """Share of them that older weights drew: their surrogates are corrected."""
    truncated_share: float
    """Share of them whose correction its cap cut off."""


class RoundFigures(TypedDict):
    """One line of metrics.jsonl."""

    step: int
    """Number of the round, from 1."""
    answer_reward: float | None
    """Mean reward of trajectories that were scored."""
    call_success: float | None
    """Share of calls in trajectories that ran and printed something."""
    calls_ran: float | None
    """Share of these calls that ran to their end."""
    call_limit_share: float | None
    """Share of trajectories that wanted more calls than they had."""
    near_miss_share: float | None
    """Share of attempts that wrote a program in fences that were not read, so that it was not run."""
    rewards: dict[str, float | None]
    """Mean of each reward that the run names, before weights; empty where the answer is the reward."""
    rewards_std: dict[str, float | None]
    """Deviation of each of them."""
    step_reward: float | None
    """Mean reward of repairs."""
    step_rewards: dict[str, float | None]
    """Mean of each step reward that the run names, before weights; empty where one packaged reward is all."""
    response_tokens: float | None
    """Sampled tokens of a trajectory."""
    calls: float | None
    """Calls of a trajectory."""
    queries: int
    """Failed calls that were repaired."""
    sampled: int
    """Trajectories and repairs, those that were lost included."""
    refills: int
    """Groups that were asked for in place of others that gave no row."""
    sampled_tokens: int
    """Tokens that the model sampled for them, and for whatever else the step method asked."""
    rows_episode: int
    """Rows of whole trajectories."""
    rows_step: int
    """Rows of repairs."""
    dropped: dict[str, int]
    """Samples that gave no row, by cause."""
    dropped_share: float
    """Share of all samples that gave no row."""
    levels: dict[str, LevelFigures]
    """Figures of `episode` and `step`."""
    staleness: Staleness | None
    """Age of the samples; None without any."""
    loss: dict[str, float]
    """Summand of the objective at the last update, by term."""
    grad_norm: float
    """Largest norm of a gradient before clipping."""
    tool_seconds: float
    """Seconds of programs, summed over what runs at the same time."""
    seconds: Seconds
    """Wall-clock seconds."""
    engines: dict[str, JsonObject]
    """Requests, losses and prefix hits of each server that sampled (docs/vllm.md); empty for the engine `local`."""


class ValidationFigures(TypedDict):
    """The part of a round's line that its validation adds."""

    validation: float | None
    """Accuracy."""
    validation_ci95: tuple[float, float] | None
    """95 % interval of the accuracy."""
    validation_problems: int
    """Problems with a scored attempt."""
    validation_lost: int
    """Attempts that a fault of the machine ended."""
    validation_reward: float | None
    """Mean reward under the rewards that the run names; None where the answer is the reward."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """One evaluation on problems that training never sees."""

    accuracy: float | None
    """Share of right attempts; None where none was scored."""
    ci95: tuple[float, float] | None
    """95 % interval of the accuracy, over problems."""
    num_problems: int
    """Problems with a scored attempt."""
    num_lost: int
    """Attempts that a fault of the machine ended."""
    reward: float | None = None
    """Mean reward under the rewards that the run names; None where the answer is the reward."""

    def sentence(self, step: int) -> str:
        """The accuracy after round `step`, for a person."""
        if self.accuracy is None or self.ci95 is None:
            return f"round {step}, validation: no attempt was scored; {self.num_lost} were lost to the machine"
        low, high = (100 * end for end in self.ci95)
        lost = f"; {self.num_lost} attempts lost to the machine" if self.num_lost else ""
        earned = "" if self.reward is None else f", reward {self.reward:.2f}"
        return (
            f"round {step}, validation: {100 * self.accuracy:.1f} % ({low:.1f} to {high:.1f}) of {self.num_problems} "
            f"problems{earned}{lost}"
        )

    def as_json(self) -> ValidationFigures:
        """The figures as they stand in a round's record."""
        return {
            "validation": self.accuracy,
            "validation_ci95": self.ci95,
            "validation_problems": self.num_problems,
            "validation_lost": self.num_lost,
            "validation_reward": self.reward,
        }
