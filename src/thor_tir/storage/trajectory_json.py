"""Trajectories as JSON values and back, exactly: every token id, log-probability, result and discarded step.

Floats keep their shortest exact representation, so what is read equals what was written bit for bit. Rows may come from
anywhere: a damaged one raises a ValueError that names the field, e.g. `trajectory.steps[2].action.ids[7]`.
Writing the values to a file, one a line, is the caller's business.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import groupby
from typing import TypeVar

from thor_tir.execution import ExecutionResult, Status
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON, Action, Author, Finish, Observation, Span, Step, Thought, Trajectory

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

MAX_NESTING = 16
"""Depth to which discarded steps may hold discarded steps; self-correction nests them once."""


_TOKENS = re.compile(rb'"((?:prompt_)?ids|logprobs)":\s*\[([^\[\]"]*)\]')
"""An array of numbers under one of these keys; within a string the quotes would be escaped, so nothing else matches."""


class TokenCount(int):
    """The number of token ids that were not read."""


def without_tokens(line: bytes) -> bytes:
    """The line with every array of token ids or log-probabilities replaced by its length."""
    return _TOKENS.sub(lambda found: b'"%s": %d' % (found[1], found[2].count(b",") + bool(found[2].strip())), line)


def counted_row(line: bytes) -> JsonObject:
    """The row of a line whose trajectory knows how many tokens each span has, and not which: all ids are 0.

    For figures over many attempts: tokens and log-probabilities take most of the memory of a row, and of the time.
    """
    row: JsonObject = json.loads(without_tokens(line), object_hook=_counted)
    return row


def _counted(fields: JsonObject) -> JsonObject:
    if isinstance(fields.get("ids"), int):
        fields |= {"ids": TokenCount(fields["ids"]), "logprobs": None}
    return fields


@lru_cache(maxsize=4096)
def _unread(number: int) -> tuple[int, ...]:
    return (0,) * number


def trajectory_to_json(trajectory: Trajectory) -> JsonObject:
    """A trajectory as JSON values. Raises ValueError for a number that JSON cannot hold (NaN or infinite)."""
    return {
        "id": trajectory.id,
        "problem_id": trajectory.problem_id,
        "finish": trajectory.finish.value,
        "policy_version": trajectory.policy_version,
        "prompt": _span_to_json(trajectory.prompt),
        "steps": [_step_to_json(step) for step in trajectory.steps],
    }


def trajectory_from_json(row: object) -> Trajectory:
    """The trajectory that `trajectory_to_json` wrote; fields it does not know are left alone.

    Raises ValueError naming the first field that is missing or of the wrong type.
    """
    where = "trajectory"
    fields = _object(row, where)
    return Trajectory(
        id=_text(fields, "id", where),
        problem_id=_text(fields, "problem_id", where),
        prompt=_span(_field(fields, "prompt", where), f"{where}.prompt"),
        steps=_each(fields, "steps", where, _step),
        finish=_choice(Finish, fields, "finish", where),
        policy_version=_integer(fields, "policy_version", where),
    )


# ---- writing


def _span_to_json(span: Span) -> JsonObject:
    if span.logprobs is not None:
        for index, logprob in enumerate(span.logprobs):
            _finite(logprob, f"logprobs[{index}]")
    return {
        "author": span.author.value,
        "ids": list(span.token_ids),
        "logprobs": None if span.logprobs is None else list(span.logprobs),
        **({} if span.versions is None else {"versions": [[v, len(list(run))] for v, run in groupby(span.versions)]}),
    }


def _step_to_json(step: Step) -> JsonObject:
    action, observation = step.action, step.observation
    return {
        "thought": {"text": step.thought.text, **_span_to_json(step.thought.span)},
        "action": None if action is None else _action_to_json(action),
        "observation": None if observation is None else _observation_to_json(observation),
        "discarded": [_step_to_json(old) for old in step.discarded],
    }


def _action_to_json(action: Action) -> JsonObject:
    tool = {} if action.tool == PYTHON else {"tool": action.tool}
    return {"code": action.code, **tool, **_span_to_json(action.span)}


def _observation_to_json(observation: Observation) -> JsonObject:
    result = observation.result
    return {
        "text": observation.text,
        **_span_to_json(observation.span),
        "result": {
            "status": result.status.value,
            "stdout": result.stdout,
            "stderr": result.stderr,
            "error": result.error,
            "exit_code": result.exit_code,
            "seconds": _finite(result.seconds, "seconds"),
            "level": result.level,
        },
    }


# ---- reading the nouns


def _span(value: object, where: str) -> Span:
    fields = _object(value, where)
    if isinstance(count := fields.get("ids"), TokenCount):
        return Span(token_ids=_unread(count), author=_choice(Author, fields, "author", where))
    ids = _each(fields, "ids", where, _token_id)
    known = _field(fields, "logprobs", where) is not None
    logprobs = _each(fields, "logprobs", where, _finite) if known else None
    author = _choice(Author, fields, "author", where)
    try:
        return Span(token_ids=ids, author=author, logprobs=logprobs, versions=_versions(fields, len(ids), where))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _versions(fields: Mapping[str, object], num_tokens: int, where: str) -> tuple[int, ...] | None:
    """Version of each token, written as runs of a version and its number of tokens."""
    if "versions" not in fields:
        return None
    runs = _each(fields, "versions", where, lambda run, place: _each({"run": run}, "run", place, _token_id))
    if any(len(run) != 2 for run in runs) or sum(count for _, count in runs) != num_tokens:
        raise ValueError(f"{where}.versions: expected pairs of a version and a number of tokens, {num_tokens} in all")
    return tuple(version for version, count in runs for _ in range(count))


def _step(value: object, where: str) -> Step:
    if where.count(".discarded[") > MAX_NESTING:
        raise ValueError(f"{where[:80]}...: discarded steps are nested more than {MAX_NESTING} deep")
    fields = _object(value, where)
    thought = _object(_field(fields, "thought", where), f"{where}.thought")
    action, observation = _field(fields, "action", where), _field(fields, "observation", where)
    if (action is None) != (observation is None):
        raise ValueError(f"{where}: `action` and `observation` must both be there or both be null")
    return Step(
        thought=Thought(text=_text(thought, "text", f"{where}.thought"), span=_span(thought, f"{where}.thought")),
        action=None if action is None else _action(action, f"{where}.action"),
        observation=None if observation is None else _observation(observation, f"{where}.observation"),
        discarded=_each(fields, "discarded", where, _step),
    )


def _action(value: object, where: str) -> Action:
    fields = _object(value, where)
    tool = _text(fields, "tool", where) if "tool" in fields else PYTHON
    return Action(code=_text(fields, "code", where), tool=tool, span=_span(value, where))


def _observation(value: object, where: str) -> Observation:
    fields = _object(value, where)
    result = _result(_field(fields, "result", where), f"{where}.result")
    return Observation(text=_text(fields, "text", where), span=_span(value, where), result=result)


def _result(value: object, where: str) -> ExecutionResult:
    fields = _object(value, where)
    return ExecutionResult(
        status=_choice(Status, fields, "status", where),
        stdout=_text(fields, "stdout", where),
        stderr=_text(fields, "stderr", where),
        error=None if _field(fields, "error", where) is None else _text(fields, "error", where),
        exit_code=None if _field(fields, "exit_code", where) is None else _integer(fields, "exit_code", where),
        seconds=_finite(_field(fields, "seconds", where), f"{where}.seconds"),
        level=_text(fields, "level", where),
    )


# ---- reading JSON values that may be anything


def _object(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a JSON object, found {_found(value)}")
    return value


def _field(fields: Mapping[str, object], name: str, where: str) -> object:
    if name not in fields:
        raise ValueError(f"{where}.{name} is missing")
    return fields[name]


def _each(fields: Mapping[str, object], name: str, where: str, read: Callable[[object, str], T]) -> tuple[T, ...]:
    values = _field(fields, name, where)
    if not isinstance(values, list | tuple):
        raise ValueError(f"{where}.{name}: expected a list, found {_found(values)}")
    return tuple(read(value, f"{where}.{name}[{index}]") for index, value in enumerate(values))


def _text(fields: Mapping[str, object], name: str, where: str) -> str:
    value = _field(fields, name, where)
    if not isinstance(value, str):
        raise ValueError(f"{where}.{name}: expected a string, found {_found(value)}")
    return value


def _integer(fields: Mapping[str, object], name: str, where: str) -> int:
    value = _field(fields, name, where)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{where}.{name}: expected a whole number, found {_found(value)}")
    return value


def _token_id(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{where}: expected a token id, a whole number of at least 0, found {_found(value)}")
    return value


def _finite(value: object, where: str) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise ValueError(f"{where}: expected a finite number, found {_found(value)}")


def _choice(kind: type[E], fields: Mapping[str, object], name: str, where: str) -> E:
    value = _text(fields, name, where)
    try:
        return kind(value)
    except ValueError as error:
        known = ", ".join(kind)
        raise ValueError(f"{where}.{name}: expected one of {known}, found {_found(value)}") from error


def _found(value: object) -> str:
    """A value short enough for an error message, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return "a number of more than 128 bits"
    text = repr(value) if isinstance(value, str | int | float | None) else type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."
