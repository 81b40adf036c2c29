"""Figures of a round: one line of metrics.jsonl, which goes to trackers, and a sentence where too much is lost.

`docs/rl.md` says what each figure means and what to look for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import pstdev
from typing import Any

from thor_tir.learner.metrics import HISTOGRAM_EDGES, StepMetrics
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import MonitorConfig
from thor_tir.rl.samples import EPISODE, STEP
from thor_tir.storage.journal import Journal
from thor_tir.tracking import Tracker, open_trackers, scalars
from thor_tir.trajectory import Author, Span


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

    def as_json(self) -> dict[str, Any]:
        """The figures as they stand in a round's record."""
        return {
            "validation": self.accuracy,
            "validation_ci95": self.ci95,
            "validation_problems": self.num_problems,
            "validation_lost": self.num_lost,
        }


def record_of(
    number: int,
    gathered: RoundSamples,
    rows: Sequence[TrainingSample],
    dropped: Counter[str],
    measured: Sequence[Mapping[str, Any]],
    *,
    sampled: Sequence[TrainingSample],
    num_steps: int,
) -> dict[str, Any]:
    """The line of round `number`, counted from 0, after its last update, which was the learner's `num_steps`th.

    `sampled` are the rows as the engine left them, before they were scored.
    """
    attempts, repairs = gathered.attempts, gathered.repaired
    calls = [step for attempt in attempts for step in attempt.trajectory.calls]
    tools = [*calls, *(repair.step for repair in repairs)]
    versions = [attempt.trajectory.policy_version for attempt in attempts]
    is_repair = [bool(row.parent) for row in rows]
    return {
        "step": number + 1,
        "answer_reward": _mean([float(attempt.is_correct) for attempt in attempts]),
        "call_success": _mean([float(step.succeeded) for step in calls]),
        "calls_ran": _mean([float(step.ran) for step in calls]),
        "call_limit_share": _mean([float(a.trajectory.wanted_more_calls) for a in attempts]),
        "step_reward": _mean([repair.reward for repair in repairs]),
        "response_tokens": _mean([float(a.trajectory.num_model_tokens) for a in attempts]),
        "calls": _mean([float(len(a.trajectory.calls)) for a in attempts]),
        "queries": len(gathered.repairs),
        "rows_episode": len(rows) - sum(is_repair),
        "rows_step": sum(is_repair),
        "dropped": dict(+dropped),
        "dropped_share": dropped.total() / max(1, gathered.num_sampled),
        "levels": {
            "episode": _episodes(gathered) | _credit(rows, sampled, EPISODE, measured),
            "step": _repairs(gathered) | _credit(rows, sampled, STEP, measured),
        },
        "staleness": {"max": num_steps - 1 - min(versions)} if versions else None,
        "loss": {name: loss for update in measured for name, loss in update["loss"].items()},
        "grad_norm": max((update["grad_norm"] for update in measured), default=0.0),
        "tool_seconds": sum(s.observation.result.seconds for s in tools if s.observation is not None),
        "seconds": {"rollout": gathered.rollout_s, "repair": gathered.repair_s, "grade": gathered.grade_s},
    }


def measures_of(step: StepMetrics) -> dict[str, Any]:
    """The part of an update that the round's record needs, as JSON: checkpoints keep it until the round ends."""
    return {
        "loss": {name: term.loss for name, term in step.terms.items()},
        "drift": {
            name: asdict(term.drift) | {"histogram": list(term.drift.histogram)}
            for name, term in step.terms.items()
            if term.drift is not None
        },
        "grad_norm": step.gradient_norm,
    }


def _episodes(gathered: RoundSamples) -> dict[str, Any]:
    attempts = gathered.attempts
    return {
        "reward": _mean([float(attempt.is_correct) for attempt in attempts]),
        "pass_rate": _mean([float(any(a.is_correct for a in group)) for group in gathered.groups if group]),
        "entropy": _surprise([span for attempt in attempts for span in attempt.trajectory.spans]),
        "tokens": _mean([float(a.trajectory.num_model_tokens) for a in attempts]),
        "longest": max((a.trajectory.num_model_tokens for a in attempts), default=0),
        "calls": _mean([float(len(a.trajectory.calls)) for a in attempts]),
        "groups": len(gathered.groups),
    }


