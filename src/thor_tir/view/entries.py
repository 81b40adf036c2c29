"""The facts about a stored trajectory that lists are made of, read from its line without its tokens.

The line may be of any journal: attempts, repairs of step-level training, raw trajectories and data sets of TIRGen,
transcripts. Token ids and log-probabilities are most of a line; they are replaced by their number before it is parsed.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite
from sys import intern
from typing import Any

from thor_tir.execution import ExecutionResult, Status
from thor_tir.rollout.sample_many import DROPPED
from thor_tir.storage.journal import JsonObject
from thor_tir.verdict import Outcome

_ROUND = re.compile(r"round(\d+)/")
_CALL = re.compile(r"(.+)/step(\d+)")


class RowKind(StrEnum):
    """Content of a line."""

    TRAJECTORY = "trajectory"
    """An attempt with its verdict."""
    REPAIR = "repair"
    """A failed call written again by step-level training."""
    COPY = "copy"
    """A trajectory that another file of a run holds too: a transcript, or a row of a data set."""
    METRICS = "metrics"
    """Numbers of one round or optimiser step."""
    UPDATE = "update"
    """Ids of the rows that an optimiser step was made of."""
    EARNED = "earned"
    """Rewards of the repairs of one failed call, by functions of the user's own."""
    SCORES = "scores"
    """Log-probabilities of the trainer."""
    PROBLEM = "problem"
    """A question."""
    LOST = "lost"
    """A unit that a fault of the machine ended."""
    OTHER = "other"
    """Anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One trajectory or repair in a list."""

    place: int
    """Place of its line in the file, in bytes."""
    length: int
    """Bytes of the line."""
    key: str
    """Id within the file."""
    kind: RowKind
    """Kind of the row."""
    problem_id: str
    """Id of the problem; of a repair, the failed call's."""
    family: str
    """Source of the problem where the row says it, else the beginning of its id."""
    outcome: str
    """Outcome of the verdict; of a repair `ran`, `failed` or `no call`."""
    reward: float | None
    """Reward of a trajectory in training; None where there is none, and for a repair."""
    answer: str | None
    """Answer that was found."""
    calls: int
    """Number of tool calls."""
    failures: tuple[str, ...]
    """Class of each failed call."""
    tokens: int
    """Tokens that the model wrote, discarded versions included."""
    discarded: int
    """Versions of steps that self-correction cut away."""
    finish: str
    """Way in which it ended."""
    round: int | None
    """Round of training, counted from 1."""
    parent: str
    """Key of the trajectory that a repair was cut from; empty for anything else."""
    call: int
    """Number of the failed step that a repair writes again, counted from 0."""
    seconds: float | None
    """Wall-clock seconds of the attempt, or of its programs where the row does not say."""
    start: str
    """Beginning of the first thought."""


def json_object(line: bytes) -> JsonObject | None:
    """The object of a line, with null for each number that is not finite or very large; None for anything else."""
    try:
        row = json.loads(line, parse_constant=lambda name: None, parse_float=_finite, parse_int=_small)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _finite(digits: str) -> float | None:
    return value if isfinite(value := float(digits)) else None


def _small(digits: str) -> int | None:
    return value if abs(value := int(digits)) < 2**63 else None


def kind_of(row: Mapping[str, Any]) -> RowKind:
    """Kind of a row, by the fields that it has."""
    if DROPPED in row and "key" in row and "step" not in row:
        return RowKind.LOST
    if "trajectory" in row:
        if "query" in row:
            return RowKind.REPAIR
        return RowKind.COPY if "segments" in row else RowKind.TRAJECTORY
    if "segments" in row and "problem" in row:
        return RowKind.COPY
    if isinstance(row.get("rows"), list):
        return RowKind.UPDATE
    if isinstance(row.get("earned"), dict):
        return RowKind.EARNED
    if _is_number(row.get("step")):
        return RowKind.METRICS
    if "question" in row and "id" in row:
        return RowKind.PROBLEM
    return RowKind.SCORES if "logprobs" in row and "key" in row else RowKind.OTHER


