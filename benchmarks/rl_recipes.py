"""Gain of each level of RL: evaluations of several seeds under each recipe, with intervals over seeds and problems.

Reads folders that `thor eval --output EVALS/<recipe>-<seed>` wrote on the same problems, and `EVALS/<base>` of the
model that all of them began with. An interval resamples seeds and problems at once, since both could have been others;
the differences are paired, seed with seed and problem with problem. With five seeds the intervals are rough.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

RESAMPLES = 10_000
Array = np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Compare recipes over seeds."""

    evals: tyro.conf.Positional[Path]
    """Folder with one evaluation a folder."""
    base: str = "sft"
    """Folder of the model that all recipes began with."""
    recipes: tuple[str, ...] = ("episode", "joint", "step")
    """Beginnings of the names of the recipes' folders."""
    figure: Path | None = None
    """Where a picture goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One recipe: seeds S by problems P, each problem with all its samples."""

    correct_SP: Array
    """Share of right samples."""
    ran_SP: Array
    """Calls that ran."""
    calls_SP: Array
    """All calls."""


def measured(folders: Sequence[Path]) -> Measured:
    """The attempts of some folders, problems in one order. Raises ValueError where they differ in their problems."""
    tables = [dict(_problems(folder)) for folder in folders]
    problems = sorted(tables[0])
    if any(sorted(table) != problems for table in tables):
        raise ValueError(f"the evaluations {[f.name for f in folders]} are not of the same problems")
    values_SPV = np.array([[table[problem] for problem in problems] for table in tables])
    return Measured(correct_SP=values_SPV[..., 0], ran_SP=values_SPV[..., 1], calls_SP=values_SPV[..., 2])


def _problems(folder: Path) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Each problem with its share of right samples, calls that ran, calls."""
    rows = defaultdict(list)
    for line in next((folder / "attempts").glob("*.jsonl")).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "trajectory" in row and row["outcome"] != "unscored":
            results = [s["observation"]["result"] for s in row["trajectory"]["steps"] if s.get("observation")]
            results = [result for result in results if result["status"] != "not_run"]
            ran = sum(result["status"] in ("ok", "ok_no_output") for result in results)
            rows[row["problem_id"]].append((row["outcome"] == "correct", ran, len(results)))
    for problem, samples in rows.items():
        right, ran, calls = (float(sum(values)) for values in zip(*samples, strict=True))
        yield problem, (right / len(samples), ran, calls)


def resamples(seeds: int, problems: int) -> Iterator[tuple[Array, Array]]:
    """Seeds and problems drawn with replacement, the same draws at every call."""
    rng = np.random.default_rng(0)
    for _ in range(RESAMPLES):
        yield rng.integers(seeds, size=seeds), rng.integers(problems, size=problems)


def interval(values_SP: Array) -> tuple[float, float, float]:
    """Mean with its 95 % interval, seeds and problems resampled."""
    drawn = [values_SP[np.ix_(s, p)].mean() for s, p in resamples(*values_SP.shape)]
    return float(values_SP.mean()), *map(float, np.percentile(drawn, (2.5, 97.5)))


def share_interval(part_SP: Array, whole_SP: Array) -> tuple[float, float, float]:
    """The same of a share of sums."""
    drawn = [part_SP[np.ix_(s, p)].sum() / whole_SP[np.ix_(s, p)].sum() for s, p in resamples(*part_SP.shape)]
    return float(part_SP.sum() / whole_SP.sum()), *map(float, np.percentile(drawn, (2.5, 97.5)))


def draw(rows: dict[str, list[tuple[float, float, float]]], singles: dict[str, Array], path: Path) -> None:
    """Accuracy and call success of every recipe, seeds as dots."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
    for axis, column, title in zip(axes, (0, 1), ("accuracy, %", "calls that run, %"), strict=True):
        for place, (name, columns) in enumerate(rows.items()):
            mean, low, high = (100 * value for value in columns[column])
            axis.plot([low, high], [place, place], color="#335577", linewidth=2)
            axis.plot(mean, place, "o", color="#335577")
            dots = 100 * singles[name][column]
            axis.plot(dots, np.full(len(dots), place + 0.18), "|", color="#cc7722")
        axis.set_title(title, loc="left", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(range(len(rows)), list(rows))
    axes[0].invert_yaxis()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main(options: Options) -> None:
    """Print the tables and draw the picture."""
    found = {options.base: measured([options.evals / options.base])}
    for recipe in options.recipes:
        folders = sorted(f for f in options.evals.glob(f"{recipe}-*") if (f / "results.json").exists())
        found[recipe] = measured(folders)
    rows = {n: [interval(m.correct_SP), share_interval(m.ran_SP, m.calls_SP)] for n, m in found.items()}
    singles = {
        name: np.stack([m.correct_SP.mean(axis=1), m.ran_SP.sum(axis=1) / m.calls_SP.sum(axis=1)])
        for name, m in found.items()
    }
    table = Table("", "seeds", "accuracy, %", "calls that run, %", "accuracy of each seed, %")
    for name, columns in rows.items():
        told = [f"{100 * mean:.1f} ({100 * low:.1f} to {100 * high:.1f})" for mean, low, high in columns]
        each = " ".join(f"{100 * value:.1f}" for value in singles[name][0])
        table.add_row(name, str(len(found[name].correct_SP)), *told, each)
    Console().print(table)
    pairs = [(recipe, options.base) for recipe in options.recipes]
    pairs += [(a, b) for a, b in (("joint", "episode"), ("joint", "step")) if a in found and b in found]
    for ours, theirs in pairs:
        mean, low, high = interval(found[ours].correct_SP - found[theirs].correct_SP)
        print(f"{ours} - {theirs}: {100 * mean:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})")
    if options.figure is not None:
        draw(rows, singles, options.figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
