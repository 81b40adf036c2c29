"""The step methods side by side, each with the same budget of sampled tokens from the same cold start."""

from collections.abc import Mapping

from thor_tir.reproduce.declared import Experiment, Pair, Row

BUDGET = 300_000
"""Tokens that each run may sample: about eighteen rounds of the paper's method on the embedded model."""
SECONDS = 150
"""Seconds of sampling and training of each run where these are what is equal."""
_CONSTANT = ("--num-rounds", "1000", "--lr-scheduler-type", "constant")
SAME = {
    "family": ("--max-sampled-tokens", str(BUDGET), *_CONSTANT),
    "family-time": ("--max-seconds", str(SECONDS), *_CONSTANT),
}
"""Options that all runs of an experiment share."""
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
    "thor-kept": ("--step.method", "thor", *_KEPT),
    "roc": ("--step.method", "none", "--oversample", "2", *_KEPT),
    "returns": ("--step.method", "returns", *_KEPT),
}
"""Options of each run by its name."""


def _experiment(name: str, title: str) -> Experiment:
    rows = [Row(name=method, evaluation=f"eval-{name}-{method}") for method in METHODS]
    return Experiment(
        name=name,
        title=title,
        rows=(Row(name="cold start", evaluation="eval-sft"), *rows),
        measures=("accuracy", "calls_ran", "right_if_clean", "tokens"),
        pairs=(
            *(Pair(ours=method, theirs="thor") for method in METHODS if method != "thor"),
            *(Pair(ours=method, theirs="none-kept") for method in ("thor-kept", "returns", "roc")),
        ),
        compared=("accuracy", "calls_ran"),
        is_family=True,
        notes=(
            "`-kept`, `roc` and `returns` let trajectories go on after a failed call and count them all the same.",
            "Every run has the nano preset's learning rate from its third step to its end; what differs is the method.",
        ),
    )


FAMILY = _experiment("family", f"Step methods at {BUDGET:,} sampled tokens")
FAMILY_TIME = _experiment("family-time", f"Step methods in {SECONDS} seconds of sampling and training")
