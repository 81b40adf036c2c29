"""Figures of a round: one line of metrics.jsonl, which goes to trackers, and a sentence where too much is lost.

`docs/rl.md` says what each figure means and what to look for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import pstdev
from typing import Any

from thor_tir.dialect.near_misses import near_misses
from thor_tir.learner.metrics import HISTOGRAM_EDGES, Drift, StepMetrics
from thor_tir.learner.sample import TrainingSample
from thor_tir.progress import duration
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import MonitorConfig
from thor_tir.rl.figures import Gap, LevelFigures, RoundFigures, UpdateDrift, UpdateFigures, Validation
from thor_tir.rl.samples import EPISODE, STEP
from thor_tir.rl.staleness import staleness_of
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import Journal, JsonObject
from thor_tir.tracking import Tracker, open_trackers, scalars
from thor_tir.trajectory import Author, Span, Step
from thor_tir.verdict import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The course of a round's training."""

    begun_at: int
    """Version of the weights with which it began."""
    cap: float = 0.0
    """Cap of the corrections."""
    learner_waited_s: float = 0.0
    """Seconds in which training waited for samples."""
    sampler_waited_s: float = 0.0
    """Seconds in which sampling waited for training."""


def record_of(
    number: int,
    gathered: RoundSamples,
    rows: Sequence[TrainingSample],
    dropped: Counter[str],
    measured: Sequence[UpdateFigures],
    *,
    sampled: Sequence[TrainingSample],
    num_steps: int,
    train_s: float,
    course: Course | None = None,
    engines: Mapping[str, JsonObject] | None = None,
) -> RoundFigures:
    """The line of round `number`, counted from 0, after its last update, which was the learner's `num_steps`th.

    `sampled` are the rows as the engine left them, before they were scored; `train_s` are the seconds of the updates,
    `engines` the figures of the servers that sampled.
    """
    attempts, repairs = gathered.attempts, gathered.repaired
    calls = [step for attempt in attempts for step in attempt.trajectory.calls]
    tools = [*calls, *(step for repair in repairs for step in repair.steps)]
    versions = [attempt.trajectory.oldest_version for attempt in attempts if attempt.trajectory.steps]
    course = course or Course(begun_at=num_steps - 1)
    is_repair = [bool(row.parent) for row in rows]
    return {
        "step": number + 1,
        "answer_reward": _mean(_rewards(attempts)),
        "call_success": _mean([float(step.succeeded) for step in calls]),
        "calls_ran": _mean([float(step.ran) for step in calls]),
        "call_limit_share": _mean([float(a.trajectory.wanted_more_calls) for a in attempts]),
        "near_miss_share": _mean([float(near_misses(a.trajectory) > 0) for a in attempts]),
        "rewards": _of_parts(parts := [a.judged.parts for a in attempts if a.judged is not None], _mean),
        "rewards_std": _of_parts(parts, _spread),
        "step_reward": _mean([repair.reward for repair in repairs]),
        "step_rewards": _of_parts([repair.parts for repair in repairs], _mean),
        "response_tokens": _mean([float(a.trajectory.num_model_tokens) for a in attempts]),
        "calls": _mean([float(len(a.trajectory.calls)) for a in attempts]),
        "queries": len(gathered.repairs),
        "sampled": gathered.num_sampled,
        "refills": gathered.num_refills,
        "sampled_tokens": gathered.num_tokens,
        "rows_episode": len(rows) - sum(is_repair),
        "rows_step": sum(is_repair),
        "dropped": dict(+dropped),
        "dropped_share": dropped.total() / max(1, gathered.num_sampled),
        "levels": {
            EPISODE: _level(_Samples.of_trajectories(gathered), rows, sampled, measured),
            STEP: _level(_Samples.of_repairs(gathered), rows, sampled, measured),
        },
        "staleness": (
            staleness_of(rows, version=course.begun_at, last=num_steps, oldest=min(versions), cap=course.cap)
            if versions
            else None
        ),
        "loss": {name: loss for update in measured for name, loss in update["loss"].items()},
        "grad_norm": max((update["grad_norm"] for update in measured), default=0.0),
        "tool_seconds": sum(s.observation.result.seconds for s in tools if s.observation is not None),
        "seconds": {
            "rollout": gathered.rollout_s,
            "repair": gathered.repair_s,
            "grade": gathered.grade_s,
            "reward": gathered.reward_s,
            "train": train_s,
            "learner_waited": course.learner_waited_s,
            "sampler_waited": course.sampler_waited_s,
        },
        "engines": dict(engines or {}),
    }


def figures_of(step: StepMetrics) -> UpdateFigures:
    """The part of an update that the round's record needs."""
    return {
        "loss": {name: term.loss for name, term in step.terms.items()},
        "drift": {name: _drift(term.drift) for name, term in step.terms.items() if term.drift is not None},
        "grad_norm": step.gradient_norm,
    }


