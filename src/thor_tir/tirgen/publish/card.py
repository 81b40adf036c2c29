"""A data-set card: README.md as the Hugging Face hub shows it, the same as one HTML page, and the figures of both.

Questions, sources and samples are untrusted text: the page is escaped by its template, runs no script and requests
nothing; in Markdown they stand in cells that they cannot leave.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from thor_tir.errors import UsageError
from thor_tir.extras import need
from thor_tir.storage.journal import JsonObject, told_when_full, write_atomically
from thor_tir.tirgen.dataset import CODE, OUTPUT, THOUGHT, rows_of
from thor_tir.tirgen.publish.export import spelled
from thor_tir.tirgen.raw_rows import PROVENANCE, read_provenance
from thor_tir.tirgen.selection import MOST_CALLS

NUM_EXAMPLES = 3
MAX_EXAMPLE_CHARS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One sample to be read."""

    question: str
    """Text of the question."""
    answer: str
    """Reference answer."""
    text: str
    """As it stands in the context, fences and outputs included; a long one keeps its head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """All that stands in a card."""

    num_samples: int
    """Number of samples."""
    calls: Mapping[str, int]
    """Samples by number of calls: 1, 2, 3, 4+ (paper, figure 6)."""
    raw_calls: Mapping[str, int]
    """The same of raw attempts, those without a call included."""
    tokens: Sequence[int]
    """Length of each response in tokens, outputs included."""
    parts: Mapping[str, int]
    """Tokens of all samples by kind of segment."""
    sources: Mapping[str, int]
    """Number of samples by source of the problem."""
    strata: Mapping[tuple[str, int], int]
    """Samples by number of calls and quarter of difficulty, 0 the hardest."""
    stages: Sequence[Mapping[str, Any]]
    """As in funnel.json: name, kept, rejected."""
    fates: Mapping[str, int]
    """Number of steps that the critic saw, by their fate."""
    provenance: Mapping[str, Any]
    """Records of the runs that made the samples, by name."""
    filter: Mapping[str, Any]
    """Options of the filter."""
    examples: Sequence[Example]
    """Samples to be read."""

    @property
    def num_raw(self) -> int:
        """Graded attempts before the filter."""
        return sum(self.raw_calls.values())

    @property
    def raw_code_ratio(self) -> float:
        """Share of raw attempts with a call."""
        return 1 - self.raw_calls.get("0", 0) / self.num_raw if self.num_raw else 0.0

    def quantile(self, share: float) -> int:
        """Tokens that so many of the responses do not exceed."""
        return sorted(self.tokens)[min(int(share * len(self.tokens)), len(self.tokens) - 1)]


def card_facts(folder: Path) -> CardFacts:
    """Count. Raises UsageError where the folder holds no filtered data set."""
    funnel = _funnel(folder / "funnel.json")
    calls: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    strata: Counter[tuple[str, int]] = Counter()
    tokens: list[int] = []
    examples: list[Example] = []
    for row in rows_of(folder / "dataset.jsonl"):
        bucket = calls_bucket(row["num_calls"])
        calls[bucket] += 1
        sources[str(row["problem"]["source"])] += 1
        strata[bucket, min(int(4 * float(row.get("solved_share") or 0)), 3)] += 1
        tokens.append(int(row["num_tokens"]))
        for segment in row["segments"]:
            parts[segment["type"]] += len(segment["ids"])
        if len(examples) < NUM_EXAMPLES:
            examples.append(_example(row))
    if not tokens:
        raise UsageError(f"{folder / 'dataset.jsonl'} holds no samples; funnel.json tells which stage dropped them")
    return CardFacts(
        num_samples=len(tokens),
        calls=_by_calls(calls),
        raw_calls=_by_calls(Counter(_rebucketed(funnel.get("raw_calls", {})))),
        tokens=tokens,
        parts={kind: parts[kind] for kind in (THOUGHT, CODE, OUTPUT)},
        sources=dict(sorted(sources.items(), key=lambda item: (-item[1], item[0]))),
        strata=dict(sorted(strata.items())),
        stages=funnel["stages"],
        fates=dict(sorted(funnel.get("critic", {}).items(), key=lambda item: (-item[1], item[0]))),
        provenance=read_provenance([folder / PROVENANCE]),
        filter=funnel.get("config", {}),
        examples=examples,
    )


def calls_bucket(calls: int) -> str:
    """Its column in the paper's figure 6."""
    return str(calls) if calls < MOST_CALLS else f"{MOST_CALLS}+"


