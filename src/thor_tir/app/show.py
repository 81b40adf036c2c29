"""Transcripts of what a run has stored."""

import json
from collections.abc import Iterator
from pathlib import Path

from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.transcript import (
    Exhibit,
    Segment,
    SegmentKind,
    readable_segments,
    rendered_transcript,
    stored_attempts,
)
from thor_tir.execution import Status
from thor_tir.storage.trajectory_json import trajectory_from_json
from thor_tir.verdict import Outcome


def show(folder: Path, id: str, reporter: ConsoleReporter) -> None:
    """One stored trajectory by the beginning of its id, or the list of what there is."""
    if (run := EvalFolder(path=folder)).exists:
        _show_attempts(run, id, reporter)
        return
    found = [row for row in _exhibits(folder) if row["trajectory"]["id"].startswith(id)]
    if not found:
        raise UsageError(f"no trajectory in {folder} has an id beginning with {id!r}; `thor show {folder}` lists them")
    if len(found) > 1 and not any(row["trajectory"]["id"] == id for row in found):
        for row in found:
            reporter.say(f"{row['stage']:<32} {row['outcome']:<9} {row['trajectory']['id']}")
        return
    for row in found:
        reporter.say(f"{row['stage']}: {row['problem']['question'].strip()}")
        reporter.show(rendered_transcript(_segments(row), answer=row["extracted"], outcome=Outcome(row["outcome"])))


def _show_attempts(run: EvalFolder, id: str, reporter: ConsoleReporter) -> None:
    """The same for an evaluation, whose attempts are read as they were journaled."""
    found = list(stored_attempts(run, id))
    exact = [stored for stored in found if stored.attempt.trajectory.id == id]
    if not found:
        raise UsageError(f"no attempt in {run.path} has an id beginning with {id!r}; `thor show {run.path}` lists them")
    if len(found) > 1 and not exact:
        for stored in found:
            attempt = stored.attempt
            reporter.say(f"{stored.title:<32} {attempt.verdict.outcome:<9} {attempt.trajectory.id}")
        return
    for stored in exact or found:
        problem, verdict = stored.attempt.problem, stored.attempt.verdict
        reporter.say(f"{stored.title}: {problem.question.strip()}")
        if problem.answer:  # a task whose answer is a program has none
            reporter.say(f"reference: {problem.answer}")
        segments = readable_segments(stored.attempt.trajectory)
        reporter.show(rendered_transcript(segments, answer=verdict.extracted, outcome=verdict.outcome))
        reporter.say(f"graded {verdict.outcome}: {verdict.reason}")


def _exhibits(folder: Path) -> Iterator[Exhibit]:
    path = folder / "trajectories.jsonl"
    if not path.is_file():
        raise UsageError(f"{folder} holds no trajectories.jsonl; give the folder of a finished run")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line:
            try:
                row = json.loads(line)
                trajectory_from_json(row["trajectory"])
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(f"{path}, line {number} is damaged: {error}") from error
            yield row


def _segments(row: Exhibit) -> list[Segment]:
    return [
        Segment(
            author=SegmentKind(segment["author"]),
            text=segment["text"],
            status=None if segment["status"] is None else Status(segment["status"]),
        )
        for segment in row["segments"]
    ]
