"""Where raw trajectories come from: models, prompts, sampling, seed and versions, under a name that rows carry."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from thor_tir.dialect.prompts import PromptStyle
from thor_tir.dialect.thinking import Thinking
from thor_tir.errors import UsageError
from thor_tir.problem import digest
from thor_tir.storage.journal import write_atomically


def prompt_digest(style: PromptStyle) -> str:
    """A name for the exact text of a prompt."""
    return digest(json.dumps([style.system, style.user]))


def sign(path: Path, record: Mapping[str, Any]) -> str:
    """Write a record into the file of provenances, unless it is there already, and return its name."""
    text = json.dumps(record, sort_keys=True, default=str)
    name = digest(text)
    known = read_provenance([path])
    if name not in known:
        write_provenance(path, {**known, name: json.loads(text)})
    return name


def write_provenance(path: Path, records: Mapping[str, Any]) -> None:
    """All records under their names."""
    write_atomically(path, json.dumps(dict(sorted(records.items())), indent=1) + "\n")


def read_provenance(files: Iterable[Path]) -> dict[str, Any]:
    """The records of some files, those that are missing left out. Raises UsageError for a damaged one."""
    records: dict[str, Any] = {}
    for file in files:
        if not file.exists():
            continue
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            records.update({str(name): dict(record) for name, record in found.items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise UsageError(f"{file} is no file of provenances: {error}") from error
    return records


def thinking_in(record: Mapping[str, Any]) -> Thinking:
    """What a record says about think tags; none where it says nothing."""
    try:
        return Thinking(record.get("thinking", Thinking.NONE))
    except ValueError:
        return Thinking.NONE