def _rebucketed(counts: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for calls, number in counts.items():
        found[calls_bucket(int(calls))] += number
    return found


def _by_calls(counts: Counter[str]) -> dict[str, int]:
    columns = [str(n) for n in range(1, MOST_CALLS)] + [f"{MOST_CALLS}+"]
    return {name: counts[name] for name in (["0", *columns] if counts["0"] else columns)}


def _funnel(path: Path) -> JsonObject:
    if not path.is_file():
        raise UsageError(f"no funnel.json at {path.parent}; `thor tirgen filter` writes it beside the data set")
    try:
        funnel = json.loads(path.read_text(encoding="utf-8"))
        stages = [
            {"name": str(stage["name"]), "kept": int(stage["kept"]), "rejected": dict(stage["rejected"])}
            for stage in funnel["stages"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no account of TIRGen's filter: {error}") from error
    return {**funnel, "stages": stages}


def _example(row: Mapping[str, Any]) -> Example:
    text = "".join(spelled(segment) for segment in row["segments"])
    cut = text if len(text) <= MAX_EXAMPLE_CHARS else f"{text[:MAX_EXAMPLE_CHARS]}\n[...]"
    return Example(question=row["problem"]["question"], answer=row["problem"]["answer"], text=cut)


INK, FAINT, MAIN, SECOND = "#1f2933", "#c9d1d9", "#2f6f8f", "#d98e4a"
MAX_BARS = 24
"""Bars of a figure; the rest is one bar, and the table has all of them."""


def draw_figures(facts: CardFacts, folder: Path) -> dict[str, str]:
    """Write the figures and return the caption of each file, in the order in which they are shown."""
    need("matplotlib", "a card with figures")
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, str] = {}
    for name, caption, size, draw in _FIGURES:
        figure = Figure(figsize=(7.2, size(facts)), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK, labelsize=9)
        draw(axes, facts)
        draft = folder / f".{name}.png.tmp"
        with told_when_full(folder):
            figure.savefig(draft, format="png")
            draft.replace(folder / f"{name}.png")
        drawn[f"{name}.png"] = caption
    return drawn


def _draw_calls(axes: Any, facts: CardFacts) -> None:
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


def _draw_lengths(axes: Any, facts: CardFacts) -> None:
    axes.hist(facts.tokens, bins=min(40, 8 + facts.num_samples // 20), color=MAIN)
    axes.margins(y=0.18)  # room for the label
    axes.yaxis.get_major_locator().set_params(integer=True)
    median = facts.quantile(0.5)
    axes.axvline(median, color=SECOND, linewidth=1.5)
    axes.annotate(f" median {median:,}", (median, 0.96), xycoords=("data", "axes fraction"), color=SECOND, fontsize=9)
    axes.set_xlabel("tokens of the response, outputs included")
    axes.set_ylabel("samples")


def _draw_sources(axes: Any, facts: CardFacts) -> None:
    _draw_bars(axes, _few(facts.sources), MAIN)
    axes.set_xlabel("samples")


def _draw_funnel(axes: Any, facts: CardFacts) -> None:
    _draw_bars(axes, {str(stage["name"]): int(stage["kept"]) for stage in facts.stages}, MAIN)
    axes.set_xlabel("attempts left after the stage")


def _draw_fates(axes: Any, facts: CardFacts) -> None:
    _draw_bars(axes, _few(facts.fates), SECOND)
    axes.set_xlabel("replies of the critic")


def _draw_bars(axes: Any, counts: Mapping[str, int], colour: str) -> None:
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
    ("calls", "Samples by number of calls, beside the raw attempts", lambda _: 3.2, _draw_calls),
    ("lengths", "Lengths of the responses", lambda _: 3.0, _draw_lengths),
    ("sources", "Sources of the questions", _height(lambda f: len(f.sources)), _draw_sources),
    ("funnel", "What each stage of the filter left", _height(lambda f: len(f.stages)), _draw_funnel),
    ("fates", "What became of the steps that the critic saw", _height(lambda f: len(f.fates)), _draw_fates),
)


SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(folder: Path, output: Path, *, title: str, licence: str = "") -> Path:
    """Write README.md, card.html and figures/ about the data set in `folder`; returns the page.

    Raises UsageError where there is no filtered data set, or no matplotlib.
    """
    facts = card_facts(folder)
    captions = draw_figures(facts, output / "figures")
    content = {"title": title, "licence": licence, "facts": facts, "captions": captions, **_derived(facts)}
    images = {name: base64.b64encode((output / "figures" / name).read_bytes()).decode() for name in captions}
    write_atomically(output / "README.md", _render("card.md", content, is_page=False))
    page = output / "card.html"
    write_atomically(page, _render("card.html", {**content, "images": images}, is_page=True))
    return page


def _derived(facts: CardFacts) -> JsonObject:
    before = [facts.stages[0]["kept"], *(stage["kept"] for stage in facts.stages)]
    total = max(1, sum(facts.parts.values()))
    return {
        "size": next((name for limit, name in SIZES if facts.num_samples < limit), "n>1M"),
        "code_ratio": 1 - facts.calls.get("0", 0) / facts.num_samples,
        "parts": [f"{_percent(number / total)} {kind}" for kind, number in facts.parts.items()],
        "stages": [
            {
                "name": stage["name"],
                "kept": stage["kept"],
                "share": _percent(stage["kept"] / was) if was else "–",
                "reasons": ", ".join(f"{reason} {number:,}" for reason, number in stage["rejected"].items()),
            }
            for was, stage in zip(before, facts.stages, strict=False)
        ],
    }


def _render(name: str, content: Mapping[str, Any], *, is_page: bool) -> str:
    environment = Environment(
        autoescape=is_page, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"thousands": "{:,}".format, "percent": _percent, "cell": _cell, "pretty": _pretty}
    source = resources.files("thor_tir.tirgen.publish").joinpath(name).read_text(encoding="utf-8")
    text = environment.from_string(source).render(content)
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cell(text: str) -> str:
    """Text within a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
