"""One page that shows a run: results with intervals, learning curves, the data funnel, failures, and its trajectories.

The page stands alone: no request leaves it, which its Content-Security-Policy enforces, and only the two scripts that
belong to it may run. Text written by models, programs or problem sets is untrusted: tables are escaped by the template,
everything else travels as JSON in a data block and reaches the page as text nodes.
"""

import base64
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import NotRequired, TypedDict, TypeVar

from jinja2 import Environment, StrictUndefined

from thor_tir.eval.report.run_folder import Difference, RunFolder, mapping, number, parse, read_run
from thor_tir.storage.journal import write_atomically
from thor_tir.storage.trajectory_json import trajectory_from_json

MAX_EXHIBIT_BYTES = 3_000_000
"""Bytes of trajectories on the page, escapes included, which keeps all of it below about 5 MB."""

_STYLE, _SCRIPTS = "report_style.html", ("report_charts.html", "report_browser.html")


T = TypeVar("T")

MAX_EXHIBITS = 400
"""More than a person browses, few enough for a page that opens at once."""
MAX_CHARACTERS = 6000
"""Longest text that is shown whole; a flood of output says nothing new after that."""
MAX_SEGMENTS = 80
"""Most segments of one trajectory or repair."""


class PageSegment(TypedDict):
    """A segment as the page shows it."""

    author: str
    """Part of the interaction."""
    text: str
    """Its text, perhaps clipped."""
    call: NotRequired[int]
    """Number of the call, of an action or an observation."""
    status: NotRequired[str | None]
    """Status of that call."""


class PageRepair(TypedDict):
    """A repair as the page shows it."""

    call: float | None
    """Number of the call that it repairs."""
    reward: float | None
    """Reward that it earned."""
    status: str | None
    """Status of its call."""
    segments: list[PageSegment]
    """The new call, and what it printed."""


class PageExhibit(TypedDict):
    """A trajectory as the page shows it."""

    id: str
    """Id of the trajectory."""
    stage: str
    """Place in the run where it was sampled."""
    family: str
    """Source of the problem."""
    question: str
    """The question."""
    answer: str
    """The reference."""
    outcome: str
    """Outcome of the verdict."""
    extracted: str | None
    """Answer that was found."""
    segments: list[PageSegment]
    """Its text by author."""
    repairs: list[PageRepair]
    """Failed calls that were written again."""
    statuses: list[str]
    """Status of each call."""
    advantage: float | None
    """Advantage in training."""
    reward: float | None
    """Reward in training."""
    finish: str
    """Reason for which it ended."""
    tokens: int
    """Tokens that the model wrote."""
    calls: int
    """Calls that stand in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The chosen trajectories, with what was not chosen."""

    rows: tuple[PageExhibit, ...]
    """JSON values for the page, in the order of the file."""
    num_total: int
    """Readable trajectories in the file."""
    num_damaged: int
    """Lines that are no exhibit: the torn end of a killed run, or damage."""


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
        reach=reach(folder.summary.paired),
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


def sample(path: Path, *, max_bytes: int, max_exhibits: int = MAX_EXHIBITS) -> Sample:
    """At most `max_exhibits` trajectories of `path` that take at most `max_bytes` bytes of the page."""
    if not path.is_file():
        return Sample(rows=(), num_total=0, num_damaged=0)
    groups: dict[tuple[str, str], list[int]] = defaultdict(list)
    damaged = 0
    with path.open("rb") as file:
        while line := file.readline():
            try:
                row = exhibit_of(parse(line))
                groups[row["stage"], row["outcome"]].append(file.tell() - len(line))
            except ValueError:
                damaged += 1
        rows: dict[int, PageExhibit] = {}
        num_bytes = 0
        for offset in spread_over(groups.values()):
            file.seek(offset)
            row = exhibit_of(parse(file.readline()))
            num_bytes += len(json_block(row).encode("utf-8", "replace"))
            if num_bytes > max_bytes or len(rows) == max_exhibits:
                break
            rows[offset] = row
    total = sum(map(len, groups.values()))
    return Sample(rows=tuple(rows[offset] for offset in sorted(rows)), num_total=total, num_damaged=damaged)


def spread_over(groups: Iterable[Sequence[T]]) -> list[T]:
    """Members of all groups in an order whose every prefix is even over the groups and within each of them."""
    rounds = zip_longest(*(spread(group) for group in spread(list(groups))), fillvalue=None)
    return [member for each in rounds for member in each if member is not None]


def spread(members: Sequence[T]) -> list[T]:
    """Reorder so that every prefix is spread over the whole, first member first (van der Corput's sequence, base 2)."""
    if not members:
        return []
    bits = max(1, math.ceil(math.log2(len(members))))
    reversed_bits = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [members[i] for i in dict.fromkeys(r * len(members) >> bits for r in reversed_bits)]


def exhibit_of(row: object) -> PageExhibit:
    """The part that the page shows of one line of `trajectories.jsonl`. Raises ValueError where the line is damaged."""
    fields = mapping(row)
    trajectory = trajectory_from_json(fields.get("trajectory"))
    problem = mapping(fields.get("problem"))
    statuses = [step.observation.result.status.value for step in trajectory.calls if step.observation]
    return {
        "id": clipped_text(trajectory.id),
        "stage": clipped_text(fields.get("stage")) or "unnamed stage",
        "family": clipped_text(problem.get("source")),
        "question": clipped_text(problem.get("question")),
        "answer": clipped_text(problem.get("answer")),
        "outcome": clipped_text(fields.get("outcome")) or "unscored",
        "extracted": None if fields.get("extracted") is None else clipped_text(fields["extracted"]),
        "segments": _segments(fields.get("segments"), statuses),
        "repairs": [_repair(mapping(repair)) for repair in _list(fields.get("repairs"))[:MAX_SEGMENTS]],
        "statuses": statuses,
        "advantage": number(fields.get("advantage")),
        "reward": number(fields.get("reward")),
        "finish": trajectory.finish.value,
        "tokens": trajectory.num_model_tokens,
        "calls": len(trajectory.calls),
    }


def json_block(value: object) -> str:
    """JSON that is safe inside a `<script type="application/json">`: nothing in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def clipped_text(value: object) -> str:
    """A text as it is, or its beginning and how much was left out."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    lost = len(text) - MAX_CHARACTERS
    return text if lost <= 0 else f"{text[:MAX_CHARACTERS]}\n[{lost:,} more characters left out]"


def _segments(value: object, statuses: Sequence[str]) -> list[PageSegment]:
    """Segments with the call they belong to; the status of a call is the archived one, not what a line claims."""
    segments: list[PageSegment] = []
    call = -1
    for each in _list(value)[:MAX_SEGMENTS]:
        fields = mapping(each)
        author = clipped_text(fields.get("author"))
        call += author == "action"
        segment: PageSegment = {"author": author, "text": clipped_text(fields.get("text"))}
        if author in ("action", "observation"):
            segment["call"] = call
            segment["status"] = statuses[call] if 0 <= call < len(statuses) else None
        segments.append(segment)
    return segments


def _repair(fields: Mapping[str, object]) -> PageRepair:
    status = None if fields.get("status") is None else clipped_text(fields["status"])
    return {
        "call": number(fields.get("call")),
        "reward": number(fields.get("reward")),
        "status": status,
        "segments": _segments(fields.get("segments"), [] if status is None else [status]),
    }


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
