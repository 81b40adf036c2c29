"""Which trajectories of a run the report shows: a bounded, even sample over stages and outcomes.

The file may be far larger than memory, so it is read twice: once for where each line stands, once for the chosen lines.
"""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

from thor_tir.eval.report.run_folder import mapping, number, parse
from thor_tir.storage.trajectory_json import trajectory_from_json
from thor_tir.trajectory import Trajectory

T = TypeVar("T")

MAX_EXHIBITS = 400
"""More than a person browses, few enough for a page that opens at once."""
MAX_CHARACTERS = 6000
"""Of one text; a flood of output says nothing new after that."""
MAX_SEGMENTS = 80
"""Of one trajectory or repair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The chosen trajectories, with what was not chosen."""

    rows: tuple[dict[str, Any], ...]
    """JSON values for the page, in the order of the file."""
    num_total: int
    """Readable trajectories in the file."""
    num_damaged: int
    """Lines that are no exhibit: the torn end of a killed run, or damage."""


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
        rows: dict[int, dict[str, Any]] = {}
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


def exhibit_of(row: object) -> dict[str, Any]:
    """The part that the page shows of one line of `trajectories.jsonl`. Raises ValueError where the line is damaged."""
    fields = mapping(row)
    trajectory = trajectory_from_json(fields.get("trajectory"))
    problem = mapping(fields.get("problem"))
    statuses = [step.observation.result.status.value for step in trajectory.calls if step.observation]
    return {
        "id": clipped(trajectory.id),
        "stage": clipped(fields.get("stage")) or "unnamed stage",
        "family": clipped(problem.get("source")),
        "question": clipped(problem.get("question")),
        "answer": clipped(problem.get("answer")),
        "outcome": clipped(fields.get("outcome")) or "unscored",
        "extracted": None if fields.get("extracted") is None else clipped(fields["extracted"]),
        "segments": _segments(fields.get("segments"), statuses),
        "repairs": [_repair(mapping(repair)) for repair in _list(fields.get("repairs"))[:MAX_SEGMENTS]],
        "statuses": statuses,
        "advantage": number(fields.get("advantage")),
        "reward": number(fields.get("reward")),
        **_costs(trajectory),
    }


def json_block(value: Any) -> str:
    """JSON that is safe inside a `<script type="application/json">`: nothing in it can end the element or a line."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})


def clipped(value: object) -> str:
    """A text as it is, or its beginning and how much was left out."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    lost = len(text) - MAX_CHARACTERS
    return text if lost <= 0 else f"{text[:MAX_CHARACTERS]}\n[{lost:,} more characters left out]"


def _costs(trajectory: Trajectory) -> dict[str, Any]:
    return {"finish": trajectory.finish.value, "tokens": trajectory.num_model_tokens, "calls": len(trajectory.calls)}


def _segments(value: object, statuses: Sequence[str]) -> list[dict[str, Any]]:
    """Segments with the call they belong to; the status of a call is the archived one, not what a line claims."""
    segments: list[dict[str, Any]] = []
    call = -1
    for each in _list(value)[:MAX_SEGMENTS]:
        fields = mapping(each)
        author = clipped(fields.get("author"))
        call += author == "action"
        segment: dict[str, Any] = {"author": author, "text": clipped(fields.get("text"))}
        if author in ("action", "observation"):
            segment |= {"call": call, "status": statuses[call] if 0 <= call < len(statuses) else None}
        segments.append(segment)
    return segments


def _repair(fields: dict[str, Any]) -> dict[str, Any]:
    status = None if fields.get("status") is None else clipped(fields["status"])
    return {
        "call": number(fields.get("call")),
        "reward": number(fields.get("reward")),
        "status": status,
        "segments": _segments(fields.get("segments"), [] if status is None else [status]),
    }


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
