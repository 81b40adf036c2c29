"""The data set that TIRGen's filter writes: one JSON object a line, in segments with their tokens and executions.

A row is whole: the trajectory is built from it again token for token, so that what is trained is what was read and
written, with each token's author. It also says who made it (`provenance`), from which seed, and what was checked.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import JsonObject
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Author
from thor_tir.verdict import Outcome, Verdict

THOUGHT, CODE, OUTPUT = "thought", "code", "output"
"""Kinds of segments. The model is the author of the first two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoToolsCount:
    """Samples without tools of a question."""

    samples: int
    """Number of graded samples."""
    right: int
    """Number of right ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFacts:
    """Facts about a sample beside the attempt itself."""

    no_tools: NoToolsCount | None = None
    """Samples without tools of its question; None where none were drawn."""
    solved_share: float | None = None
    """Share of all graded attempts at its question that were right."""
    critic: Mapping[str, int] = field(default_factory=dict)
    """Fates of the steps that the critic saw, counted."""
    seed: int | None = None
    """Seed of the attempt."""
    provenance: str | None = None
    """Name of the record of the run that made it."""


def to_row(attempt: Attempt, facts: SampleFacts) -> JsonObject:
    """A sample as it stands in the file."""
    whole = trajectory_to_json(attempt.trajectory)
    segments = [segment for step in whole["steps"] for segment in _segments(step)]
    return {
        "id": attempt.trajectory.id,
        "problem": asdict(attempt.problem),
        "answer": attempt.verdict.extracted,
        "finish": whole["finish"],
        "policy_version": whole["policy_version"],
        "prompt_ids": whole["prompt"]["ids"],
        "segments": segments,
        "num_calls": len(attempt.trajectory.calls),
        "num_tokens": sum(len(segment["ids"]) for segment in segments),
        **asdict(facts),
    }


def from_row(row: Mapping[str, Any]) -> Attempt:
    """The sample of a row. Raises ValueError, KeyError or TypeError for a damaged one."""
    steps: list[JsonObject] = []
    for segment in row["segments"]:
        if segment["type"] == THOUGHT or not steps:
            steps.append({"thought": _model_part("text", ""), "action": None, "observation": None, "discarded": []})
        place, value = _part(segment)
        steps[-1][place] = value
    trajectory = {
        "id": row["id"],
        "problem_id": row["problem"]["id"],
        "finish": row["finish"],
        "policy_version": row["policy_version"],
        "prompt": {"author": Author.PROMPT.value, "ids": row["prompt_ids"], "logprobs": None},
        "steps": steps,
    }
    verdict = Verdict(outcome=Outcome.CORRECT, extracted=row["answer"], reason="chosen by the filter")
    return Attempt(problem=Problem(**row["problem"]), trajectory=trajectory_from_json(trajectory), verdict=verdict)


def rows_of(path: Path) -> Iterator[JsonObject]:
    """The rows of a data set, one after the other. Raises UsageError naming the first bad line."""
    for _, row in _numbered(path):
        yield row


def read_dataset(path: Path) -> list[Attempt]:
    """All samples of a data set. Raises UsageError naming the first bad line."""
    return list(attempts_of(path))


def attempts_of(path: Path) -> Iterator[Attempt]:
    """The samples of a data set, one after the other. Raises UsageError naming the first bad line."""
    for number, row in _numbered(path):
        try:
            yield from_row(row)
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}, line {number} is no TIRGen sample: {error}") from error


def is_tirgen_file(path: Path) -> bool:
    """True for a file whose first line is an object with segments, as every sample of TIRGen is."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"")
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "segments" in row


def _numbered(path: Path) -> Iterator[tuple[int, JsonObject]]:
    if not path.is_file():
        raise UsageError(f"no data set at {path}; `thor tirgen` writes one")
    with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                missing = [name for name in ("id", "problem", "segments") if name not in row]
            except (ValueError, TypeError, RecursionError) as error:
                raise UsageError(f"{path}, line {number} is no TIRGen sample: {error}") from error
            if missing:
                raise UsageError(f"{path}, line {number} is no TIRGen sample: {missing[0]} is missing")
            yield number, row


def _segments(step: Mapping[str, Any]) -> Sequence[JsonObject]:
    thought, action, seen = step["thought"], step["action"], step["observation"]
    found = [{"type": THOUGHT, "text": thought["text"], "ids": thought["ids"]}]
    if action is not None:
        result = seen["result"]
        digest = sha256(result["stdout"].encode("utf-8", "replace")).hexdigest()
        tool = {"tool": action["tool"]} if "tool" in action else {}
        found.append({"type": CODE, "text": action["code"], **tool, "ids": action["ids"]})
        found.append(
            {"type": OUTPUT, "text": seen["text"], "ids": seen["ids"], "execution": {**result, "stdout_sha256": digest}}
        )
    return found


def _part(segment: Mapping[str, Any]) -> tuple[str, JsonObject]:
    """The part of a step that a segment is, as the archive spells it."""
    kind, text, ids = segment["type"], segment["text"], segment["ids"]
    if kind == THOUGHT:
        return "thought", _model_part("text", text, ids)
    if kind == CODE:
        tool = {"tool": segment["tool"]} if "tool" in segment else {}
        return "action", {**_model_part("code", text, ids), **tool}
    if kind == OUTPUT:
        seen = {"text": text, "author": Author.ENVIRONMENT.value, "ids": ids, "logprobs": None}
        return "observation", {**seen, "result": segment["execution"]}
    raise ValueError(f"a segment is {THOUGHT}, {CODE} or {OUTPUT}, found {kind!r}")


def _model_part(name: str, text: str, ids: Sequence[int] = ()) -> JsonObject:
    return {name: text, "author": Author.MODEL.value, "ids": list(ids), "logprobs": None}
