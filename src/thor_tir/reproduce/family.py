"""The step methods side by side, each with the same budget of sampled tokens from the same cold start."""

from collections.abc import Mapping

from thor_tir.reproduce.declared import Experiment, Pair, Row

BUDGET = 300_000
"""Tokens that each run may sample: about eighteen rounds of the paper's method on the embedded model."""
SAME = ("--max-sampled-tokens", str(BUDGET), "--num-rounds", "1000", "--lr-scheduler-type", "constant")
"""Options that all runs share."""
_KEPT = ("--filters", "void-turn", "--rollout.no-stop-at-failure")
"""Trajectories with failed calls go on, and count: what methods need that credit each turn."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "none": ("--step.method", "none"),
    "thor": ("--step.method", "thor"),
    "recovery": ("--step.method", "recovery"),
    "recovery-answer": ("--step.method", "recovery", "--step.horizon", "answer"),
    "locate": ("--step.method", "locate"),
    "potential": ("--step.method", "potential", "--step.probe", "The answer is \\boxed{{"),
    "aspo": ("--step.method", "none", "--advantages", "aspo"),
    "cas": ("--step.method", "none", "--advantages", "cas"),
    "entropy": ("--step.method", "none", "--grouping", "entropy"),
    "tree": ("--step.method", "none", "--grouping", "tree"),
    "none-kept": ("--step.method", "none", *_KEPT),
    "roc": ("--step.method", "none", "--oversample", "2", *_KEPT),
    "returns": ("--step.method", "returns", *_KEPT),
}
"""Options of each run by its name."""

_ROWS = {name: Row(name=name, evaluation=f"eval-family-{name}") for name in METHODS}
_SFT = Row(name="cold start", evaluation="eval-sft")

FAMILY = Experiment(
    name="family",
    title=f"Step methods at {BUDGET:,} sampled tokens",
    rows=(_SFT, *_ROWS.values()),
    measures=("accuracy", "calls_ran", "right_if_clean", "tokens"),
    pairs=(
        *(Pair(ours=name, theirs="thor") for name in METHODS if name != "thor"),
        Pair(ours="returns", theirs="none-kept"),
    ),
    compared=("accuracy", "calls_ran"),
    is_family=True,
    notes=(
        "`kept` are runs whose trajectories go on after a failed call and count all the same.",
        "Every run has the nano preset's learning rate from its second step to its end; what differs is the method.",
    ),
)
