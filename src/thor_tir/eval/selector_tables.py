"""The comparison of selectors as people read it: tables, a figure, and sentences about what could not be used."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from thor_tir.eval.compare import points
from thor_tir.eval.results import Estimate, Results, SelectorResult, SetResult
from thor_tir.eval.tables import pipe_table, score
from thor_tir.storage.journal import told_when_full

Table = tuple[tuple[str, ...], list[tuple[str, ...]]]
HEAD = ("selector", "accuracy %", "- pass-rate", "- one attempt", "calls", "tokens read", "written", "seconds")


def selector_table(entry: SetResult) -> Table:
    """Head and rows of one set's selectors; costs are what was asked beyond the attempts, per problem."""
    return HEAD, [_row(name, found) for name, found in entry.get("selectors", {}).items()]


def growth_table(entry: SetResult) -> Table:
    """Head and rows of accuracy by the number of candidates."""
    grown = {name: found["by_n"] for name, found in entry.get("selectors", {}).items() if found["by_n"]}
    sizes = sorted({int(k) for by_n in grown.values() for k in by_n})
    rows = [(name, *(_percent(by_n.get(str(k))) for k in sizes)) for name, by_n in grown.items()]
    return ("accuracy % of N =", *map(str, sizes)), rows


def selector_markdown(results: Results) -> str:
    """The comparison as it stands at the end of results.md; empty where nothing was compared."""
    parts = []
    for entry in results["sets"]:
        if entry.get("selectors"):
            parts += [f"## Selectors on {entry['title']}", pipe_table(*selector_table(entry))]
            parts += ["Accuracy by the number of candidates, over all subsets:", pipe_table(*growth_table(entry))]
    return "\n".join(f"\n{part}\n" for part in [*parts, *selector_remarks(results)]) if parts else ""


def selector_remarks(results: Results) -> Iterator[str]:
    """Sentences on answers of models that could not be used, and on bounds."""
    for entry in results["sets"]:
        for name, found in entry.get("selectors", {}).items():
            asked = found["asked"]
            if asked is not None and (asked["fallbacks"] or asked["lost"]):
                lost = f", and {asked['lost']} problems were lost to faults of the machine" if asked["lost"] else ""
                yield (
                    f"{entry['title']}, {name}: {asked['fallbacks']} of {asked['requests']} requests "
                    f"gave nothing usable{lost}; a rule decided there"
                )
        if bounds := [name for name, found in entry.get("selectors", {}).items() if found["is_bound"]]:
            yield f"{entry['title']}: {', '.join(bounds)} knows the references, so it is an upper bound and no selector"


def plot_growth(results: Results, path: Path) -> bool:
    """Draw accuracy by the number of candidates, a panel for each set; False where matplotlib is not installed."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    entries = [entry for entry in results["sets"] if entry.get("selectors")]
    figure = Figure(figsize=(3.5 + 5.0 * len(entries), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    for number, entry in enumerate(entries, 1):
        axes = figure.add_subplot(1, len(entries), number)
        for place, (name, found) in enumerate(entry["selectors"].items()):
            points = [(int(k), 100 * e["value"]) for k, e in found["by_n"].items() if e is not None]
            if not points:
                continue
            axes.plot(
                *zip(*points, strict=True),
                "--" if found["is_bound"] else "-",
                marker="osv^D<>pXhd*"[place % 12],
                color=f"C{place % 10}",
                alpha=0.55 if place >= 10 else 0.9,
                markersize=4,
                linewidth=1.2,
                label=name,
            )
        axes.set_title(entry["title"], fontsize=10)
        axes.set_xlabel("candidates")
        axes.set_ylabel("accuracy, percent")
        axes.grid(alpha=0.3)
        if number == len(entries):
            axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    draft = path.with_name(f".{path.stem}.tmp.png")
    with told_when_full(path):
        figure.savefig(draft, dpi=150)
        draft.replace(path)
    return True


def _row(name: str, found: SelectorResult) -> tuple[str, ...]:
    asked = found["asked"]
    cost: Sequence[str] = ("", "", "", "")
    if asked is not None:
        cost = (
            f"{asked['calls']:.1f}",
            f"{asked['read_tokens']:.0f}",
            f"{asked['tokens']:.0f}",
            f"{asked['seconds']:.2f}",
        )
    gaps = ("" if gap is None else points(gap) for gap in (found["against_pass_rate"], found["against_one"]))
    title = f"{name} (upper bound)" if found["is_bound"] else name
    return (title, score(found["accuracy"]), *gaps, *cost)


def _percent(entry: Estimate | None) -> str:
    return "-" if entry is None else f"{100 * entry['value']:.1f}"
