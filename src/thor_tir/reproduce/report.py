"""A result as people read it: Markdown with the paper's numbers beside ours, and a figure."""

import os
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from thor_tir.eval.tables import pipe_table
from thor_tir.reproduce.measures import MEASURES
from thor_tir.reproduce.results import Difference, Result, ResultRow, Value
from thor_tir.storage.journal import told_when_full

TELLING_SEEDS = 5
"""Seeds of which an interval tells something."""


def markdown(result: Result, figure: str = "") -> str:
    """The whole page, with a figure of that name where there is one."""
    seeds = result["seeds"]
    missing = result["seeds_wanted"] - len(seeds)
    parts = [
        f"# {result['title']}: {result['subject']}",
        f"{counted(len(seeds), 'seed')}, {counted(result['rows'][0]['n'], 'held-out problem')}; in brackets 95 % "
        f"intervals{', in square ones each seed' if _are_few(seeds) else ''}."
        + (
            f" {counted(missing, 'seed')} of the {result['seeds_wanted']} that were asked for "
            f"{'is' if missing == 1 else 'are'} missing."
            if missing
            else ""
        ),
        *([f"![{MEASURES[next(iter(result['rows'][0]['measures']))].title}]({figure})"] if figure else []),
        pipe_table(*table(result)),
    ]
    if result["differences"]:
        parts += ["Differences, paired by seed and problem:", pipe_table(*differences(result))]
    if any("tool_success" in row for row in result["rows"]):
        parts += [
            "Attempts whose calls all succeeded, and attempts with a call that failed. Several attempts at a problem, "
            "and several seeds, make chi-squared larger than it is of independent ones; phi does not grow with their "
            "number:",
            pipe_table(*success(result)),
        ]
    if result["paper"]:
        parts += ["The paper's numbers:", pipe_table(*paper(result))]
    if result["notes"]:
        parts.append("\n".join(f"* {note}" for note in result["notes"]))
    parts += [
        f"Made by `{result['command']}` at {', '.join(result['commits']) or 'an installed package'}, "
        f"{result['machine']}{_precision(result)}. Intervals: {result['interval']}."
    ]
    return "\n\n".join(parts) + "\n"


def _precision(result: Result) -> str:
    """What the stages computed in; where they differ, the fewer ones by their names."""
    found = sorted(result.get("precisions", {}).items(), key=lambda each: len(each[1]))
    if len(found) < 2:
        return "".join(f", {name}" for name, _ in found)
    *fewer, (most, _) = found
    return f", {most}, but " + " and ".join(f"{name} in {'; '.join(stages)}" for name, stages in fewer)


def counted(number: int, noun: str) -> str:
    """`1 seed`, `1,200 seeds`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _are_few(seeds: Sequence[object]) -> bool:
    """True for several seeds of which an interval tells little: the value of each is shown beside it."""
    return 1 < len(seeds) < TELLING_SEEDS


def shown(value: Value | None) -> str:
    """`64.2 (60.1 to 68.3)`, with `[63.0, 65.4]` behind it where these are few seeds; a dash for nothing."""
    if value is None:
        return "-"
    low, high = value["ci95"]
    seeds = ", ".join(f"{each:.1f}" for each in value["by_seed"])
    each_seed = f" [{seeds}]" if _are_few(value["by_seed"]) else ""
    return f"{value['mean']:.1f} ({low:.1f} to {high:.1f}){each_seed}"


def gap(entry: Difference) -> str:
    """`+1.2 (-0.3 to +2.7)`."""
    low, high = entry["ci95"]
    return f"{entry['difference']:+.1f} ({low:+.1f} to {high:+.1f})"


def table(result: Result) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of the measures."""
    names = list(result["rows"][0]["measures"])
    has_spent = any("spent" in row for row in result["rows"])
    head = ("", "seeds", *(MEASURES[name].title for name in names), "lost", *(SPENT if has_spent else ()))
    return head, [
        (
            row["name"],
            str(len(row["seeds"])),
            *(shown(row["measures"][name]) for name in names),
            f"{row['lost']} of {row['attempts']}" if row["lost"] else "0",
            *(_spent(row) if has_spent else ()),
        )
        for row in result["rows"]
    ]


SPENT = ("rounds of RL", "tokens it sampled, thousands")
"""Heads of what runs of RL spent."""


