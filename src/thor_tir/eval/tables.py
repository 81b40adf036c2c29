"""Results of a benchmark run as people read them: Markdown, LaTeX, and a plot with intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thor_tir.eval.metrics import num_lost, remarks
from thor_tir.eval.results import Estimate, Losses, Results, SetResult
from thor_tir.storage.journal import told_when_full


def markdown(results: Results) -> str:
    """The whole of results.md."""
    title = f"# {results['model']}, {results['name']}: {_score_names(results)[0]}, seed {results['seed']}"
    notes = [f"- {note}" for entry in results["sets"] for note in entry["notes"]]
    parts = [
        title,
        "Percent, with 95 % intervals over problems. The last rows are unweighted means over sets.",
        pipe_table(("set", "n", "lost", *_score_names(results)), _score_rows(results)),
        *(sentence for entry in results["sets"] for sentence in remarks(entry)),
        "## Cost, per attempt" if results["select"] is None else "## Cost, per problem, of all its attempts",
        pipe_table(_COST_NAMES, _cost_rows(results)),
        "## How attempts ended" if results["select"] is None else "## How the chosen attempts ended",
        pipe_table(
            ("set", *_END_NAMES), [(e["title"], *(str(e["ends"][k]) for k in _END_NAMES)) for e in results["sets"]]
        ),
        *_judged(results),
        "## Tool success and correctness",
        pipe_table(_TOOL_NAMES, [_tool_row(entry) for entry in results["sets"]]),
        *_breakdowns(results),
        *(["## Notes on the sets", "\n".join(notes)] if notes else []),
    ]
    return "\n\n".join(parts) + "\n"


def _judged(results: Results) -> list[str]:
    counts = [f"{e['title']} {e['judged']}" for e in results["sets"] if e["judged"]]
    return [f"Verdicts that a language model gave, where the rules had none: {', '.join(counts)}."] if counts else []


def latex(results: Results) -> str:
    """The scores as a `booktabs` table; it needs `\\usepackage{booktabs}`."""
    names = _score_names(results)
    lines = [
        rf"% {_tex(str(results['model']))}, {results['name']}, seed {results['seed']}; 95 % intervals over problems",
        rf"\begin{{tabular}}{{l{'r' * (2 + len(names))}}}",
        r"\toprule",
        " & ".join(map(_tex, ("", "n", "lost", *names))) + r" \\",
        r"\midrule",
        *(" & ".join(map(_tex, row)) + r" \\" for row in _score_rows(results)),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def plot(results: Results, path: Path) -> bool:
    """Draw the score with its intervals, one line a set; False where matplotlib is not installed."""
    found = {e["title"]: e["avg"] for e in _with_averages(results) if e["avg"] is not None}
    label = f"{_score_names(results)[0]}, percent, with 95 % interval"
    return draw_intervals(found, label, path, limits=(0, 100))


def draw_intervals(
    found: Mapping[str, Estimate], label: str, path: Path, *, limits: tuple[float, float] | None = None
) -> bool:
    """Draw shares as percents with their intervals, one line each; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    means = [100 * e["value"] for e in found.values()]
    below = [m - 100 * e["ci95"][0] for m, e in zip(means, found.values(), strict=True)]
    above = [100 * e["ci95"][1] - m for m, e in zip(means, found.values(), strict=True)]
    figure = Figure(figsize=(6, 0.8 + 0.4 * len(found)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    places = range(len(found))
    axes.errorbar(means, places, xerr=[below, above], fmt="o", capsize=3, color="#1f4e79")
    axes.set_yticks(places, list(found))
    axes.invert_yaxis()
    if limits is not None:
        axes.set_xlim(*limits)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    draft = path.with_name(f".{path.stem}.tmp.png")
    with told_when_full(path):
        figure.savefig(draft, dpi=150)
        draft.replace(path)
    return True


def score(entry: Estimate | None) -> str:
    """`41.2 (37.9-44.6)`, in percent; a dash where nothing was scored."""
    if entry is None:
        return "-"
    low, high = entry["ci95"]
    return f"{100 * entry['value']:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def score_table(results: Results) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the scores, for a terminal: of every k the largest, which is what fits."""
    largest = dict(_sizes(results))
    shown = [place for place, (kind, k) in enumerate(_sizes(results)) if largest[kind] == k]
    head, rows = ("set", "n", "lost", *_score_names(results)), _score_rows(results)
    kept = (0, 1, 2, 3, *(4 + place for place in shown))
    return tuple(head[i] for i in kept), [tuple(row[i] for i in kept) for row in rows]


def lost_cell(lost: Losses) -> str:
    """`0`, or how many attempts of those asked for measure nothing."""
    num = num_lost(lost)
    return f"{num} of {lost['asked']}" if num else "0"


def run_table(runs: Sequence[Results]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of several evaluations of one set of problems, for a terminal."""
    head = ("", "accuracy", "95 % interval", "n", "lost", "calls ok", "calls", "tokens")
    return head, [_run_cells(run["name"], run["sets"][0]) for run in runs]


def _run_cells(name: str, entry: SetResult) -> tuple[str, ...]:
    accuracy, success = entry["avg"], entry["call_success"]
    return (
        name,
        "-" if accuracy is None else f"{100 * accuracy['value']:.1f} %",
        "-" if accuracy is None else f"{100 * accuracy['ci95'][0]:.1f} - {100 * accuracy['ci95'][1]:.1f}",
        str(entry["n_scored"]),
        lost_cell(entry["lost"]),
        "-" if success is None else f"{100 * success['value']:.1f} %",
        f"{entry['calls']:.2f}",
        f"{entry['tokens_kept'] + entry['tokens_discarded']:.0f}",
    )


_COST_NAMES = ("set", "code ratio %", "calls", "calls ok %", "tokens kept", "tokens discarded", "seconds")
_END_NAMES = ("correct", "wrong", "truncated", "no_room", "no_answer", "unscored", "dropped")
_TOOL_NAMES = ("set", "ran: right, wrong", "failed: right, wrong", "chi2", "p", "odds ratio", "stratified chi2", "p ")


def _with_averages(results: Results) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = [*results["sets"]]
    for average, title in (
        (results["average"], "average"),
        (results["six_set_average"], "six-set average"),
        (results["code_average"], "code average"),
    ):
        if average is not None and len(average["of"]) > 1:
            rows.append({**average, "title": title, "n": ""})
    return rows


def _score_names(results: Results) -> tuple[str, ...]:
    first = f"Avg@{results['samples']}"
    if results["select"] is not None:
        first = f"{results['select']} of {results['samples']}"
    return (first, *(f"{kind.removesuffix('_at')}@{k}" for kind, k in _sizes(results)))


def _sizes(results: Results) -> list[tuple[str, str]]:
    """`pass_at` and `maj_at` with each k above 1 that some set has; at 1 both are the Avg."""
    return [
        (kind, k)
        for kind in ("pass_at", "maj_at")
        for k in sorted({k for entry in results["sets"] for k in entry[kind]}, key=int)
        if k != "1"
    ]


def _score_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            entry["title"],
            str(entry["n"]),
            lost_cell(entry["lost"]) if "lost" in entry else "",
            score(entry["avg"]),
            *(score(entry[kind].get(k)) for kind, k in _sizes(results)),
        )
        for entry in _with_averages(results)
    ]


def _cost_rows(results: Results) -> list[tuple[str, ...]]:
    return [
        (
            e["title"],
            f"{100 * e['code_ratio']:.1f}",
            f"{e['calls']:.2f}",
            score(e["call_success"]),
            f"{e['tokens_kept']:.0f}",
            f"{e['tokens_discarded']:.0f}",
            f"{e['seconds']:.2f}",
        )
        for e in results["sets"]
    ]


def _tool_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    found = entry["tool_success"]
    ran, failed = found["table"]
    fair = found["stratified"]
    ratio = "-" if found["odds_ratio"] is None else f"{found['odds_ratio']:.2f}"
    return (
        entry["title"],
        f"{ran[0]}, {ran[1]}",
        f"{failed[0]}, {failed[1]}",
        f"{found['chi2']:.2f}",
        f"{found['p']:.2g}",
        ratio,
        f"{fair['chi2']:.2f}",
        f"{fair['p']:.2g}",
    )


def _breakdowns(results: Results) -> list[str]:
    parts = []
    for entry in results["sets"]:
        fields = {"subject": entry["by_subject"], "level": entry["by_level"], "source": entry["by_source"]}
        for title, values in fields.items():
            if len(values) > 1:
                rows = [(name, str(v["n"]), score(v)) for name, v in values.items()]
                parts += [f"## {entry['title']} by {title}", pipe_table((title, "n", "accuracy %"), rows)]
    return parts


def pipe_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


_TEX = {"&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_TEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
