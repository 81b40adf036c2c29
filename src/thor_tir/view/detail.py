"""One trajectory with everything that is known about it, as JSON values: its steps, their repairs, the other attempts.

Text is handed on as it is, in bounded pieces; the page shows it as text and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from math import exp
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.inference.best_of_n import SELECTORS, choose
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt, attempt_from_json
from thor_tir.seeds import seed_of
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON, Author, Step, Trajectory
from thor_tir.view.credit import Credit, episode_credit, kept_before, step_credits, training_options, updates_beside
from thor_tir.view.entries import Entry, RowKind, parts_of
from thor_tir.view.run import ViewedFile, ViewedRun, group_of, objects, repairs_of
from thor_tir.view.selection import clipped
from thor_tir.view.vocabulary import Vocabulary, vocabulary_of

MAX_CHARS = 60_000
"""Characters of one text that are sent; of a longer one its two ends."""
MAX_TOKENS = 20_000
"""Tokens that are shown one by one."""
MAX_CANDIDATES = 64
"""Attempts at one problem that are shown side by side."""


def detail(run: ViewedRun, name: str, key: str) -> JsonObject:
    """Everything about one row. Raises UsageError where it is not there or damaged."""
    with run.lock:
        file, entry = _found(run, name, key)
        row, whole = run.trajectory(file, entry)
        vocabulary = vocabulary_of(run, file)
        asked = run.problems.get(entry.problem_id)
        steps = [_step(step) for step in whole.steps]
        shown = {
            "file": file.name,
            "key": entry.key,
            "kind": entry.kind.value,
            "problem": entry.problem_id,
            "family": entry.family,
            "question": bounded(asked.question) if asked else None,
            "reference": bounded(asked.answer) if asked else None,
            "outcome": entry.outcome,
            "answer": None if entry.answer is None else bounded(str(entry.answer)),
            "reason": bounded(str(row.get("reason") or "")),
            "by_judge": row.get("by_judge") is True,
            "finish": entry.finish,
            "round": entry.round,
            "version": whole.policy_version,
            "tokens": entry.tokens,
            "seconds": entry.seconds,
            "parent": entry.parent,
            "prompt": {
                "text": None if vocabulary is None else bounded(vocabulary.text(whole.prompt.token_ids)),
                "tokens": len(whole.prompt),
            },
            "steps": steps,
            "parts": file.parts.get(entry.key) or parts_of(row.get("judged")),
            "tirgen": _tirgen(row),
            "candidates": [_beside(e) for e in file.together(group_of(entry))[:MAX_CANDIDATES]],
        }
        _add_replaced(steps, row)
        if entry.kind is RowKind.REPAIR:
            return {**shown, **_credit(_repair_credits(run, file, entry)[entry.key])}
        _add_branches(steps, run, file, entry, whole, vocabulary)
        is_trained = bool(training_options(run, file)) and entry.round is not None
        return {**shown, **(_credit(episode_credit(run, file, entry)) if is_trained else {})}


def tokens(run: ViewedRun, name: str, key: str) -> JsonObject:
    """The tokens of a row one by one: text, log-probability, the trainer's ratio to it, and whether it was trained."""
    with run.lock:
        file, entry = _found(run, name, key)
        _, whole = run.trajectory(file, entry)
        vocabulary = vocabulary_of(run, file)
        is_row = entry.key in updates_beside(run, file)
        ratios = _ratios(run, file, entry, whole)
    spans = [span for step in whole.steps for span in step.spans]
    names = [f"{part} {n + 1}" for n, step in enumerate(whole.steps) for part in _PARTS[: len(step.spans)]]
    if entry.kind is not RowKind.REPAIR:
        spans, names = [whole.prompt, *spans], ["prompt", *names]
    shown, place, room = [], 0, MAX_TOKENS
    for span, part in zip(spans, names, strict=True):
        count = min(len(span), room)
        ids = span.token_ids[:count]
        shown.append(
            {
                "part": part,
                "author": span.author.value,
                "trained": is_row and span.author is Author.MODEL,
                "ids": list(ids),
                "texts": None if vocabulary is None else vocabulary.pieces(ids),
                "logprobs": None if span.logprobs is None else [round(lp, 5) for lp in span.logprobs[:count]],
                "ratios": ratios[place : place + count] if ratios and span.author is Author.MODEL else None,
            }
        )
        place += len(span)
        room -= count
    total = sum(map(len, spans))
    return {"spans": shown, "shown": MAX_TOKENS - room, "total": total, "is_row": is_row}


_PARTS = ("thought", "code", "output")


def candidates(run: ViewedRun, name: str, key: str) -> JsonObject:
    """The attempts at a trajectory's problem side by side, with each selector's scores and choice."""
    with run.lock:
        file, entry = _found(run, name, key)
        group = file.together(group_of(entry))[:MAX_CANDIDATES]
        asked = run.problems.get(entry.problem_id)
        attempts = [_attempt(run, file, e) for e in group]
        known = run.json_above(file, "manifest.json").get("seed")
        name_of = entry.problem_id.encode("utf-8", "replace").decode()  # half a character has no seed
        seed = seed_of(known, name_of) if isinstance(known, int) else None
    scored = []
    for selector_name, selector in SELECTORS.items():
        chosen = None if seed is None else choose(attempts, selector, seed=seed).chosen
        scored.append(
            {
                "name": selector_name,
                "scores": [list(score) for score in selector.rank(attempts, {})],
                "chosen": None if chosen is None else chosen.trajectory.id,
            }
        )
    return {
        "problem": entry.problem_id,
        "question": bounded(asked.question) if asked else None,
        "reference": bounded(asked.answer) if asked else None,
        "candidates": [
            {**_beside(e), "id": attempt.trajectory.id, "steps": [_step(step) for step in attempt.trajectory.steps]}
            for e, attempt in zip(group, attempts, strict=True)
        ],
        "selectors": scored,
    }


