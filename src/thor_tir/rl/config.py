"""The options of hierarchical RL; nothing here needs torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated, Literal

import tyro

from thor_tir.learner.config import AdapterConfig, SaveDtype, SchedulerType, check_bounds
from thor_tir.rl.step_reward import REWARDS_HELP
from thor_tir.rollout.backtrack import Cut
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.tracking import TrackerName

Levels = Literal["joint", "episode", "step"]
TITLES: Mapping[Levels, str] = {
    "joint": "hierarchical RL",
    "episode": "RL on whole trajectories",
    "step": "RL on failed calls",
}
"""Name of a run for people, by its levels."""

STALE_CAP = 2.0
"""Cap of the correction where sampling runs ahead of training and none is named."""

Which = Literal["first", "any", "all"]
AlgorithmName = Literal["token-mean", "sequence-mean", "dr-grpo", "gspo"]
StepMethodName = Literal["thor", "recovery", "returns", "locate", "potential", "none"]
TURN_METHODS: tuple[StepMethodName, ...] = ("returns", "potential")
"""Step methods that give each turn of a trajectory its own advantage."""
Horizon = Literal["call", "answer"]
Grouping = Literal["chains", "entropy", "tree"]


@dataclass(frozen=True, kw_only=True)
class EpisodeConfig:
    """Groups and filters of whole trajectories."""

    num_generations: int = 16
    """Trajectories sampled per problem; they share one baseline (the paper's G)."""
    grouping: Grouping = "chains"
    """Sampling of a group: independent `chains` (the paper's), chains that branch behind observations that leave the
    model unsure (`entropy`, ARPO), or `tree`s of which random turns are sampled again (Tree-GRPO)."""
    first_chains: int = 0
    """Chains of a group that are sampled whole before any branches, or trees; 0 for half of the group."""
    oversample: int = 1
    """Trajectories sampled for each that counts: with 2 a group is sampled twice as large, and wrong ones at random and
    right ones with the fewest failed calls are kept (GRPO-RoC)."""
    nll_weight: float = 0.01
    """Weight of the log-likelihood of trajectories with positive advantage (the paper's alpha)."""
    filters: tuple[str, ...] = ("failed-call",)
    """Trajectories that leave the episode level. `failed-call` is the paper's; `too-short` and `no-box` are the
    released code's; `void-turn` drops those that end without program or answer, `truncated` those that the limit of
    tokens ended. Others are functions of your own, as module:function or file.py:function."""
    min_tokens: int = 150
    """Longest response in tokens, observations included, that the filter `too-short` drops."""
    box_window: int = 100
    """Last tokens of a response in which the filter `no-box` looks for the answer."""
    min_survivors: int = 2
    """Trajectories that a group must have left after the filters; smaller groups are dropped."""
    min_share: float = 0.0
    """Share of `num_generations` that a group must have left after the filters (released code: 0.5)."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                f"num_generations is {self.num_generations}; a lone trajectory is its own baseline, so use >= 2"
            )
        if self.min_survivors < 1:
            raise ValueError(f"min_survivors is {self.min_survivors}; a group without members has no advantage")
        if self.first_chains < 0 or (self.first_chains and self.grouping == "chains"):
            raise ValueError("first_chains counts the whole chains of --grouping entropy or tree")
        if self.oversample < 1:
            raise ValueError(
                f"oversample is {self.oversample}; at least one trajectory is sampled for each that counts"
            )
        if not (0 <= self.min_share <= 1 and self.min_tokens >= 0 and self.box_window >= 1):
            raise ValueError(f"min_share is a share, min_tokens and box_window count tokens, found {self}")

    @property
    def num_chains(self) -> int:
        """Trajectories of a problem that are sampled whole before any branches."""
        if self.grouping == "chains":
            return self.num_sampled
        return self.first_chains or (self.num_sampled + 1) // 2

    @property
    def num_sampled(self) -> int:
        """Trajectories sampled per problem."""
        return self.oversample * self.num_generations

    @property
    def quota(self) -> int:
        """Survivors that a group needs."""
        return max(self.min_survivors, ceil(self.min_share * self.num_generations))


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Credit of single steps: by default failed calls that are repaired, and the groups of their repairs."""

    method: StepMethodName = "thor"
    """Way to credit single steps (docs/step_methods.md): repairs of failed calls from before the call (`thor`, the
    paper's) or from behind its error (`recovery`), discounted rewards of turns (`returns`), a search for the first step
    from behind which nothing succeeds (`locate`), what a turn adds to an answer given at once (`potential`), `none`."""
    horizon: Horizon = "call"
    """End of what `recovery` samples: the next `call`, rewarded by --step.reward, or the `answer`, rewarded as
    trajectories are."""
    gamma: float = 0.9
    """Discount of the next turn's return in `returns`."""
    turn_reward: float = 0.1
    """Reward of a turn whose call succeeded in `returns`; the last turn earns the trajectory's reward."""
    probes: int = 3
    """Most prefixes of one trajectory that `locate` tries."""
    probe: str = "\n**Final Answer**\n\n\\boxed{"
    """Text behind which `potential` samples an answer."""
    probe_tokens: int = 16
    """Most tokens of such an answer."""
    shaping: float = 0.3
    """Weight of a turn's gain in potential beside the trajectory's advantage."""
    num_generations: int = 16
    """Samples per failed call, per prefix of `locate` or per turn of `potential`; those of a prefix share one
    baseline."""
    suffix_tokens: int = 100
    """Tokens at the end of the failing thought that are written again (the paper's L_suf: 100 for non-reasoning models,
    500 for reasoning ones)."""
    cut: Cut = "suffix"
    """Part that is written again beside the call: the last tokens of its thought (`suffix`, the paper's), nothing
    (`action`), the whole thought (`replan`), or one of these by the kind of failure (`by-error`)."""
    which: Which = "first"
    """Failed calls that are repaired: the `first` of a trajectory, `any` one at random, or `all` (the latter two need
    trajectories that go on after a failure)."""
    reward: Annotated[tuple[str, ...], tyro.conf.arg(help=REWARDS_HELP)] = ("prints",)
    """Rewards of a repair, added up: names in `rl/step_reward.py`, or functions of one's own."""
    nll_weight: float = 0.01
    """Weight of the log-likelihood of repairs with positive advantage (the paper's alpha)."""
    max_queries_share: float = 1.0
    """Most failed calls per problem of a round, drawn at random (paper: no more than one)."""
    min_survivors: int = 2
    """Repairs that a group must have left after faults of the machine; smaller groups are dropped."""

    def __post_init__(self) -> None:
        if self.num_generations < 2:
            raise ValueError(
                f"step.num_generations is {self.num_generations}; a lone repair is its own baseline, so use >= 2"
            )
        if self.min_survivors < 1:
            raise ValueError(f"min_survivors is {self.min_survivors}; a group without members has no advantage")
        if self.horizon != "call" and self.method != "recovery":
            raise ValueError(f"step.horizon {self.horizon} belongs to step.method recovery, found {self.method}")
        if min(self.probes, self.probe_tokens) < 1:
            raise ValueError(
                f"step.probes and step.probe_tokens count from 1, found {self.probes}, {self.probe_tokens}"
            )
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"step.gamma is {self.gamma}; a discount is between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The way from rewards to a loss. `docs/rl.md` says when to use what."""

    algorithm: AlgorithmName = "token-mean"
    """Advantage, ratio and mean together (TRL has `loss_type`, `scale_rewards` and `importance_sampling_level` for
    them). `token-mean`: the paper, with the mean of its released code. `sequence-mean`: the paper's Eq. 4. `dr-grpo`:
    no deviation, a constant length. `gspo`: one ratio for a whole sequence."""
    epsilon: float | None = None
    """Ratios below 1 minus this earn nothing more (the paper's epsilon_low); None for the algorithm's own
    (0.2; gspo 3e-4)."""
    epsilon_high: float | None = None
    """Ratios above 1 plus this earn nothing more (the paper's epsilon_high); None for the algorithm's own
    (0.28; gspo 4e-4)."""
    delta: float | None = None
    """Bound of the loss at negative advantage A, as a multiple of -A; None for the algorithm's own (3)."""
    advantages: str = ""
    """Function that shapes the algorithm's advantages: `aspo` favours early calls and `cas` few ones, both where the
    answer is right; or one of your own, row by row or token by token, as module:function or file.py:function. Empty for
    none."""
    beta: float = 0.0
    """Weight of the KL to the model that training starts from; 0, as in the paper, keeps no copy of it."""
    importance_sampling_cap: float = 0.0
    """Cap of the weight pi_trainer / pi_engine of each token (2 is usual), for engines that compute log-probabilities
    differently; costs one more forward pass a round. 0 gives every token weight 1, and is 2 where sampling runs
    ahead."""

    def __post_init__(self) -> None:
        if self.beta < 0 or self.importance_sampling_cap < 0:
            raise ValueError(f"beta and importance_sampling_cap cannot be negative, found {self}")
        low, high, dual = self.clip_range
        if not (0 <= low <= 1 and high >= 0 and dual >= 1 + high):
            raise ValueError(
                f"expected 0 <= epsilon <= 1, epsilon_high >= 0 and delta >= 1 + epsilon_high, found {low}, {high} "
                f"and {dual}"
            )

    @property
    def clip_range(self) -> tuple[float, float, float]:
        """epsilon, epsilon_high and delta, those of the algorithm where none was given."""
        own = (3e-4, 4e-4, 3.0) if self.algorithm == "gspo" else (0.2, 0.28, 3.0)
        given = (self.epsilon, self.epsilon_high, self.delta)
        low, high, dual = (default if value is None else value for value, default in zip(given, own, strict=True))
        return low, high, dual


@dataclass(frozen=True, kw_only=True)
class MonitorConfig:
    """Ways to watch a run besides metrics.jsonl, which is always written."""

    report_to: tuple[TrackerName, ...] = ("tensorboard",)
    """Trackers that draw curves: `tensorboard` (event files in the run's folder), `trackio`, `wandb`."""
    show_every: int = 10
    """Rounds between those whose trajectories can be read with `thor show`, the last one in any case; 0 for none."""
    show_count: int = 20
    """Trajectories kept of such a round, half of them with repairs where there are enough."""
    warn_dropped_share: float = 0.95
    """Share of a round's samples that give no row above which a warning is said, once a run; the usual cause is groups
    that agree."""

    def __post_init__(self) -> None:
        if self.show_every < 0 or self.show_count < 0:
            raise ValueError(f"show_every and show_count cannot be negative, found {self}")

    def is_shown(self, number: int, num_rounds: int) -> bool:
        """True where the trajectories of round `number`, counted from 0, are kept for reading."""
        return self.show_every > 0 and (number % self.show_every == 0 or number + 1 == num_rounds)


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """Hierarchical RL. Defaults follow the paper where it states a value."""

    levels: Levels = "joint"
    """Levels that give rows: both (`joint`, paper, Eq. 10), whole trajectories alone (`episode`), or repairs of failed
    calls alone (`step`). Trajectories are sampled in all three: their failed calls are what the step level repairs."""
    num_rounds: int = 40
    """Most rounds of sampling and training."""
    max_sampled_tokens: int = 0
    """Tokens sampled for training, all that a step method samples included, after which no further round is begun; 0
    for no such limit."""
    max_seconds: float = 0.0
    """Seconds of sampling and training, as metrics.jsonl counts them, after which no further round is begun; 0 for no
    such limit."""
    problems_per_round: int = 128
    """Problems sampled in one round, each in a group of `num_generations`."""
    refill: float = 0.0
    """Most further problems of a round, as a multiple of `problems_per_round`, that are asked in place of those whose
    group gave no row, as all its rewards were equal or too few were left. 0, as in the paper, asks for none."""
    max_staleness: int = 0
    """Optimiser steps by which sampling may run ahead of training (docs/asynchronous.md); 0 samples and trains in turn.
    Rows with an older token are dropped and counted."""
    updates_per_round: int = 1
    """Optimiser steps over one round's rows; more than one makes the later ones off-policy."""
    rollout: RolloutConfig = field(default_factory=lambda: RolloutConfig(stop_at_failure=True))
    """Sampling of trajectories."""
    reward: tuple[str, ...] = ("exact",)
    """Rewards of a trajectory, added up, each with a weight behind `=` if it is not 1: `exact` (the answer is right,
    the paper's), `boxed`, `calls`, `kilotokens`, or a function of your own as module:function or file.py:function."""
    episode: Annotated[EpisodeConfig, tyro.conf.arg(name="")] = field(default_factory=EpisodeConfig)
    """The episode level."""
    step: StepConfig = field(default_factory=StepConfig)
    """The step level."""
    learning_rate: float = 1e-6
    """Learning rate of AdamW after warm-up."""
    warmup_steps: int = 0
    """Optimiser steps over which the learning rate grows to its full value."""
    lr_scheduler_type: SchedulerType = "constant"
    """Learning rate after warm-up: `constant` (paper), or `cosine_with_min_lr` down to a tenth over the run."""
    max_grad_norm: float = 1.0
    """Norm to which gradients are clipped."""
    micro_batch_tokens: int = 4096
    """Tokens per forward pass, padding included: bounds memory and leaves the result alone."""
    loss: Annotated[LossConfig, tyro.conf.arg(name="")] = field(default_factory=LossConfig)
    """The loss."""
    monitor: Annotated[MonitorConfig, tyro.conf.arg(name="")] = field(default_factory=MonitorConfig)
    """Curves, kept trajectories and warnings."""
    calls_grow_over: int = 0
    """Rounds over which the call limit grows from 1 to that of the rollout, as in the released schedule; 0 for none."""
    bf16: bool = False
    """True computes training's matrix products in bfloat16; weights, optimiser and loss stay in float32."""
    gradient_checkpointing: bool = False
    """True computes each layer again in the backward pass: less memory, about a third more time."""
    adapters: Annotated[AdapterConfig, tyro.conf.arg(name="")] = field(default_factory=AdapterConfig)
    """Low-rank adapters, trained in place of the model."""
    save_dtype: SaveDtype = "loaded"
    """Type of the numbers in the model that is written: that of the model that was loaded (`loaded`), or float32."""
    async_save: bool = False
    """True writes checkpoints while training goes on, from a copy in the host's memory; a kill may then cost one update
    more."""
    checkpoint_mirror: str = ""
    """Address of a store that gets a copy of each checkpoint, and from which a folder without any goes on: whatever
    fsspec reaches, such as s3://bucket/run with s3fs installed."""
    save_total_limit: int = 2
    """Checkpoints that are kept, newest first; a damaged one can be given up for the one before."""
    seed: int = 0
    """Seed of problems, samples and the order of rows."""
    validate_every: int = 0
    """Rounds between validations; 0 for none."""
    num_validation: int = 96
    """Most problems of a validation."""
    validation_problems: str = ""
    """Problems of validation, in the spellings of `--problems`; questions that stand there are not trained on, not even
    where no round validates. Empty holds problems of a file out by a digest of their questions, at most a tenth, and
    draws others from a split of their own."""

    def __post_init__(self) -> None:
        check_bounds(
            {
                "num-rounds": (self.num_rounds, 1),
                "problems-per-round": (self.problems_per_round, 1),
                "updates-per-round": (self.updates_per_round, 1),
                "micro-batch-tokens": (self.micro_batch_tokens, 1),
                "save-total-limit": (self.save_total_limit, 1),
                "warmup-steps": (self.warmup_steps, 0),
                "validate-every": (self.validate_every, 0),
                "refill": (self.refill, 0),
                "max-staleness": (self.max_staleness, 0),
                "max-sampled-tokens": (self.max_sampled_tokens, 0),
                "max-seconds": (self.max_seconds, 0),
                "calls-grow-over": (self.calls_grow_over, 0),
                "step.suffix-tokens": (self.step.suffix_tokens, 0),
                "seed": (self.seed, 0),
            },
            {"learning-rate": (self.learning_rate, 0), "max-grad-norm": (self.max_grad_norm, 0)},
        )
        if not self.reward:
            raise ValueError("--reward names at least one reward; `exact`, a right answer, is the paper's")
        if self.rollout.temperature != 1 or self.rollout.top_p != 1 or self.rollout.top_k != 0:
            raise ValueError(
                "RL samples at temperature 1 without top-p and top-k: anything else trains on a ratio of two different "
                f"distributions, found {self.rollout.temperature:g}, {self.rollout.top_p:g} and {self.rollout.top_k}"
            )
        if self.step.which != "first" and self.rollout.stop_at_failure:
            raise ValueError(
                f"trajectories end at their first failed call, so there is none but the first to repair; "
                f"--step.which {self.step.which} needs rollouts that go on (--rollout.no-stop-at-failure)"
            )
        if self.levels == "step" and self.refill:
            raise ValueError("--refill replaces groups of whole trajectories, and --levels step trains on none")
        if self.levels == "step" and self.step.method in ("none", *TURN_METHODS):
            raise ValueError(f"--levels step has nothing to train: --step.method {self.step.method} gives it no rows")
        if self.credits_turns and self.loss.advantages:
            raise ValueError(
                f"--step.method {self.step.method} gives each turn of a trajectory its own advantage; leave out "
                f"--advantages {self.loss.advantages}"
            )
        if self.credits_turns and self.step.method == "returns" and "failed-call" in self.episode.filters:
            raise ValueError(
                "--step.method returns credits a failed call by its turn, and --filters failed-call takes its "
                "trajectory away; give --filters void-turn, or another filter, and --rollout.no-stop-at-failure"
            )

    @property
    def credits_turns(self) -> bool:
        """True where the turns of a trajectory differ in their advantage."""
        return self.levels != "episode" and self.step.method in TURN_METHODS

    @property
    def reshapes_advantages(self) -> bool:
        """True where advantages are more than a reward among those of its group."""
        is_more = self.step.method == "locate" or self.episode.grouping == "tree"
        return bool(self.loss.advantages) or self.credits_turns or is_more

    def first_step(self, number: int) -> int:
        """Steps before the round of this number, counted from 0, which is the version of the weights it begins with."""
        return number * self.updates_per_round

    @property
    def most_samples(self) -> tuple[int, int]:
        """Trajectories of a round, and its repairs at most."""
        has_none = self.levels == "episode" or self.step.method in ("none", *TURN_METHODS)
        queries = 0 if has_none else round(self.step.max_queries_share * self.problems_per_round)
        prefixes = queries * (self.step.probes if self.step.method == "locate" else 1)
        return self.problems_per_round * self.episode.num_sampled, prefixes * self.step.num_generations

    @property
    def correction_cap(self) -> float:
        """Cap of the correction for another policy than the trainer's; 0 corrects nothing."""
        return self.loss.importance_sampling_cap or (STALE_CAP if self.max_staleness else 0.0)

    @property
    def most_refills(self) -> int:
        """Further problems of a round at most."""
        return int(self.refill * self.problems_per_round)

    @property
    def functions(self) -> tuple[str, ...]:
        """All names under which functions of one's own may stand."""
        own = (self.loss.advantages,) if self.loss.advantages else ()
        return (*self.reward, *self.step.reward, *self.episode.filters, *own)
