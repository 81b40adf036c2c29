"""A look at the references that a run is about to rely on: on the console, and in the run's folder."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from thor_tir.grading.references import check_references
from thor_tir.problem import Problem, read_problem_file
from thor_tir.problems.benchmarks import BENCHMARKS, ProblemKind, ProblemSet
from thor_tir.storage.journal import write_atomically

REFERENCES = "references.json"
"""Name of the file in a stage's folder that keeps what was found."""


def report_references(
    problems: Iterable[Problem],
    spec: str,
    say: Callable[[str], None],
    folder: Path | None = None,
    *,
    count: int | None = None,
) -> None:
    """Say which columns of a problem file were taken, that `--count` cuts it, and which references are none; keep it in
    the folder, if any.

    `spec` is what the command named the problems by; nothing is said of generated ones.
    """
    asked = list(problems)
    taken, cut = "", ""
    if Path(spec).is_file():
        file = read_problem_file(Path(spec))
        taken, total = file.taken, len(file.problems)
        cut = (
            f"the first {count:,} of {total:,} problems are used; --count takes more"
            if count is not None and total > count
            else ""
        )
    faults = check_references(asked)
    for line in (*filter(None, (taken, cut)), *(fault.sentence(len(asked)) for fault in faults)):
        say(f"{spec}: {line}")
    if folder is not None:
        found = {"problems": len(asked), "columns": taken, "faults": [asdict(fault) for fault in faults]}
        write_atomically(folder / REFERENCES, json.dumps(found, ensure_ascii=False, indent=1) + "\n")


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