def entry_of(row: Mapping[str, Any], kind: RowKind, *, place: int, length: int) -> Entry | None:
    """The facts of a row without tokens; None where it is damaged."""
    try:
        return _entry(row, kind, place, length)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _entry(row: Mapping[str, Any], kind: RowKind, place: int, length: int) -> Entry:
    body = row["trajectory"] if "trajectory" in row else _of_segments(row)
    steps = body["steps"]
    key = str(row.get("key") or body["id"])
    ends = [_result(step["observation"]["result"]) for step in steps if step["observation"] is not None]
    results = [result for result in ends if result.status is not Status.NOT_RUN]
    failures = tuple(intern(result.failure_class) for result in results if not result.succeeds())
    problem = row.get("problem")
    problem_id = str(row.get("query") or body["problem_id"])
    parent, call = _call_of(str(row["query"])) if kind is RowKind.REPAIR else ("", 0)
    if kind is RowKind.REPAIR:
        outcome = "no call" if not results else "failed" if failures else "ran"
    else:
        outcome = str(row.get("outcome") or "correct")  # a data set holds right ones alone
    number = _ROUND.match(key)
    return Entry(
        place=place,
        length=length,
        key=key,
        kind=kind,
        problem_id=intern(problem_id),  # what many rows share stands in memory once
        family=intern(_family(problem, problem_id if kind is not RowKind.REPAIR else "")),
        outcome=intern(outcome),
        reward=_reward_of(row, outcome),
        answer=None if (answer := row.get("extracted", row.get("answer"))) is None else intern(str(answer)),
        calls=len(results),
        failures=failures,
        tokens=sum(map(_tokens_of, steps)),
        discarded=sum(len(step["discarded"]) for step in steps),
        finish=intern(str(body["finish"])),
        round=int(number[1]) if number else None,
        parent=intern(parent),
        call=call,
        seconds=row["seconds"] if _is_number(row.get("seconds")) else sum(r.seconds for r in results),
        start=intern(next((str(s["thought"]["text"])[:160] for s in steps), "")),
    )


def _result(found: Mapping[str, Any]) -> ExecutionResult:
    """The end of a program, as far as it says whether the call was a success."""
    error = found.get("error")
    return ExecutionResult(
        status=Status(found["status"]), stdout=found["stdout"], error=error, seconds=float(found["seconds"])
    )


def texts_of(row: Mapping[str, Any]) -> list[str]:
    """Everything of a row that a person reads, in its order; nothing of a damaged one."""
    try:
        return [text for text in _readable(row) if isinstance(text, str)]
    except (KeyError, TypeError, AttributeError, IndexError):
        return []


def _readable(row: Mapping[str, Any]) -> Iterator[str]:
    problem = row.get("problem")
    if isinstance(problem, Mapping):
        yield str(problem.get("question", ""))
    yield str(row.get("extracted") or "")
    yield from (str(each["text"]) for each in row.get("replaced") or ())
    body = row["trajectory"] if "trajectory" in row else _of_segments(row)
    yield from _texts(body["steps"])


def _texts(steps: list[Any]) -> Iterator[str]:
    for step in steps:
        yield from _texts(step["discarded"])
        yield step["thought"]["text"]
        if step["action"] is not None:
            yield step["action"]["code"]
            yield step["observation"]["text"]


def _of_segments(row: Mapping[str, Any]) -> JsonObject:
    """The trajectory of a data set's row, spelled as other journals do."""
    steps: list[JsonObject] = []
    for segment in row["segments"]:
        if segment["type"] == "thought" or not steps:
            steps.append({"thought": {"text": "", "ids": 0}, "action": None, "observation": None, "discarded": []})
        if segment["type"] == "thought":
            steps[-1]["thought"] = segment
        elif segment["type"] == "code":
            steps[-1]["action"] = {**segment, "code": segment["text"]}
        else:
            steps[-1]["observation"] = {**segment, "result": segment["execution"]}
    return {"id": row["id"], "problem_id": row["problem"]["id"], "finish": row["finish"], "steps": steps}


def _tokens_of(step: Mapping[str, Any]) -> int:
    own = step["thought"]["ids"] + (0 if step["action"] is None else step["action"]["ids"])
    return int(own) + sum(map(_tokens_of, step["discarded"]))


def _call_of(query: str) -> tuple[str, int]:
    """Trajectory and step that a repair's query names."""
    found = _CALL.fullmatch(query)
    return (found[1], int(found[2])) if found else (query, 0)


def _family(problem: object, problem_id: str) -> str:
    if isinstance(problem, Mapping) and problem.get("source"):
        return str(problem["source"]).rpartition("/")[2]
    return problem_id.rpartition("-")[0] or problem_id


def numbers_by_id(ids: Sequence[object], values: object) -> dict[str, float]:
    """Numbers under their ids; nothing of what is damaged."""
    pairs = zip(ids, values if isinstance(values, list) else [], strict=False)
    return {str(id): float(value) for id, value in pairs if _is_number(value)}


def parts_of(judged: object) -> dict[str, float]:
    """The single rewards by name of what a journal says of a sample that was judged; empty without any."""
    parts = judged.get("parts") if isinstance(judged, Mapping) else None
    return numbers_by_id(list(parts), list(parts.values())) if isinstance(parts, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _reward_of(row: Mapping[str, Any], outcome: str) -> float | None:
    """The total of a run with rewards of its own, else that of the answer (as `Attempt.reward` has it)."""
    if isinstance(judged := row.get("judged"), Mapping):
        return judged["total"] if _is_number(judged.get("total")) else None
    return {Outcome.CORRECT: 1.0, Outcome.WRONG: 0.0}.get(Outcome(outcome)) if outcome in set(Outcome) else None
