"""What a data-set card tells, counted from the files of a filtered data set in one reading.

The tables and figures are those of the paper's section D.1 and figure 6: samples by number of calls, lengths, sources,
what each stage of the filter left, how much of it is code, and what became of the steps that the critic saw.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.tirgen.dataset import CODE, OUTPUT, THOUGHT, rows_of
from thor_tir.tirgen.provenance import read_provenance
from thor_tir.tirgen.publish.export import spelled
from thor_tir.tirgen.raw_rows import PROVENANCE
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


def _funnel(path: Path) -> dict[str, Any]:
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