def _repairs(gathered: RoundSamples) -> dict[str, Any]:
    repairs = gathered.repaired
    lengths = [sum(len(s) for s in r.step.spans if s.author is Author.MODEL) for r in repairs]
    return {
        "reward": _mean([repair.reward for repair in repairs]),
        "pass_rate": _mean([float(any(r.reward for r in group)) for _, group in gathered.repairs if group]),
        "entropy": _surprise([span for repair in repairs for span in repair.step.spans]),
        "tokens": _mean(list(map(float, lengths))),
        "longest": max(lengths, default=0),
        "calls": _mean([float(repair.step.action is not None) for repair in repairs]),
        "ran": _mean([float(repair.step.ran) for repair in repairs]),
        "printed": _mean([float(repair.step.succeeded) for repair in repairs]),
        "groups": len(gathered.repairs),
    }


def _credit(
    rows: Sequence[TrainingSample],
    sampled: Sequence[TrainingSample],
    level: str,
    measured: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The credit of a level's rows, and the distances between engine, trainer and updated policy."""
    carried = [any(t.name == level for t in row.terms) for row in rows]
    advantages = [t.advantage for row in rows for t in row.terms if t.name == level]
    drifts = [update["drift"][level] for update in measured if level in update["drift"]]
    pairs = [(row, old) for row, old, is_in in zip(rows, sampled, carried, strict=True) if is_in and row.correction]
    first = {name: drifts[0][name] for name in _GAP} if drifts else None
    return {
        "groups_kept": len({row.group for row, is_in in zip(rows, carried, strict=True) if is_in}),
        "advantage_std": pstdev(advantages) if advantages else None,
        "mismatch": engine_gap(pairs) if pairs else first,
        "drift": drifts[-1] if drifts else None,
    }


_GAP = ("mean_log_ratio", "max_log_ratio", "histogram")


def engine_gap(pairs: Sequence[tuple[TrainingSample, TrainingSample]]) -> dict[str, Any]:
    """The log ratios of trainer to engine over trained tokens, from rows after and before they were corrected."""
    gaps = [
        new - old
        for row, before in pairs
        for new, old, is_trained in zip(row.old_logprobs, before.old_logprobs, row.trained, strict=True)
        if is_trained
    ]
    counts = Counter(bisect_left(HISTOGRAM_EDGES, gap) for gap in gaps)
    histogram = [counts[place] for place in range(len(HISTOGRAM_EDGES) + 1)]
    sizes = list(map(abs, gaps))
    return {"mean_log_ratio": _mean(sizes), "max_log_ratio": max(sizes, default=0.0), "histogram": histogram}


def _surprise(spans: Sequence[Span]) -> float | None:
    """Mean -log pi of what the policy sampled: at temperature 1 an unbiased estimate of its entropy, for nothing."""
    return _mean([-lp for span in spans if span.author is Author.MODEL for lp in span.logprobs or ()])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


Say = Callable[[str], None]


def silent(text: str) -> None:
    """Say nothing."""


@dataclass(slots=True, kw_only=True)
class RoundMonitor:
    """Takes the record of each round."""

    config: MonitorConfig
    """Options of monitoring."""
    metrics: Journal
    """Journal of the rounds' figures."""
    trackers: list[Tracker]
    """Places where curves go."""
    say: Say = silent
    """Function that prints one line for a person."""
    has_warned: bool = field(default=False, init=False)
    """True once the warning about lost samples was given."""

    @classmethod
    def begin(cls, config: MonitorConfig, metrics: Journal, folder: Path, say: Say) -> "RoundMonitor":
        """Raises UsageError where a tracker that was asked for is not installed. Of several processes one draws."""
        trackers = open_trackers(config.report_to, folder, say) if metrics.is_ours else []
        return cls(config=config, metrics=metrics, trackers=trackers, say=say)

    def take(self, number: int, record: Mapping[str, Any]) -> None:
        """Write a round down, unless it stands there from a time that a kill undid."""
        if str(number) in self.metrics:
            return
        self.metrics.add(str(number), dict(record))
        for tracker in self.trackers:
            tracker.log(int(record["step"]), scalars(record))
        self._warn(record)

    def close(self) -> None:
        """No more rounds."""
        self.metrics.close()
        for tracker in self.trackers:
            tracker.close()

    def _warn(self, record: Mapping[str, Any]) -> None:
        share = record["dropped_share"]
        if share <= self.config.warn_dropped_share or self.has_warned:
            return
        self.has_warned = True
        causes = sorted(record["dropped"].items(), key=lambda cause: -cause[1])
        counts = ", ".join(f"{cause} {count}" for cause, count in causes)
        self.say(f"round {record['step']}: {100 * share:.0f} % of its samples gave no row ({counts}); said once a run")
