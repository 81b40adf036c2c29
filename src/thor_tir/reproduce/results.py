"""Evaluations of an experiment -> its result: rows with intervals, paired differences, what agrees with the paper."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from thor_tir.errors import UsageError
from thor_tir.eval.crossed import Crossed, crossed, holm, on_logit_scale, share_residuals
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.statistics import Array, association
from thor_tir.provenance import RUN, commit, machine, versions
from thor_tir.reproduce.declared import Experiment, Job, Layout, Pair, Row
from thor_tir.reproduce.measures import MEASURES, Measured, measured
from thor_tir.reproduce.precision import precisions
from thor_tir.storage.journal import Journal

INTERVAL = (
    "95 %, Student's, of the mean of seeds by problems, both drawn at random (two-way random effects, Satterthwaite's "
    "degrees of freedom), no narrower than of the seeds' means alone; where there is one seed over problems alone, of "
    "shares on the scale of log odds"
)


class Value(TypedDict):
    """A measure of one row."""

    mean: float
    """Mean over seeds and problems."""
    ci95: list[float]
    """Both ends of its interval."""
    by_seed: list[float]
    """Value of each seed."""


class ResultRow(TypedDict):
    """One line of a result."""

    name: str
    """Name of the line."""
    seeds: list[int]
    """Seeds that were run; the first alone where every seed would be the same."""
    n: int
    """Problems."""
    attempts: int
    """Attempts of all seeds."""
    lost: int
    """Attempts that count for nothing."""
    measures: dict[str, Value | None]
    """Values in the units of the columns; null where there is nothing to divide by."""
    tool_success: NotRequired[dict[str, Any]]
    """Tool success against correctness, where the experiment is about it."""
    spent: NotRequired[dict[str, list[int]]]
    """Rounds of RL and tokens that it sampled in each seed, where the experiment is about methods of RL."""


class Difference(TypedDict):
    """One line minus another, paired by seed and problem."""

    ours: str
    """Name of the line."""
    theirs: str
    """Name of the line that is taken from it."""
    measure: str
    """Measure that is compared."""
    difference: float
    """Mean difference, in the units of the column."""
    ci95: list[float]
    """Both ends of its interval."""
    p: float
    """Two-sided p-value."""
    p_corrected: float | None
    """P-value corrected for the number of comparisons; null where the experiment is no family of comparisons."""
    by_seed: list[float]
    """Difference in each seed."""
    paper: dict[str, float]
    """Difference in the paper, by its model."""
    agrees: str
    """`yes`, `no`, or `not told apart` where the interval holds 0; empty where the paper has no such difference."""


class Result(TypedDict):
    """The whole of a result file."""

    schema: int
    """Version of this form: 1."""
    experiment: str
    """Name of the experiment."""
    title: str
    """Title of its page."""
    subject: str
    """Model that it was run on."""
    command: str
    """Command that makes it again."""
    seeds: list[int]
    """Seeds that are finished."""
    seeds_wanted: int
    """Seeds that were asked for."""
    interval: str
    """Kind of the intervals."""
    rows: list[ResultRow]
    """Lines of the table."""
    differences: list[Difference]
    """Paired differences."""
    paper: list[dict[str, Any]]
    """Numbers of the paper."""
    notes: list[str]
    """What is different from the paper."""
    commits: list[str]
    """Commits that the stages were run at."""
    commit: str | None
    """Commit that measured."""
    versions: Mapping[str, str]
    """Versions of the libraries."""
    machine: str
    """Class of the machine."""
    precisions: NotRequired[dict[str, list[str]]]
    """Stages by the precision of their matrix products; files before there were two have none."""


def result_of(experiment: Experiment, layout: Layout, seeds: Sequence[int], *, wanted: int, command: str) -> Result:
    """The result of finished seeds. Raises UsageError where evaluations were not asked the same problems."""
    found = {row.name: _of_row(row, experiment, layout, seeds) for row in experiment.rows}
    problems = {each.problems for tables in found.values() for each in tables}
    if len(problems) > 1:
        raise UsageError(f"the evaluations of {experiment.name} were not asked the same problems; measure them apart")
    differences = [
        _difference(experiment, pair, name, found)
        for pair in experiment.pairs
        for name in (experiment.compared or experiment.measures[:1])
        if _can_differ(pair, name, experiment, found)
    ]
    if experiment.is_family:
        corrected = holm([each["p"] for each in differences])
        differences = [{**each, "p_corrected": p} for each, p in zip(differences, corrected, strict=True)]
    rows = [_row(row, experiment, layout, found[row.name], seeds) for row in experiment.rows]
    jobs = layout.jobs(experiment.rows, seeds)
    return {
        "schema": 1,
        "experiment": experiment.name,
        "title": experiment.title,
        "subject": layout.subject.name,
        "command": command,
        "seeds": list(seeds),
        "seeds_wanted": wanted,
        "interval": INTERVAL,
        "rows": rows,
        "differences": differences,
        "paper": [
            {"model": each.model, "measure": each.measure, "values": dict(each.values)} for each in experiment.paper
        ],
        "notes": list(experiment.notes),
        "commits": _commits(jobs),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "precisions": precisions(jobs),
    }


def _can_differ(pair: Pair, name: str, experiment: Experiment, found: Mapping[str, Sequence[Measured]]) -> bool:
    """False where a line has nothing to divide by, and for what selectors cannot change: everything but accuracy is of
    all the attempts that they choose from."""
    lines = (pair.ours, pair.theirs)
    asked = {row.evaluation for row in experiment.rows if row.name in lines}
    has_values = all(any(each.parts[name][:, 1].any() for each in found[line]) for line in lines)
    return has_values and (name == "accuracy" or len(asked) > 1)


def _of_row(row: Row, experiment: Experiment, layout: Layout, seeds: Sequence[int]) -> list[Measured]:
    used = seeds if layout.stage(row.evaluation).is_of_seed else seeds[:1]
    names = dict.fromkeys((*experiment.measures, *experiment.compared))
    return [
        measured(EvalFolder(path=layout.folder(row.evaluation, seed)), list(names), layout.filled(row.select, seed))
        for seed in used
    ]


def _row(
    row: Row, experiment: Experiment, layout: Layout, tables: Sequence[Measured], seeds: Sequence[int]
) -> ResultRow:
    counts = [sum(each.table[i][j] for each in tables) for i in (0, 1) for j in (0, 1)]
    found: ResultRow = {
        "name": row.name,
        "seeds": list(seeds[: len(tables)]),
        "n": len(tables[0].problems),
        "attempts": sum(each.attempts for each in tables),
        "lost": sum(each.lost for each in tables),
        "measures": {name: _value(name, tables) for name in experiment.measures},
    }
    if "right_if_clean" in experiment.measures:
        test = association(((counts[0], counts[1]), (counts[2], counts[3])))
        found["tool_success"] = {
            "table": [counts[:2], counts[2:]],
            "chi2": test.chi_squared,
            "p": test.p_value,
            "phi": test.phi,
        }
    if experiment.is_family and (spent := _spent(row, layout, seeds)):
        found["spent"] = spent
    return found


def _spent(row: Row, layout: Layout, seeds: Sequence[int]) -> dict[str, list[int]]:
    """Rounds and sampled tokens of the run of RL whose model a row evaluates; empty where it evaluates another one."""
    folders = [layout.jobs([row], [seed])[-1].needs for seed in seeds]
    rounds = [
        list(Journal(need / "metrics.jsonl", is_ours=False))
        for needs in folders
        for need in needs
        if layout.stage(need.name).command == "rl"
    ]
    if len(rounds) < len(seeds):
        return {}
    return {
        "rounds": [len(each) for each in rounds],
        "sampled_tokens": [sum(record["sampled_tokens"] for record in each) for each in rounds],
    }


def _stacked(name: str, tables: Sequence[Measured]) -> tuple[Array, Array]:
    both = np.stack([each.parts[name] for each in tables])
    return both[..., 0], both[..., 1]


def _of_seeds(part_SP: Array, whole_SP: Array) -> Array:
    """The ratio in each seed; NaN where there is nothing to divide by."""
    with np.errstate(invalid="ignore"):
        shares: Array = part_SP.sum(axis=1) / whole_SP.sum(axis=1)
    return shares


def _value(name: str, tables: Sequence[Measured]) -> Value | None:
    part, whole = _stacked(name, tables)
    if not whole.sum():
        return None
    measure = MEASURES[name]
    highest = float(part.max()) if measure.highest is None else measure.highest
    found = crossed(share_residuals(part, whole), lowest=0.0, highest=highest, num_telling=_num_telling(whole))
    if measure.highest is not None and len(tables) == 1:  # of few seeds Student's factor is no small step there
        found = on_logit_scale(found)
    low, high = max(0.0, found.low), found.high if measure.highest is None else min(measure.highest, found.high)
    return {
        "mean": measure.scale * found.mean,
        "ci95": [measure.scale * low, measure.scale * high],
        "by_seed": [measure.scale * value for value in _of_seeds(part, whole).tolist()],
    }


def _num_telling(whole_SP: Array) -> int:
    """Problems that have something to divide by."""
    return int(whole_SP.any(axis=0).sum())


def _difference(experiment: Experiment, pair: Pair, name: str, found: Mapping[str, Sequence[Measured]]) -> Difference:
    both = [_stacked(name, found[each]) for each in (pair.ours, pair.theirs)]
    ours, theirs = (share_residuals(*table) for table in both)  # one that is the same in every seed stands beside each
    scale, reported = MEASURES[name].scale, _reported(experiment, pair, name)
    gap = crossed(ours - theirs, num_telling=min(_num_telling(whole) for _, whole in both))
    if MEASURES[name].highest is not None:  # two shares differ by no more than all
        gap = replace(gap, low=max(-1.0, gap.low), high=min(1.0, gap.high))
    by_seed = np.subtract(*(_of_seeds(*table) for table in both))
    return {
        "ours": pair.ours,
        "theirs": pair.theirs,
        "measure": name,
        "difference": scale * gap.mean,
        "ci95": [scale * gap.low, scale * gap.high],
        "p": gap.p,
        "p_corrected": None,
        "by_seed": [scale * value for value in by_seed.tolist()],
        "paper": reported,
        "agrees": _agreement(gap, reported.values()),
    }


def _reported(experiment: Experiment, pair: Pair, name: str) -> dict[str, float]:
    return {
        each.model: round(each.values[pair.ours] - each.values[pair.theirs], 6)
        for each in experiment.paper
        if each.measure == name and {pair.ours, pair.theirs} <= each.values.keys()
    }


def _agreement(gap: Crossed, reported: Iterable[float]) -> str:
    signs = {float(np.sign(value)) for value in reported if value}
    if not signs:
        return ""
    if gap.low <= 0 <= gap.high:
        return "not told apart"
    if len(signs) > 1:
        return "the paper's models differ"
    return "yes" if float(np.sign(gap.mean)) in signs else "no"


def _commits(jobs: Sequence[Job]) -> list[str]:
    paths = [job.folder / RUN for job in jobs]
    found = {json.loads(path.read_text(encoding="utf-8"))["commit"] for path in paths if path.is_file()}
    return sorted(each for each in found if each)


def read_result(path: Path) -> Result:
    """A result file. Raises UsageError for another file."""
    try:
        found: Result = json.loads(path.read_text(encoding="utf-8"))
        if found["schema"] == 1 and found["rows"]:
            return found
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no result of `thor reproduce`: {error}") from error
    raise UsageError(f"{path} is no result of `thor reproduce`")
