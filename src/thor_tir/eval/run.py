"""Many attempts at many problems -> one row of the results table, with intervals over problems."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thor_tir.eval.statistics import Association, Interval, association, average_at_k, paired_difference, wilson
from thor_tir.execution import Status
from thor_tir.inference.best_of_n import Score, select
from thor_tir.problem import Problem
from thor_tir.rollout.attempts import Attempt, AttemptRequest, Progress, SamplingSetup, attempt_all
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Attempts of one configuration, grouped by problem in the order of the problems."""

    name: str
    groups: tuple[tuple[Attempt, ...], ...]

    @property
    def attempts(self) -> list[Attempt]:
        """All of them."""
        return [attempt for group in self.groups for attempt in group]

    @property
    def accuracy_P(self) -> list[float]:
        """Share of right attempts per problem; NaN where none was scored."""
        return [_accuracy(group) for group in self.groups]


async def evaluate(
    name: str,
    problems: Sequence[Problem],
    setup: SamplingSetup,
    journal: Journal,
    *,
    samples: int,
    seed: int,
    progress: Progress | None = None,
) -> Evaluation:
    """`samples` attempts at each problem, journaled under `<problem>/<sample>`; resumed where the journal ends.

    The seeds do not depend on `name`: two configurations meet the same problems with the same random numbers.
    """
    requests = [
        AttemptRequest(id=f"{problem.id}/{sample}", problem=problem, seed=seed_of(seed, problem.id, sample))
        for problem in problems
        for sample in range(samples)
    ]
    attempts = await attempt_all(requests, setup, journal, progress)
    by_problem: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_problem[attempt.problem.id].append(attempt)
    return Evaluation(name=name, groups=tuple(tuple(by_problem[problem.id]) for problem in problems))


def best_of(evaluation: Evaluation, score: Score, *, name: str, seed: int) -> Evaluation:
    """One attempt per problem, chosen by `score` among all of them. Costs stay those of all: see `result_row`."""
    chosen = tuple(
        (select(group, score, seed=seed_of(seed, group[0].problem.id)),) if group else () for group in evaluation.groups
    )
    return Evaluation(name=name, groups=chosen)


def result_row(evaluation: Evaluation, *, cost_of: Evaluation | None = None) -> dict[str, Any]:
    """One row of results.json. `cost_of` holds the attempts that were paid for, where more were made than count.

    Unscored attempts leave accuracies alone and are counted. Calls and tokens are per problem and attempt that counts.
    """
    paid = cost_of or evaluation
    calls = [step for attempt in paid.attempts for step in attempt.trajectory.calls]
    num = max(1, len(evaluation.attempts))
    kept = [a for a in evaluation.accuracy_P if a == a]
    accuracy = average_at_k([[a] for a in kept])
    success = wilson(sum(step.succeeded for step in calls), len(calls)) if calls else None
    return {
        "name": evaluation.name,
        "accuracy": accuracy.mean,
        "ci95": [max(0.0, accuracy.low), min(1.0, accuracy.high)],
        "n": len(kept),
        "samples": max((len(group) for group in evaluation.groups), default=0),
        "call_success": None if success is None else success.mean,
        "call_success_ci95": None if success is None else [success.low, success.high],
        "calls": len(calls) / num,
        "tokens": sum(attempt.trajectory.num_model_tokens for attempt in paid.attempts) / num,
        "code_ratio": sum(bool(a.trajectory.calls) for a in evaluation.attempts) / num,
        "repairs": sum(len(step.discarded) for a in paid.attempts for step in a.trajectory.steps) / num,
        "dropped": len(paid.groups) * max((len(g) for g in paid.groups), default=0) - len(paid.attempts),
        "unscored": sum(a.verdict.outcome is Outcome.UNSCORED for a in evaluation.attempts),
        "by_family": by_family(evaluation),
    }


def by_family(evaluation: Evaluation) -> dict[str, float]:
    """Accuracy per source of problems."""
    grouped: defaultdict[str, list[float]] = defaultdict(list)
    for group, accuracy in zip(evaluation.groups, evaluation.accuracy_P, strict=True):
        if accuracy == accuracy:
            grouped[group[0].problem.source.rpartition("/")[2]].append(accuracy)
    return {family: sum(values) / len(values) for family, values in sorted(grouped.items())}


def paired(ours: Evaluation, theirs: Evaluation) -> Interval:
    """Difference in accuracy over the problems that both have scored."""
    both = [(a, b) for a, b in zip(ours.accuracy_P, theirs.accuracy_P, strict=True) if a == a and b == b]
    return paired_difference([a for a, _ in both], [b for _, b in both])


def tool_success_table(attempts: Sequence[Attempt]) -> list[list[int]]:
    """The paper's Table 4, rows and columns swapped: rows all calls ran, some call failed; columns right, wrong."""
    table = [[0, 0], [0, 0]]
    for attempt in attempts:
        if attempt.trajectory.calls and attempt.verdict.outcome is not Outcome.UNSCORED:
            failed = any(step.failed for step in attempt.trajectory.calls)
            table[failed][not attempt.is_correct] += 1
    return table


def tool_success(attempts: Sequence[Attempt]) -> tuple[list[list[int]], Association]:
    """The table and its chi-squared (specification, 9.5)."""
    table = tool_success_table(attempts)
    return table, association(table)


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