def bounded(text: str) -> str:
    """A text as it is, or both its ends and how much lies between."""
    lost = len(text) - MAX_CHARS
    half = MAX_CHARS // 2
    return text if lost <= 0 else f"{text[:half]}\n[… {lost:,} characters left out …]\n{text[-half:]}"


def _found(run: ViewedRun, name: str, key: str) -> tuple[ViewedFile, Entry]:
    found = run.entry(name, key)
    if found is None:
        raise UsageError(f"{run.name} holds no {key!r} in {name!r}; it may not be read yet, or the run has begun anew")
    return found


def _step(step: Step) -> JsonObject:
    shown: JsonObject = {"thought": bounded(step.thought.text), "discarded": [_step(old) for old in step.discarded]}
    if step.action is not None and step.observation is not None:
        result = step.observation.result
        shown["code"] = bounded(step.action.code)
        if step.action.tool != PYTHON:
            shown["tool"] = step.action.tool
        shown["output"] = {
            "text": bounded(step.observation.text),
            "status": result.status.value,
            "class": "" if result.succeeds() else result.failure_class,
            "seconds": result.seconds,
            "level": result.level,
            "exit": result.exit_code,
            "stdout": bounded(result.stdout),
            "stderr": bounded(result.stderr),
            "ran": result.succeeds(),
        }
    return shown


def _add_branches(
    steps: list[JsonObject],
    run: ViewedRun,
    file: ViewedFile,
    entry: Entry,
    whole: Trajectory,
    vocabulary: Vocabulary | None,
) -> None:
    """Put under each failed call the repairs that step-level training sampled."""
    for call, step in enumerate(whole.steps):
        repairs = file.together(repairs_of(entry.key, call))
        if not repairs:
            continue
        sampled = {e.key: run.trajectory(file, e)[1].steps[0] for e in repairs}
        credits = step_credits(run, file, sampled)
        kept = kept_before(run, file, step)
        steps[call]["kept"] = None if kept is None or vocabulary is None else bounded(vocabulary.text(kept.token_ids))
        steps[call]["branches"] = [
            {"key": key, **_step(repair), **_credit(credits[key])} for key, repair in sampled.items()
        ]


def _add_replaced(steps: list[JsonObject], row: Mapping[str, Any]) -> None:
    """Put beside each step that TIRGen's critic wrote the words of the actor that it stands for."""
    for each in objects(row.get("replaced")):
        step, text = each.get("step"), each.get("text")
        if isinstance(step, int) and 0 <= step < len(steps) and isinstance(text, str):
            steps[step]["replaced"] = {"text": bounded(text), "steps": each.get("num_steps", 1)}


def _repair_credits(run: ViewedRun, file: ViewedFile, entry: Entry) -> dict[str, Credit]:
    group = file.together(group_of(entry))
    return step_credits(run, file, {e.key: run.trajectory(file, e)[1].steps[0] for e in group})


def _credit(credit: Credit) -> JsonObject:
    return {"reward": credit.reward, "advantage": credit.advantage, "update": credit.update}


def _tirgen(row: Mapping[str, Any]) -> JsonObject | None:
    """Facts about an attempt of TIRGen: fates of the steps that the critic saw, words kept, and what it cost."""
    fate = row.get("critic")
    if not isinstance(fate, Mapping):
        return None
    kept = row.get("kept")
    return {
        "fates": {clipped(str(name), 80): count for name, count in fate.items()},
        "kept": kept if isinstance(kept, list) else [],
        "spent": row.get("spent") or {},
    }


def _beside(entry: Entry) -> JsonObject:
    return {
        "key": entry.key,
        "outcome": entry.outcome,
        "answer": None if entry.answer is None else clipped(str(entry.answer), 80),
        "calls": entry.calls,
        "failures": list(entry.failures),
        "tokens": entry.tokens,
        "seconds": entry.seconds,
    }


def _attempt(run: ViewedRun, file: ViewedFile, entry: Entry) -> Attempt:
    """An attempt as the selectors take it; question and reference play no part in their scores."""
    row = run.row(file, entry)
    problem = Problem(id=str(row.get("problem_id")), question="", answer="", source="")
    try:
        if not isinstance(row["extracted"], str | None):
            raise ValueError(f"the answer is {clipped(repr(row['extracted']), 80)}")
        return attempt_from_json(row, problem)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file.path}: the row {entry.key!r} is no attempt that can be compared: {error}") from error


def _ratios(run: ViewedRun, file: ViewedFile, entry: Entry, whole: Trajectory) -> list[float | None]:
    """The trainer's probability over the engine's for each token; empty where the run keeps no scores.

    The scores of a repair begin with its prefix, which its row does not hold: they are matched from the end.
    """
    for other in run.files:
        if other.path.parent == file.path.parent and entry.key in other.scores:
            place, length = other.scores[entry.key]
            scores = _numbers(other.growing.read(place, length))
            spans = list(whole.spans) if entry.kind is not RowKind.REPAIR else list(whole.steps[0].spans[:2])
            engine = [lp for span in spans for lp in (span.logprobs or [None] * len(span))]
            part = scores[len(scores) - len(engine) :] if len(scores) >= len(engine) else []
            return [
                None if e is None or s is None else round(exp(min(s - e, 20)), 5)
                for s, e in zip(part, engine, strict=False)
            ]
    return []


def _numbers(line: bytes) -> Sequence[float | None]:
    """The log-probabilities of a line; what is no finite number (a prompt's tokens) is None."""
    found = json.loads(line, parse_constant=lambda name: None).get("logprobs")
    return [value if isinstance(value, float | int) else None for value in found] if isinstance(found, list) else []
