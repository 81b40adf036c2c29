"""A data-set card: README.md as the Hugging Face hub shows it, the same as one HTML page, and the figures of both.

Questions, sources and samples are untrusted text: the page is escaped by its template, runs no script and requests
nothing; in Markdown they stand in cells that they cannot leave.
"""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from thor_tir.storage.journal import write_atomically
from thor_tir.tirgen.publish.card_facts import CardFacts, card_facts
from thor_tir.tirgen.publish.card_figures import draw_figures

SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def write_card(folder: Path, output: Path, *, title: str, licence: str = "") -> Path:
    """Write README.md, card.html and figures/ about the data set in `folder`; returns the page.

    Raises UsageError where there is no filtered data set, or no matplotlib.
    """
    facts = card_facts(folder)
    captions = draw_figures(facts, output / "figures")
    told = {"title": title, "licence": licence, "facts": facts, "captions": captions, **_derived(facts)}
    images = {name: base64.b64encode((output / "figures" / name).read_bytes()).decode() for name in captions}
    write_atomically(output / "README.md", _render("card.md", {**told}, is_page=False))
    page = output / "card.html"
    write_atomically(page, _render("card.html", {**told, "images": images}, is_page=True))
    return page


def _derived(facts: CardFacts) -> dict[str, Any]:
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


def _render(name: str, told: Mapping[str, Any], *, is_page: bool) -> str:
    environment = Environment(
        autoescape=is_page, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters |= {"thousands": "{:,}".format, "percent": _percent, "cell": _cell, "pretty": _pretty}
    source = resources.files("thor_tir.tirgen.publish").joinpath(name).read_text(encoding="utf-8")
    text = environment.from_string(source).render(told)
    return text.encode("utf-8", "replace").decode("utf-8")  # a lone surrogate cannot be written


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _cell(text: str) -> str:
    """Text within a cell of a Markdown table."""
    return " ".join(str(text).split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str)
