"""The files of a run folder, read for the report: results, summary, funnel and the metrics of every round.

Only `results.json` must be there. The other files are optional, since a run may have been stopped at any instant or may
have skipped a stage; a field that is missing or not a number is left out rather than guessed.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.eval.metrics import remarks
from thor_tir.eval.tables import lost_cell

MAX_ROUNDS = 1000
"""Rounds of one stage that are kept for drawing; a longer run is thinned evenly, first and last round included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownEstimate:
    """A number with its 95 % interval."""

    value: float
    """The number itself."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One evaluated configuration."""

    name: str
    """Name of the configuration, and of the set where it was asked several."""
    accuracy: ShownEstimate | None
    """Share of problems solved, 0..1; None where nothing was scored."""
    num_problems: int
    """Problems with a score."""
    lost: str
    """Attempts that measure nothing, of those asked for."""
    remarks: tuple[str, ...]
    """Sentences that a reader of the scores must know."""
    call_success: float | None
    """Share of tool calls that ran to their end, 0..1; None without any call."""
    calls: float
    """Tool calls per attempt that counts."""
    tokens: float
    """Tokens sampled per attempt that counts."""
    by_family: Mapping[str, float]
    """Accuracy per family of problems, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Accuracy of one configuration minus that of another on the same problems."""

    name: str
    """Names of both, as `ours - theirs`."""
    difference: ShownEstimate
    """Difference of accuracies, -1..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownToolSuccess:
    """Tool success against correctness over trajectories, Pearson's chi-squared without correction (paper, Fig. 1)."""

    table: tuple[tuple[int, int], tuple[int, int]]
    """Rows: every call succeeded, some call failed. Columns: correct, wrong."""
    chi2: float | None
    """Pearson's chi-squared."""
    p: float | None
    """Chance of so large a chi-squared without an association."""
    phi: float | None
    """Correlation of the two properties, -1..1."""
    odds_ratio: float | None
    """Odds of a correct answer where every call succeeded over those where one failed; None for infinity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelStage:
    """One filter of TIRGen (paper, section 2.2)."""

    name: str
    """Name of the filter."""
    kept: int
    """Samples that passed it."""
    rejected: Mapping[str, int]
    """By reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Comparisons, times and settings of a run."""

    paired: tuple[Difference, ...] = ()
    """Differences between configurations on the same problems."""
    association: ShownToolSuccess | None = None
    """Tool success against correctness; None where it was not recorded."""
    failure_classes: Mapping[str, Mapping[str, int]]
    """Failed calls by class, under the name of the moment: `before RL`, `after RL`."""
    seconds: Mapping[str, float]
    """Wall-clock time by stage."""
    machine: str
    """Class of the machine."""
    seed: str
    """Seed of the run."""
    config: Mapping[str, Any]
    """Resolved options."""
    versions: Mapping[str, Any]
    """Versions of the packages that results depend on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """Everything but the trajectories."""

    name: str
    """Name of the folder."""
    results: tuple[Result, ...]
    """Rows of the results."""
    summary: Summary
    """Comparisons, times and settings."""
    funnel: tuple[FunnelStage, ...]
    """Filters of TIRGen in their order; empty where it was not run."""
    rl: tuple[Mapping[str, Any], ...]
    """One object per optimiser round, as the trainer wrote it."""
    sft: tuple[Mapping[str, Any], ...]
    """One object per optimiser step of the cold start."""


def read_run(run: Path) -> RunFolder:
    """Read a run folder. Raises UsageError where `results.json` is missing or any file is not what it should be."""
    results = _read(run / "results.json")
    if results is None:
        raise UsageError(f"{run} holds no results.json; give the folder of a run that has been evaluated")
    try:
        rows = tuple(_results(results))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{run / 'results.json'} is no result of this version ({error!r}); make it again") from error
    return RunFolder(
        name=run.resolve().name,
        results=rows,
        summary=_summary(mapping(_read(run / "summary.json"))),
        funnel=_funnel(mapping(_read(run / "tirgen" / "funnel.json"))),
        rl=_metrics(run / "rl" / "metrics.jsonl"),
        sft=_metrics(run / "sft" / "metrics.jsonl"),
    )


