"""The figures of a data-set card as PNG files. matplotlib comes with the extra `report`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.tirgen.publish.card_facts import CardFacts

INK, FAINT, MAIN, SECOND = "#1f2933", "#c9d1d9", "#2f6f8f", "#d98e4a"
MAX_BARS = 24
"""Of a figure; the rest is one bar, and the table has all of them."""


def draw_figures(facts: CardFacts, folder: Path) -> dict[str, str]:
    """Write the figures and return the caption of each file, in the order in which they are shown."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("figures need matplotlib: pip install 'thor-tir[report]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for name, caption, size, draw in _FIGURES:
        figure = Figure(figsize=(7.2, size(facts)), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        draw(axes, facts)
        draft = folder / f".{name}.png.tmp"
        figure.savefig(draft, format="png")
        draft.replace(folder / f"{name}.png")
        drawn[f"{name}.png"] = caption
    return drawn


def _calls(axes: Any, facts: CardFacts) -> None:
    """Shares, so that raw attempts and samples can stand side by side; numbers above the bars."""
    names = list(facts.raw_calls if "0" in facts.raw_calls else facts.calls)
    for shift, counts, colour, label in (
        (-0.2, facts.raw_calls, FAINT, f"raw attempts ({facts.num_raw:,})"),
        (0.2, facts.calls, MAIN, f"samples ({facts.num_samples:,})"),
    ):
        total = max(1, sum(counts.values()))
        heights = [100 * counts.get(name, 0) / total for name in names]
        bars = axes.bar([i + shift for i in range(len(names))], heights, 0.38, color=colour, label=label)
        axes.bar_label(bars, [f"{counts.get(name, 0):,}" for name in names], fontsize=8, color=INK, padding=2)
    axes.set_xticks(range(len(names)), names)
    axes.set_xlabel("calls")
    axes.set_ylabel("%")
    axes.margins(y=0.12)
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _lengths(axes: Any, facts: CardFacts) -> None:
    axes.hist(facts.tokens, bins=min(40, 8 + facts.num_samples // 20), color=MAIN)
    axes.margins(y=0.18)  # room for the label
    axes.yaxis.get_major_locator().set_params(integer=True)
    median = facts.quantile(0.5)
    axes.axvline(median, color=SECOND, linewidth=1.5)
    axes.annotate(f" median {median:,}", (median, 0.96), xycoords=("data", "axes fraction"), color=SECOND, fontsize=9)
    axes.set_xlabel("tokens of the response, outputs included")
    axes.set_ylabel("samples")


def _sources(axes: Any, facts: CardFacts) -> None:
    _bars(axes, _few(facts.sources), MAIN)
    axes.set_xlabel("samples")


def _funnel(axes: Any, facts: CardFacts) -> None:
    _bars(axes, {str(stage["name"]): int(stage["kept"]) for stage in facts.stages}, MAIN)
    axes.set_xlabel("attempts left after the stage")


def _fates(axes: Any, facts: CardFacts) -> None:
    _bars(axes, _few(facts.fates), SECOND)
    axes.set_xlabel("replies of the critic")


def _bars(axes: Any, counts: Mapping[str, int], colour: str) -> None:
    names = [name if len(name) <= 44 else f"{name[:43]}…" for name in counts]
    bars = axes.barh(range(len(names)), list(counts.values()), color=colour)
    axes.set_yticks(range(len(names)), [name.replace("$", r"\$") for name in names])
    axes.invert_yaxis()
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.bar_label(bars, [f"{number:,}" for number in counts.values()], fontsize=8, color=INK, padding=3)
    axes.margins(x=0.1)


def _few(counts: Mapping[str, int]) -> dict[str, int]:
    names = list(counts)
    shown = {name: counts[name] for name in names[:MAX_BARS]}
    rest = sum(counts[name] for name in names[MAX_BARS:])
    return {**shown, f"{len(names) - MAX_BARS} others": rest} if rest else shown


def _height(number: Callable[[CardFacts], int]) -> Callable[[CardFacts], float]:
    return lambda facts: 1.0 + 0.27 * min(number(facts), MAX_BARS + 1)


_FIGURES: Sequence[tuple[str, str, Callable[[CardFacts], float], Callable[[Any, CardFacts], None]]] = (
    ("calls", "Samples by number of calls, beside the raw attempts", lambda _: 3.2, _calls),
    ("lengths", "Lengths of the responses", lambda _: 3.0, _lengths),
    ("sources", "Sources of the questions", _height(lambda f: len(f.sources)), _sources),
    ("funnel", "What each stage of the filter left", _height(lambda f: len(f.stages)), _funnel),
    ("fates", "What became of the steps that the critic saw", _height(lambda f: len(f.fates)), _fates),
)
