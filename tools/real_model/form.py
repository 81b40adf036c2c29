"""Answers of the small real model, with the box that it leaves out: what it learns before anything else."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from thor_tir.dialect.prompts import NO_TOOLS, messages
from thor_tir.storage.journal import JsonObject, write_atomically
from thor_tir.trajectory import Finish

LONGEST = 24
"""Characters of the longest answer that is put into a box."""


def write_form(path: Path, evaluation: Path) -> int:
    """Write a data set of conversations for `thor sft` from an evaluation without tools of one set; returns its size.

    Kept are the model's own answers that end by stating a value, right or wrong: the value is put into a box.
    """
    (problems,), (attempts,) = (list((evaluation / part).glob("*.jsonl")) for part in ("problems", "attempts"))
    questions = {row["id"]: row["question"] for row in _rows(problems)}
    chats = [chat for row in _rows(attempts) for chat in _chats(row, questions[row["problem_id"]])]
    write_atomically(path, "".join(json.dumps(chat) + "\n" for chat in chats))
    return len(chats)


def boxed(text: str, value: str) -> str | None:
    """The answer with its value in a box where its last paragraph states it; None where that says something else."""
    before, last = text[: (cut := text.rstrip().rfind("\n\n") + 1)], text[cut:]
    if not any(c.isdigit() for c in value) or len(value) > LONGEST or value not in last:
        return None
    lead, _, rest = last.rpartition(value)
    return f"{before}{lead}\\boxed{{{value}}}{rest}"


def _chats(row: Mapping[str, Any], question: str) -> Iterator[JsonObject]:
    whole = row["trajectory"]
    text = "".join(step["thought"]["text"] for step in whole["steps"])
    if whole["finish"] != Finish.ENDED or row.get("extracted") is None or "\\boxed" in text:
        return
    if (answer := boxed(text, row["extracted"])) is not None:
        yield {"messages": [*messages(NO_TOOLS, question), {"role": "assistant", "content": answer}]}


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    return map(json.loads, path.read_text(encoding="utf-8").splitlines())