def _spent(row: ResultRow) -> tuple[str, str]:
    """Means over seeds of rounds and of thousands of sampled tokens; dashes for a row without RL."""
    if (spent := row.get("spent")) is None:
        return "-", "-"
    return f"{fmean(spent['rounds']):.1f}", f"{fmean(spent['sampled_tokens']) / 1000:.0f}"


def differences(result: Result) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of the paired differences, with those of the paper."""
    is_family = any(each["p_corrected"] is not None for each in result["differences"])
    models = [model for each in result["differences"] for model in each["paper"]]
    models = list(dict.fromkeys(models))
    head = ["", "difference", "each seed", *(["p (Holm)"] if is_family else []), *models]
    head += ["sign as in the paper"] if models else []
    rows = []
    for each in result["differences"]:
        unit = "" if each["measure"] == "accuracy" else f", {MEASURES[each['measure']].title}"
        cells = [f"{each['ours']} - {each['theirs']}{unit}", gap(each)]
        cells.append(" ".join(f"{value:+.1f}" for value in each["by_seed"]))
        cells += [f"{each['p_corrected']:.3g}"] if each["p_corrected"] is not None else []
        cells += [f"{each['paper'][model]:+.1f}" if model in each["paper"] else "" for model in models]
        cells += [each["agrees"]] if models else []
        rows.append(cells)
    return head, rows


def success(result: Result) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of tool success against correctness."""
    head = ("", "all succeeded: right", "wrong", "one failed: right", "wrong", "chi-squared", "phi")
    rows = []
    for row in result["rows"]:
        if (found := row.get("tool_success")) is not None:
            counts = [f"{count:,}" for half in found["table"] for count in half]
            rows.append([row["name"], *counts, f"{found['chi2']:.0f}", f"{found['phi']:.2f}"])
    return head, rows


def paper(result: Result) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Head and rows of the paper's numbers."""
    names = list(dict.fromkeys(name for each in result["paper"] for name in each["values"]))
    rows = [
        [
            each["model"],
            MEASURES[each["measure"]].title,
            *(f"{each['values'][n]:g}" if n in each["values"] else "" for n in names),
        ]
        for each in result["paper"]
    ]
    return ("", "", *names), rows


Line = tuple[str, float, Sequence[float], Sequence[float]]
"""One line of a figure: its name, the mean, both ends of the interval, and the value of each seed."""


def draw(result: Result, path: Path) -> bool:
    """Draw the first measure of every row with its interval, seeds as bars; False where matplotlib is not installed.

    Variants that are one family of comparisons have their paired differences beside it, whose intervals are narrower.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    name = next(iter(result["rows"][0]["measures"]))
    title = MEASURES[name].title
    panels = [(title, [_line(row["name"], value) for row in result["rows"] if (value := row["measures"][name])])]
    compared = [each for each in result["differences"] if each["measure"] == name and each["p_corrected"] is not None]
    if compared:
        theirs = compared[0]["theirs"]
        lines = {each["ours"]: _gap_line(each) for each in compared if each["theirs"] == theirs}
        panels.append((f"{title}: difference from {theirs}", [lines[n] for n, *_ in panels[0][1] if n in lines]))
    figure = Figure(figsize=(7 * len(panels), 0.9 + 0.42 * len(panels[0][1])), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (label, lines_of) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _panel(axes, lines_of)
        if number:
            axes.axvline(0, color="#888888", linewidth=1)
        axes.set_xlabel(f"{label}; 95 % intervals{'; a bar is a seed' if len(result['seeds']) > 1 else ''}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.tmp.png")
    with told_when_full(path):
        figure.savefig(draft, dpi=130)
        draft.replace(path)
    return True


def _line(name: str, value: Value) -> Line:
    return name, value["mean"], value["ci95"], value["by_seed"]


def _gap_line(entry: Difference) -> Line:
    return entry["ours"], entry["difference"], entry["ci95"], entry["by_seed"]


def _panel(axes: Any, lines: Sequence[Line]) -> None:
    """Draw lines from the top downwards."""
    for place, (_, mean, ends, by_seed) in enumerate(lines):
        axes.plot(ends, [place, place], color="#335577", linewidth=2)
        axes.plot(mean, place, "o", color="#335577")
        if len(by_seed) > 1:
            axes.plot(by_seed, [place + 0.22] * len(by_seed), "|", color="#cc7722")
    axes.set_yticks(range(len(lines)), [name for name, *_ in lines])
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
