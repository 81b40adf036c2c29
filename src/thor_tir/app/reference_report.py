"""A look at the problems that a run is about to rely on: on the console, and in the run's folder."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from thor_tir.chat_template import reads_rules
from thor_tir.dialect.dialect import Dialect
from thor_tir.errors import UsageError
from thor_tir.grading.references import check_references
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import BENCHMARKS, ProblemKind, ProblemSet, digest_of
from thor_tir.problems.data_set import DataSet
from thor_tir.storage.journal import write_atomically

REFERENCES = "references.json"
"""Name of the file in a stage's folder that keeps what was found."""


def report_problems(asked: DataSet, spec: str, say: Callable[[str], None], folder: Path | None = None) -> None:
    """Say what was taken from where, what was left out, and which references are none; keep it in the folder, if any.

    `spec` is what the command named the problems by; of generated ones nothing is said. Raises UsageError where the
    folder was begun with other problems, as after a change of a data set on the hub.
    """
    faults = check_references(asked.problems)
    sha256 = digest_of(asked.problems)
    if folder is not None:
        _refuse_others(folder / REFERENCES, sha256, spec)
    sentences = [fault.sentence(len(asked.problems)) for fault in faults]
    for line in filter(None, (asked.taken, *asked.left_out, *sentences)):
        say(f"{spec}: {line}")
    if folder is not None:
        found = {
            "problems": len(asked.problems),
            "sha256": sha256,
            "taken": asked.taken,
            "left_out": asked.left_out,
            "faults": [asdict(fault) for fault in faults],
        }
        write_atomically(folder / REFERENCES, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


def say_unread(problems: Iterable[Problem], dialect: Dialect, say: Callable[[str], None]) -> None:
    """Say how many system messages of the data do not reach the model, whose chat template leaves them out."""
    for sentence in _unread(problems, dialect):
        say(sentence)


def with_unread_note(asked: ProblemSet, dialect: Dialect, say: Callable[[str], None]) -> ProblemSet:
    """The set with a note of the same, which results then show; it is said, too."""
    notes = [f"{asked.name}: {sentence}" for sentence in _unread(asked.problems, dialect)]
    for note in notes:
        say(note)
    return replace(asked, notes=(*asked.notes, *notes))


def _unread(problems: Iterable[Problem], dialect: Dialect) -> list[str]:
    count = sum(bool(problem.system) for problem in problems)
    if not count or reads_rules(dialect.tokenizer, dialect.form, thinks=dialect.config.is_reasoning):
        return []
    return [f"the model's chat template leaves out system messages, also those of {count:,} problems"]


def _refuse_others(path: Path, sha256: str, spec: str) -> None:
    before = json.loads(path.read_text(encoding="utf-8")).get("sha256", sha256) if path.exists() else sha256
    if before != sha256:
        raise UsageError(
            f"the problems of {spec} are not those that the run in {path.parent} began with; give another --output"
        )


def with_reference_notes(asked: ProblemSet, say: Callable[[str], None]) -> ProblemSet:
    """The set with a note for each fault of its references, which results then show; each is said once, too.

    Programs have no references, and those of a registered benchmark are known.
    """
    is_registered = asked.name in BENCHMARKS and asked.sha256 == BENCHMARKS[asked.name].sha256
    if asked.kind is ProblemKind.CODE or is_registered:
        return asked
    notes = [f"{asked.name}: {fault.sentence(len(asked.problems))}" for fault in check_references(asked.problems)]
    for note in (*asked.notes, *notes):
        say(note)
    return replace(asked, notes=(*asked.notes, *notes))