def parse(text: str | bytes) -> Any:
    """A JSON value with null for every number that is not finite. Raises ValueError for anything but JSON."""
    try:
        return json.loads(text, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < 1e300 else None


def mapping(value: object) -> Mapping[str, object]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _finite(digits: str) -> float | None:
    return value if math.isfinite(value := float(digits)) else None


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return parse(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path} is not valid JSON ({error}); repair or delete it") from error


def _metrics(path: Path) -> tuple[Mapping[str, object], ...]:
    """Rounds in file order. A torn last line, which a kill leaves behind, is not a round."""
    if not path.is_file():
        return ()
    lines = path.read_bytes().split(b"\n")[:-1]
    thin = max(1.0, (len(lines) - 1) / (MAX_ROUNDS - 1))
    kept = sorted({min(len(lines) - 1, round(i * thin)) for i in range(min(len(lines), MAX_ROUNDS))})
    rows = []
    for index in kept:
        try:
            rows.append(mapping(parse(lines[index])))
        except ValueError as error:
            raise UsageError(f"{path}, line {index + 1} is not valid JSON ({error}); delete that line") from error
    return tuple(row for row in rows if row)


def _results(results: Mapping[str, Any]) -> Iterator[Result]:
    """A row for each run and set. An evaluation writes itself, a whole run those of its rows under `runs`."""
    for run in results.get("runs", [results]):
        for entry in run["sets"]:
            accuracy, success = entry["avg"], entry["call_success"]
            yield Result(
                name=run["name"] if len(run["sets"]) == 1 else f"{run['name']}: {entry['title']}",
                accuracy=None if accuracy is None else _interval(accuracy),
                num_problems=entry["n_scored"],
                lost=lost_cell(entry["lost"]),
                remarks=tuple(remarks(entry)),
                call_success=None if success is None else success["value"],
                calls=entry["calls"],
                tokens=entry["tokens_kept"] + entry["tokens_discarded"],
                by_family={name: each["value"] for name, each in entry["by_source"].items()},
            )


def _interval(entry: Mapping[str, Any]) -> ShownEstimate:
    low, high = entry["ci95"]
    return ShownEstimate(value=entry["value"], low=low, high=high)


def _estimate(value: object, interval: object) -> ShownEstimate | None:
    """An estimate; None where the number or its interval is missing, since a number alone would look certain."""
    match [number(each) for each in (value, *(interval if isinstance(interval, list) else ()))]:
        case [float() | int() as middle, float() | int() as low, float() | int() as high]:
            return ShownEstimate(value=middle, low=low, high=high)
    return None


def _numbers(value: object) -> dict[str, float]:
    return {str(k): v for k, each in mapping(value).items() if (v := number(each)) is not None}


def _counts(value: object) -> dict[str, int]:
    return {name: int(count) for name, count in _numbers(value).items()}


def _summary(fields: Mapping[str, object]) -> Summary:
    paired = fields.get("paired")
    return Summary(
        paired=tuple(d for row in paired if (d := _difference(mapping(row)))) if isinstance(paired, list) else (),
        association=_tool_success(mapping(fields.get("chi_squared"))),
        failure_classes={str(k): _counts(v) for k, v in mapping(fields.get("failure_classes")).items()},
        seconds=_numbers(fields.get("seconds")),
        machine=str(fields.get("machine") or "not recorded"),
        seed="not recorded" if fields.get("seed") is None else str(fields["seed"]),
        config=mapping(fields.get("config")),
        versions=mapping(fields.get("versions")),
    )


def _difference(fields: Mapping[str, object]) -> Difference | None:
    difference = _estimate(fields.get("difference"), fields.get("ci95"))
    return None if difference is None else Difference(name=str(fields.get("name", "")), difference=difference)


def _tool_success(fields: Mapping[str, object]) -> ShownToolSuccess | None:
    match fields.get("table"):
        case [[int(a), int(b)], [int(c), int(d)]]:
            names = ("chi2", "p", "phi", "odds_ratio")
            return ShownToolSuccess(table=((a, b), (c, d)), **{name: number(fields.get(name)) for name in names})
    return None


def _funnel(fields: Mapping[str, object]) -> tuple[FunnelStage, ...]:
    stages = fields.get("stages")
    rows = [mapping(row) for row in stages] if isinstance(stages, list) else []
    return tuple(
        FunnelStage(name=str(row.get("name", "")), kept=int(kept), rejected=_counts(row.get("rejected")))
        for row in rows
        if (kept := number(row.get("kept"))) is not None
    )
