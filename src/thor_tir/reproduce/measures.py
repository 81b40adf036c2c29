"""Attempts of an evaluation -> for each problem a part and a whole, whose sums over problems give a measure.

Every measure is such a ratio: accuracy is right attempts over scored ones, calls that succeed over calls, tokens over
attempts. Problems of several sets weigh so that each set counts as much, as the averages of the paper do.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.metrics import losses, num_lost
from thor_tir.eval.selectors import accuracy_at_k
from thor_tir.eval.statistics import Array, pass_at_k
from thor_tir.inference.best_of_n import Opinions, selector
from thor_tir.inference.self_correction import repair_cost
from thor_tir.rollout.sample_many import Attempt
from thor_tir.verdict import Outcome

Group = Sequence[Attempt]
Ratio = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """A column of a table."""

    title: str
    """Head of the column."""
    of: Callable[[Group], Ratio]
    """Part and whole of one problem's attempts."""
    scale: float = 1.0
    """Factor of what is shown: 100 for percents."""
    highest: float | None = 1.0
    """Largest value of the ratio; None for what has no bound."""


def _scored(group: Group) -> list[Attempt]:
    return [attempt for attempt in group if attempt.verdict.outcome is not Outcome.UNSCORED]


def _accuracy(group: Group) -> Ratio:
    scored = _scored(group)
    return (sum(a.is_correct for a in scored) / len(scored), 1.0) if scored else (0.0, 0.0)


def _pass_at(k: int) -> Callable[[Group], Ratio]:
    def ratio(group: Group) -> Ratio:
        scored = _scored(group)
        return (pass_at_k(len(scored), sum(a.is_correct for a in scored), k), 1.0) if len(scored) >= k else (0.0, 0.0)

    return ratio


def _calls_that(holds: Callable[[Attempt], tuple[int, int]]) -> Callable[[Group], Ratio]:
    def ratio(group: Group) -> Ratio:
        pairs = [holds(attempt) for attempt in group]
        return float(sum(a for a, _ in pairs)), float(sum(b for _, b in pairs))

    return ratio


def _succeeded(attempt: Attempt) -> tuple[int, int]:
    calls = attempt.trajectory.calls
    return sum(step.succeeded for step in calls), len(calls)


def _ran(attempt: Attempt) -> tuple[int, int]:
    calls = attempt.trajectory.calls
    return sum(step.ran for step in calls), len(calls)


def is_clean(attempt: Attempt) -> bool:
    """True where it made a call and every call of it succeeded (paper, Table 4)."""
    calls = attempt.trajectory.calls
    return bool(calls) and all(step.succeeded for step in calls)


def _right_where(wanted: bool) -> Callable[[Group], Ratio]:
    """Right attempts among those that called, and whose calls all succeeded, or did not."""

    def ratio(group: Group) -> Ratio:
        called = [a for a in _scored(group) if a.trajectory.calls and is_clean(a) is wanted]
        return float(sum(a.is_correct for a in called)), float(len(called))

    return ratio


def _mean(value: Callable[[Attempt], float]) -> Callable[[Group], Ratio]:
    return lambda group: (sum(map(value, group)), float(len(group)))


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure(title="accuracy, %", of=_accuracy, scale=100),
    "pass@16": Measure(title="pass@16, %", of=_pass_at(16), scale=100),
    "calls_ok": Measure(title="calls that succeed, %", of=_calls_that(_succeeded), scale=100),
    "calls_ran": Measure(title="calls that run, %", of=_calls_that(_ran), scale=100),
    "code_ratio": Measure(title="code ratio, %", of=_mean(lambda a: bool(a.trajectory.calls)), scale=100),
    "right_if_clean": Measure(title="right where all calls succeeded, %", of=_right_where(True), scale=100),
    "right_if_failed": Measure(title="right where a call failed, %", of=_right_where(False), scale=100),
    "calls": Measure(title="calls", of=_mean(lambda a: len(a.trajectory.calls)), highest=None),
    "failed_calls": Measure(
        title="failed calls, of 100 attempts",
        of=_mean(lambda a: len(a.trajectory.calls) - sum(step.succeeded for step in a.trajectory.calls)),
        scale=100,
        highest=None,
    ),
    "tokens": Measure(title="tokens", of=_mean(lambda a: a.trajectory.num_model_tokens), highest=None),
    "discarded": Measure(
        title="of these discarded", of=_mean(lambda a: repair_cost(a.trajectory).discarded_tokens), highest=None
    ),
}
"""Columns by their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One evaluation, problem by problem."""

    problems: tuple[str, ...]
    """Ids of the problems, with their sets."""
    parts: Mapping[str, Array]
    """Part and whole of every problem, by measure."""
    attempts: int
    """Attempts that were made."""
    lost: int
    """Attempts that count for nothing."""
    table: tuple[tuple[int, int], tuple[int, int]]
    """Scored attempts that called: every call succeeded, or one did not; right, wrong."""


def measured(folder: EvalFolder, names: Sequence[str], select: str = "") -> Measured:
    """The measures of one evaluation. Raises UsageError where it is not finished, or was not asked by the selector.

    Where a selector takes one attempt of a problem, accuracy is that of what it takes, ties shared evenly; everything
    else is of all the attempts, which are paid for.
    """
    problems: list[str] = []
    values: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    counts = [[0, 0], [0, 0]]
    attempts = lost = 0
    sets = folder.sets
    size = sum(len(asked.problems) for asked in sets)
    for asked in sets:
        if missing := folder.num_missing(asked):
            raise UsageError(f"{folder.path} lacks {missing} attempts; finish it first")
        evaluation = folder.evaluation(asked)
        opinions = folder.opinions(select, asked) if select else {}
        weight = size / (len(sets) * len(asked.problems))
        attempts += len(evaluation.attempts)
        lost += num_lost(losses(asked, evaluation, samples=folder.manifest["samples"]))
        for problem, group in zip(asked.problems, evaluation.groups, strict=True):
            problems.append(f"{asked.name}/{problem.id}")
            for name in names:
                part, whole = _of_group(name, group, select, opinions, folder.manifest["seed"])
                values[name].append((weight * part, weight * whole))
            for attempt in _scored(group):
                if attempt.trajectory.calls:
                    counts[not is_clean(attempt)][not attempt.is_correct] += 1
    return Measured(
        problems=tuple(problems),
        parts={name: np.array(rows, dtype=np.float64) for name, rows in values.items()},
        attempts=attempts,
        lost=lost,
        table=((counts[0][0], counts[0][1]), (counts[1][0], counts[1][1])),
    )


def _of_group(name: str, group: Group, select: str, opinions: Opinions, seed: int) -> Ratio:
    if name != "accuracy" or not select:
        return MEASURES[name].of(group) if group else (0.0, 0.0)
    scored = _scored(group)
    by = selector(select)
    return (accuracy_at_k(scored, by, opinions, len(scored), seed=seed), 1.0) if scored else (0.0, 0.0)