def _drift(drift: Drift) -> UpdateDrift:
    return {
        "mean_log_ratio": drift.mean_log_ratio,
        "max_log_ratio": drift.max_log_ratio,
        "histogram": list(drift.histogram),
        "low_share": drift.low_share,
        "high_share": drift.high_share,
        "dual_share": drift.dual_share,
        "approx_kl": drift.approx_kl,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """The samples of one level, whatever they are."""

    name: str
    """Name of the level's surrogate."""
    rewards: Sequence[Sequence[float]]
    """Rewards of those members of each group that have one."""
    passed: Sequence[float]
    """1 for each group with such a member in which one is right, 0 for the others."""
    steps: Sequence[Sequence[Step]]
    """Steps of each sample."""

    @classmethod
    def of_trajectories(cls, gathered: RoundSamples) -> "_Samples":
        steps = [attempt.trajectory.steps for attempt in gathered.attempts]
        rewards = [[a.reward for a in group if a.reward is not None] for group in gathered.groups]
        passed = [float(any(answers)) for group in gathered.groups if (answers := _rewards(group))]
        return cls(name=EPISODE, rewards=rewards, passed=passed, steps=steps)

    @classmethod
    def of_repairs(cls, gathered: RoundSamples) -> "_Samples":
        rewards = [[repair.reward for repair in group] for _, group in gathered.repairs]
        passed = [float(max(group) > 0) for group in rewards if group]
        return cls(name=STEP, rewards=rewards, passed=passed, steps=[repair.steps for repair in gathered.repaired])


def _level(
    samples: _Samples,
    rows: Sequence[TrainingSample],
    sampled: Sequence[TrainingSample],
    measured: Sequence[UpdateFigures],
) -> LevelFigures:
    """Samples of a level, the credit of its rows, and the distances between engine, trainer and updated policy."""
    spans = [[s for step in steps for s in step.spans if s.author is Author.MODEL] for steps in samples.steps]
    lengths = [sum(map(len, own)) for own in spans]
    calls = [step for steps in samples.steps for step in steps if step.is_call]
    pairs = [
        (row, old) for row, old in zip(rows, sampled, strict=True) if any(t.name == samples.name for t in row.terms)
    ]
    advantages = [t.advantage for row in rows for t in row.terms if t.name == samples.name]
    drifts = [update["drift"][samples.name] for update in measured if samples.name in update["drift"]]
    corrected = [(row, old) for row, old in pairs if row.correction]
    return {
        "reward": _mean([reward for group in samples.rewards for reward in group]),
        "reward_std": _spread([reward for group in samples.rewards for reward in group]),
        "pass_rate": _mean(samples.passed),
        "entropy": _surprise([span for own in spans for span in own]),
        "tokens": _mean(list(map(float, lengths))),
        "longest": max(lengths, default=0),
        "calls": len(calls) / len(samples.steps) if samples.steps else None,
        "calls_ran": _mean([float(step.ran) for step in calls]),
        "call_success": _mean([float(step.succeeded) for step in calls]),
        "groups": len(samples.rewards),
        "groups_kept": len({row.group for row, _ in pairs}),
        "advantage_std": _spread(advantages),
        "mismatch": engine_gap(corrected) if corrected else _gap(drifts[0]) if drifts else None,
        "drift": drifts[-1] if drifts else None,
    }


def _gap(drift: UpdateDrift) -> Gap:
    return {
        "mean_log_ratio": drift["mean_log_ratio"],
        "max_log_ratio": drift["max_log_ratio"],
        "histogram": drift["histogram"],
    }


def engine_gap(pairs: Sequence[tuple[TrainingSample, TrainingSample]]) -> Gap:
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


def _rewards(attempts: Sequence[Attempt]) -> list[float]:
    """Rewards of the attempts that were scored: one that could not be graded has none."""
    return [float(a.is_correct) for a in attempts if a.verdict.outcome is not Outcome.UNSCORED]


def _of_parts(
    judged: Sequence[Mapping[str, float]], figure: Callable[[Sequence[float]], float | None]
) -> dict[str, float | None]:
    """A figure of each reward that the run names, before weights; empty where a packaged one is all."""
    names = sorted({name for parts in judged for name in parts})
    return {name: figure([parts[name] for parts in judged if name in parts]) for name in names}


def _surprise(spans: Sequence[Span]) -> float | None:
    """Mean -log pi of what the policy sampled: at temperature 1 an unbiased estimate of its entropy, for nothing."""
    return _mean([-lp for span in spans if span.author is Author.MODEL for lp in span.logprobs or ()])


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _spread(values: Sequence[float]) -> float | None:
    return pstdev(values) if values else None


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
    warned: set[str] = field(default_factory=set, init=False)
    """Warnings that were given: each is given once."""

    @classmethod
    def begin(cls, config: MonitorConfig, metrics: Journal, folder: Path, say: Say) -> "RoundMonitor":
        """Raises UsageError where a tracker that was asked for is not installed. Of several processes one draws."""
        trackers = open_trackers(config.report_to, folder, say) if metrics.is_ours else []
        return cls(config=config, metrics=metrics, trackers=trackers, say=say)

    def take(self, number: int, record: RoundFigures, validation: Validation | None = None) -> None:
        """Write a round down with its validation, unless it stands there from a time that a kill undid."""
        if str(record["step"]) in self.metrics:
            return
        line = {**record, **({} if validation is None else validation.as_json())}
        self.metrics.add(str(record["step"]), line)
        for tracker in self.trackers:
            tracker.log(record["step"], scalars(line))
        if validation is not None:
            self.say(validation.sentence(record["step"]))
        share = record["dropped_share"]
        if share > self.config.warn_dropped_share:
            causes = counted(record["dropped"])
            self._warn("dropped", f"round {record['step']}: {100 * share:.0f} % of its samples gave no row ({causes})")
        for level, advice in ADVICE.items():
            figures = record["levels"][level]
            if figures["reward_std"] == 0:
                reward = f"{figures['reward']:g}"
                self._warn(level, f"round {record['step']}: every reward of its {level} is {reward}: {advice}")

    def close(self) -> None:
        """No more rounds: say how much of all that was sampled was trained on."""
        if summary := lost_line(list(self.metrics)):
            self.say(summary)
        self.metrics.close()
        for tracker in self.trackers:
            tracker.close()

    def _warn(self, name: str, sentence: str) -> None:
        if name not in self.warned:
            self.warned.add(name)
            self.say(f"{sentence}; said once a run")


ADVICE = {
    EPISODE: "nothing is learnt from answers; see with `thor show` whether they are found and graded as they should be",
    STEP: "nothing is learnt from repairs",
}
"""Remarks on a round whose rewards at a level are all equal."""


def counted(causes: Mapping[str, int]) -> str:
    """Causes with their counts, the most frequent first."""
    return ", ".join(f"{cause} {count}" for cause, count in sorted(causes.items(), key=lambda item: -item[1]))


def round_line(record: RoundFigures, *, of: int) -> str:
    """One round of `of` in a line, for a person who watches or reads a log."""
    whole = record["levels"][EPISODE]
    rewards = {
        "reward": whole["reward"],
        "answers": record["answer_reward"] if record["rewards"] else None,
        "pass rate": whole["pass_rate"],
        "repairs": record["step_reward"],
        "loss": sum(record["loss"].values()) if record["loss"] else None,
        "entropy": whole["entropy"],
    }
    parts = [f"{name} {value:.{3 if name == 'loss' else 2}f}" for name, value in rewards.items() if value is not None]
    if record["rewards"] and whole["reward_std"] is not None:
        parts[0] += f" (spread {whole['reward_std']:.2f})"
    if whole["tokens"] is not None:
        parts.append(f"{whole['tokens']:.0f} tokens (longest {whole['longest']})")
    if whole["calls"]:
        parts.append(f"{whole['calls']:.1f} calls, {100 * (record['calls_ran'] or 0):.0f} % run")
    left = f" (left out: {counted(record['dropped'])})" if record["dropped"] else ""
    if record["refills"]:
        parts.append(f"{whole['groups_kept']} of {whole['groups']} groups kept ({record['refills']} were refills)")
    parts.append(f"{record['rows_episode'] + record['rows_step']} of {record['sampled']} samples trained{left}")
    seconds, stale = record["seconds"], record["staleness"]
    if stale is not None and stale["stale_share"]:
        parts.append(
            f"{100 * stale['stale_share']:.0f} % of tokens stale (mean {stale['mean']:.1f} steps, corrections of "
            f"{100 * stale['truncated_share']:.0f} % cut), training waited {seconds['learner_waited']:.0f} s and "
            f"sampling {seconds['sampler_waited']:.0f} s"
        )
    parts.append(duration(seconds["rollout"] + seconds["repair"] + seconds["train"]))
    return f"round {record['step']} of {of}: {', '.join(parts)}"


def round_brief(record: RoundFigures) -> str:
    """The rewards of a round, to stand beside a bar."""
    found = (("reward", record["levels"][EPISODE]["reward"]), ("repairs", record["step_reward"]))
    return f"round {record['step']}: " + ", ".join(f"{name} {value:.2f}" for name, value in found if value is not None)


def lost_line(records: Sequence[Mapping[str, Any]]) -> str:
    """All rounds in a line: samples, rows, and the causes of the difference; empty where nothing was sampled."""
    sampled = sum(record["sampled"] for record in records)
    num_rows = sum(record["rows_episode"] + record["rows_step"] for record in records)
    dropped: Counter[str] = sum((Counter(record["dropped"]) for record in records), Counter())
    left = f"; left out: {counted(dropped)}" if dropped else ""
    return f"{num_rows:,} of {sampled:,} samples were trained on{left}" if sampled else ""
