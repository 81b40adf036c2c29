"""Run folders in a terminal: a line for each stored trajectory, and one with its failed calls, repairs and reference.

The rows are those that `thor view` shows, read by the same index, whichever command wrote them.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from thor_tir.console import ConsoleReporter, visible
from thor_tir.dialect.fences import fenced
from thor_tir.errors import UsageError
from thor_tir.eval.transcript import (
    DISCARDED_INDENT,
    Segment,
    SegmentKind,
    answer_line,
    cost_sentence,
    rendered_segment,
)
from thor_tir.execution import Status
from thor_tir.provenance import RUN
from thor_tir.storage.journal import JsonObject
from thor_tir.trajectory import PYTHON
from thor_tir.verdict import Outcome
from thor_tir.view.detail import detail
from thor_tir.view.entries import Entry, RowKind
from thor_tir.view.run import ViewedFile, ViewedRun, objects, open_runs, read_json
from thor_tir.view.selection import Found, Selection, clipped, fitting, repaired_keys

QUESTION_CHARS = 100
"""Characters of a question in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The part of a run that a person wants to see."""

    id: str = ""
    """Id of a trajectory, or its beginning."""
    selection: Selection
    """Filters."""
    most: int
    """Most lines of a list; 0 for all."""


def show(folder: Path, asked: Asked, reporter: ConsoleReporter) -> None:
    """Print one trajectory, or the list of those that are asked for. Raises UsageError where there is none."""
    run = _read(folder, asked)
    # Transcripts and data sets are copies; they are read where the journal that they were taken from is not there.
    names = [""] if any(True for _ in run.rows()) else {file.name for file in run.files if file.is_copy}
    rows = [pair for name in names for pair in fitting(run, replace(asked.selection, file=name))]
    rows.sort(key=lambda pair: (pair[0].name, _natural(pair[1].key)))
    if not rows:
        raise UsageError(_nothing(run, folder, asked))
    found = [pair for pair in rows if pair[1].key.startswith(asked.id)]
    exact = [pair for pair in found if pair[1].key == asked.id]
    if not found:
        raise UsageError(
            f"no trajectory in {folder} has an id beginning with {asked.id!r}; `thor show {folder}` lists them"
        )
    if exact or (asked.id and len(found) == 1):
        for file, entry in exact or found:
            _show_one(run, file, entry, reporter)
        return
    _show_list(run, found, asked.most, reporter)
    for file in run.files:
        if file.damaged:
            reporter.say(
                f"{file.path}: {file.damaged} {'line is' if file.damaged == 1 else 'lines are'} damaged and not shown"
            )


def _read(folder: Path, asked: Asked) -> ViewedRun:
    """The run; where one id is asked for and there, only what holds it was read."""
    is_plain = asked.selection == Selection() and asked.id.isascii() and asked.id.isprintable()
    wanted = asked.id if is_plain and json.dumps(asked.id) == f'"{asked.id}"' else ""
    (run,) = open_runs([folder])
    run.refresh(inf, holding=wanted)
    if wanted and not any(key.startswith(wanted) for file in run.files for key in file.entries):
        (run,) = open_runs([folder])
        run.refresh(inf)
    return run


def _natural(key: str) -> list[str | int]:
    """Ids in the order of the numbers in them, so that the attempts of a group stand together."""
    return [int(part) if place % 2 else part for place, part in enumerate(re.split(r"([0-9]{1,12})", key))]


def _nothing(run: ViewedRun, folder: Path, asked: Asked) -> str:
    """Say why there is nothing to show, and where there may be something."""
    if any(file.entries for file in run.files):
        return f"no trajectory in {folder} is as asked for; `thor show {folder}` lists all of them"
    data = read_json(folder / RUN).get("options", {}).get("data")
    if data is not None:
        return f"{folder} is a cold start, which samples nothing; what it was trained on is in {data}"
    return f"{folder} holds no trajectories; give the folder of a run of tirgen, rl, eval or quickstart"


def _show_list(run: ViewedRun, rows: Sequence[Found], most: int, reporter: ConsoleReporter) -> None:
    repairs = repaired_keys(pair for file in run.files for pair in run.rows(file.name))
    shown = rows[:most] if most else rows
    width = max(len(entry.key) for _, entry in shown)
    before = ""
    for file, entry in shown:
        if file.name != before:
            reporter.say(_heading(file, rows))
            before = file.name
        asked = run.problems.get(entry.problem_id)
        question = re.sub(r"[ \t\n]+", " ", asked.question if asked else entry.start).strip()
        calls = f"{entry.calls} {'call' if entry.calls == 1 else 'calls'}"
        parts = [f"{entry.key:<{width}}", f"{entry.outcome:<8}", f"{calls:<8}"]
        parts += [f"{f'{len(entry.failures)} failed':<9}" if entry.failures else " " * 9]
        mended = repairs[file.name, entry.key] + entry.discarded
        parts += [f"{f'{mended} repairs':<11}" if mended else " " * 11, clipped(question, QUESTION_CHARS)]
        reporter.say("  ".join(parts).rstrip())
    if len(shown) < len(rows):
        reporter.say(
            f"{len(rows) - len(shown):,} more: --limit 0 lists all, --failed, --repaired, --wrong and --round some"
        )


def _heading(file: ViewedFile, rows: Sequence[Found]) -> str:
    here = [entry for other, entry in rows if other.name == file.name]
    rounds = sorted({entry.round for entry in here if entry.round})
    of = f" of rounds {rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else f" of round {rounds[0]}" if rounds else ""
    lost = f"; {file.lost} lost to faults of the machine" if file.lost else ""
    return f"{file.name}: {len(here):,} trajectories{of}{lost}"


def _show_one(run: ViewedRun, file: ViewedFile, entry: Entry, reporter: ConsoleReporter) -> None:
    found = detail(run, file.name, entry.key)
    facts = [f"round {found['round']}"] if found["round"] else []
    facts += [f"ended by {found['finish'].replace('_', ' ')}"] if found["finish"] not in ("", "ended") else []
    reporter.say(": ".join([f"{file.name}, {entry.key}", *([", ".join(facts)] if facts else [])]))
    if found["question"]:
        reporter.say(f"question: {found['question'].strip()}")
    if found["reference"]:  # a task whose answer is a program has none
        reporter.say(f"reference: {found['reference']}")
    stored = objects(run.row(file, entry).get("repairs")) if entry.kind is RowKind.COPY else []
    for number, step in enumerate(found["steps"]):
        for part in _step(step):
            reporter.show(part)
        for part in _stored_repairs([each for each in stored if each.get("call") == number]):
            reporter.show(part)
    outcome = Outcome(entry.outcome) if entry.outcome in set(Outcome) else None
    reporter.show(answer_line(found["answer"], outcome))
    if found["reason"]:
        reporter.say(f"graded {entry.outcome}: {found['reason']}")
    reporter.say(cost_sentence([run.trajectory(file, entry)[1]]))


def _step(step: JsonObject) -> Iterator[RenderableType]:
    """A step, the versions that self-correction cut away before it, and the repairs that training sampled after it."""
    discarded = step["discarded"]
    for number, old in enumerate(discarded, 1):
        yield _aside(Text(f"discarded attempt {number} of {len(discarded)}", "magenta"))
        yield from (_aside(rendered_segment(segment)) for segment in _segments(old))
    if "replaced" in step:
        yield _aside(Text(f"in place of the actor's words: {visible(step['replaced']['text'].strip())}", "dim"))
    yield from map(rendered_segment, _segments(step))
    branches = step.get("branches", ())
    for number, branch in enumerate(branches, 1):
        credit = [f"{name} {branch[name]:.2f}" for name in ("reward", "advantage") if branch.get(name) is not None]
        yield _aside(Text(", ".join([f"repair {number} of {len(branches)}", *credit]), "magenta"))
        if kept := (step.get("kept") or "").strip("\n"):
            yield _aside(Text.assemble(("kept: ", "dim bold"), (visible(kept), "dim")))
        yield from (_aside(rendered_segment(segment)) for segment in _segments(branch))


def _stored_repairs(rows: Sequence[Any]) -> Iterator[RenderableType]:
    """Repairs as a transcript holds them."""
    for number, row in enumerate(rows, 1):
        yield _aside(Text(f"repair {number} of {len(rows)}, reward {row.get('reward')}", "magenta"))
        for each in objects(row.get("segments")):
            status = None if each.get("status") is None else Status(each["status"])
            segment = Segment(author=SegmentKind(each["author"]), text=str(each["text"]), status=status)
            yield _aside(rendered_segment(segment))


def _segments(step: JsonObject) -> Iterator[Segment]:
    if step["thought"].strip():
        yield Segment(author=SegmentKind.THOUGHT, text=step["thought"])
    if "code" in step:
        status, code = Status(step["output"]["status"]), step["code"]
        yield Segment(author=SegmentKind.ACTION, text=fenced(code, step.get("tool", PYTHON)), status=status)
        yield Segment(author=SegmentKind.OBSERVATION, text=step["output"]["text"], status=status)


def _aside(shown: RenderableType) -> RenderableType:
    return Padding.indent(shown, DISCARDED_INDENT)
