"""Figures of models and servers, as several processes counted them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thor_tir.storage.journal import JsonObject

RATE = "prefix_hit_rate"
"""Share of the tokens of prompts that a server had in its cache: made of two counts, and never summed."""
COUNTED = ("spent", "events")
"""Counts of a client, which several clients have together."""


def united(parts: Sequence[Mapping[str, JsonObject]]) -> dict[str, JsonObject]:
    """The figures of each server, summed over the processes that asked it."""
    sums: dict[str, Counter[str]] = {}
    for part in parts:
        for name, figures in part.items():
            counts = {key: value for key, value in figures.items() if key != RATE}
            sums.setdefault(name, Counter(dict.fromkeys(counts, 0))).update(counts)
    return {name: {**found, RATE: _rate(found)} for name, found in sums.items()}


def united_record(parts: Sequence[Mapping[str, Any]]) -> JsonObject:
    """The record of a model that several processes asked: the first's, with the counts of all."""
    record = dict(parts[0])
    for name in set(COUNTED) & record.keys():
        record[name] = dict(sum((Counter(part[name]) for part in parts), Counter()))
    if "engines" in record:
        record["engines"] = united([part["engines"] for part in parts])
    return record


def _rate(counts: Mapping[str, int]) -> float | None:
    return counts["cached_tokens"] / counts["prompt_tokens"] if counts["prompt_tokens"] else None
