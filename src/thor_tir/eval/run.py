"""Attempts at many problems, grouped by problem, and what is counted of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from thor_tir.eval.intervals import bootstrap_difference
from thor_tir.eval.statistics import Interval
from thor_tir.execution import Status
from thor_tir.inference.best_of_n import select, selector
from thor_tir.rollout.records import Attempt
from thor_tir.seeds import seed_of
from thor_tir.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Attempts of one configuration, grouped by problem in the order of the problems."""

    name: str
    """Name of the configuration or of the problem set."""
    groups: tuple[tuple[Attempt, ...], ...]
    """Attempts at each problem; empty where machine faults ended all."""

    @property
    def attempts(self) -> list[Attempt]:
        """All of them."""
        return [attempt for group in self.groups for attempt in group]

    @property
    def accuracy_P(self) -> list[float]:
        """Share of right attempts per problem; NaN where none was scored."""
        return [_accuracy(group) for group in self.groups]


def best_of(evaluation: Evaluation, select_by: str, *, seed: int) -> Evaluation:
    """One attempt per problem, chosen among all of them by the selector of that name."""
    score = selector(select_by).score
    chosen = tuple(
        (select(group, score, seed=seed_of(seed, group[0].problem.id)),) if group else () for group in evaluation.groups
    )
    return Evaluation(name=evaluation.name, groups=chosen)


def paired(ours: Evaluation, theirs: Evaluation, *, seed: int) -> Interval:
    """Difference in accuracy over the problems that both have scored."""
    both = [(a, b) for a, b in zip(ours.accuracy_P, theirs.accuracy_P, strict=True) if a == a and b == b]
    return bootstrap_difference([a for a, _ in both], [b for _, b in both], seed=seed)


def tool_success_table(attempts: Sequence[Attempt]) -> list[list[int]]:
    """The paper's Table 4, rows and columns swapped: rows all calls ran, some call failed; columns right, wrong."""
    table = [[0, 0], [0, 0]]
    for attempt in attempts:
        if attempt.trajectory.calls and attempt.verdict.outcome is not Outcome.UNSCORED:
            failed = any(step.failed for step in attempt.trajectory.calls)
            table[failed][not attempt.is_correct] += 1
    return table


def failure_classes(attempts: Sequence[Attempt]) -> dict[str, int]:
    """Failed calls by what stopped them: a status, or the exception's type."""
    classes: Counter[str] = Counter()
    for attempt in attempts:
        for step in attempt.trajectory.calls:
            result = step.observation.result if step.observation is not None else None
            if result is not None and not result.succeeded:
                is_named = result.status in (Status.RUNTIME, Status.SYNTAX) and result.error
                classes[str(result.error if is_named else result.status)] += 1
    return dict(classes.most_common())


def _accuracy(group: Sequence[Attempt]) -> float:
    scored = [float(a.is_correct) for a in group if a.verdict.outcome is not Outcome.UNSCORED]
    return sum(scored) / len(scored) if scored else float("nan")
