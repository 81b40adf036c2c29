"""One page that shows a run: results with intervals, learning curves, the data funnel, failures, and its trajectories.

The page stands alone: no request leaves it, which its Content-Security-Policy enforces, and only the two scripts that
belong to it may run. Text written by models, programs or problem sets is untrusted: tables are escaped by the template,
everything else travels as JSON in a data block and reaches the page as text nodes.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from thor_tir.eval.report.exhibits import Sample, json_block, sample
from thor_tir.eval.report.run_folder import Difference, RunFolder, read_run
from thor_tir.storage.journal import write_atomically

MAX_EXHIBIT_BYTES = 3_000_000
"""Bytes of trajectories on the page, escapes included, which keeps all of it below about 5 MB."""

_STYLE, _SCRIPTS = "report_style.html", ("report_charts.html", "report_browser.html")


def write_report(run: Path) -> Path:
    """Write `report.html` into the run folder, all or nothing, and return its path.

    Raises UsageError where the folder holds no results or a file in it is not what it should be.
    """
    folder = read_run(run)
    page = render_page(folder, sample(run / "trajectories.jsonl", max_bytes=MAX_EXHIBIT_BYTES))
    path = run / "report.html"
    write_atomically(path, page.encode("utf-8", "replace").decode("utf-8"))  # a lone surrogate cannot be written
    return path


def render_page(folder: RunFolder, shown: Sample) -> str:
    """The page as text: the template filled with the tables, the data block and the page's own style and scripts."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"percent": percent, "points": points, "number": number_text, "duration": duration}
    style, scripts = _fragment(_STYLE), [_fragment(name) for name in _SCRIPTS]
    data = {"rl": folder.rl, "sft": folder.sft, "exhibits": shown.rows}
    return environment.from_string(_source("report.html")).render(
        run=folder,
        shown=shown,
        families=sorted({family for result in folder.results for family in result.by_family}),
        classes=failure_table(folder.summary.failure_classes),
        reach=max(
            (abs(end) for d in folder.summary.paired for end in (d.difference.low, d.difference.high)), default=1
        ),
        settings=json.dumps({**folder.summary.config, "versions": folder.summary.versions}, indent=2, default=str),
        policy=content_policy(style, scripts),
        style=style,
        scripts=scripts,
        data=json_block(data),
    )


def content_policy(style: str, scripts: Iterable[str]) -> str:
    """A Content-Security-Policy that forbids every request and lets only these very elements take effect."""
    allowed = " ".join(_digest(script) for script in scripts)
    return f"default-src 'none'; base-uri 'none'; form-action 'none'; style-src {_digest(style)}; script-src {allowed}"


def failure_table(classes: Mapping[str, Mapping[str, int]]) -> list[tuple[str, list[int]]]:
    """Counts of each failure class at each moment, the most frequent class first."""
    totals: dict[str, int] = {}
    for counts in classes.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    order = sorted(totals, key=lambda name: (-totals[name], name))
    return [(name, [counts.get(name, 0) for counts in classes.values()]) for name in order]


def reach(paired: Iterable[Difference]) -> float:
    """Half the width of the axis that holds every interval of the paired differences, at least 1 percentage point."""
    return max((abs(end) for d in paired for end in (d.difference.low, d.difference.high)), default=0) or 0.01


def percent(share: float | None, digits: int = 1) -> str:
    """A share of 0..1 as a percentage."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def points(difference: float) -> str:
    """A difference of shares in percentage points, always with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def number_text(value: float | None, digits: int = 1) -> str:
    """A number with thousands separated; very small ones in scientific notation."""
    if value is None:
        return "–"
    if value and abs(value) < 10**-digits / 2:
        return f"{value:.1e}".replace("-", "−")
    return f"{value:,.{digits}f}"


def duration(seconds: float) -> str:
    """Wall-clock time in the two units that matter: `2 h 05 min`, `3 min 20 s`, `12.5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _digest(element: str) -> str:
    """The CSP hash of what stands between an element's tags, byte for byte."""
    match = re.fullmatch(r"<(style|script)>(.*)</\1>\s*", element, re.DOTALL)
    assert match is not None, "a fragment of the page is one style or one script element"
    return f"'sha256-{base64.b64encode(hashlib.sha256(match[2].encode()).digest()).decode()}'"


def _fragment(name: str) -> str:
    return _source(name).strip()


def _source(name: str) -> str:
    return resources.files("thor_tir.eval.report").joinpath(name).read_text(encoding="utf-8")
