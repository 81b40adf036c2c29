"""A problem to be solved, and how problems are written to a file. `problems/` reads them, from many forms of files."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thor_tir.storage.journal import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One question with its reference answer."""

    id: str
    """Stable across runs and machines; never a position in a file."""
    question: str
    """Text of the question."""
    answer: str
    """Reference as its source wrote it; the grader, not the loader, decides what counts as equal."""
    source: str
    """Source of the problem, e.g. `reasoning_gym/gcd` or a file's stem. A scorer may be registered for it."""
    system: str = ""
    """Message that its source puts before the question; it follows the rules that a model is given. Empty for none."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Facts that the source's own scorer needs (JSON values only)."""


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write one JSON object a line, all or nothing."""
    write_atomically(path, "".join(json.dumps(asdict(p), ensure_ascii=False) + "\n" for p in problems))


def digest(text: str) -> str:
    """Twelve hexadecimal digits that stand for a text: the default id, and what splits are kept disjoint by."""
    from hashlib import sha256

    return sha256(" ".join(text.split()).encode()).hexdigest()[:12]
