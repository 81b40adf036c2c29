"""Figures of models and servers, as several processes counted them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from thor_tir.storage.journal import JsonObject

RATE = "prefix_hit_rate"
"""Share of the tokens of prompts that a server had in its cache: made of two counts, and never summed."""
COUNTED = ("spent", "events", "calls")
"""Counts of a client, which several clients, or calls of a command, have together."""


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
    for name in COUNTED:
        if counts := [part[name] for part in parts if name in part]:
            total = Counter[str]()
            for each in counts:
                total.update(each)
            record[name] = dict(total)
    if engines := [part["engines"] for part in parts if "engines" in part]:
        record["engines"] = united(engines)
    return record


def _rate(counts: Mapping[str, int]) -> float | None:
    return counts["cached_tokens"] / counts["prompt_tokens"] if counts["prompt_tokens"] else None
