"""Sets of problems as an evaluation asks them: a benchmark by its name, a file, or generated families."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.benchmarks import BENCHMARKS, ProblemKind, ProblemSet, digest_of, load_benchmark
from thor_tir.problems.code_sources import BENCHMARKS as CODE_BENCHMARKS
from thor_tir.problems.code_sources import code_set, known_name
from thor_tir.problems.code_tasks import CodeTask, ExampleTests
from thor_tir.problems.columns import ANY_FIELDS, ProblemFields
from thor_tir.problems.data_set import place_of, read_data_set
from thor_tir.problems.own_source import is_source
from thor_tir.problems.sources import Split, load_problems
from thor_tir.seeds import seed_for


def load_set(
    name: str,
    data: Path | None = None,
    *,
    accept_modified: bool = False,
    fields: ProblemFields = ANY_FIELDS,
    most: int | None = None,
    seed: int = 0,
) -> ProblemSet:
    """The problems of a benchmark by its name, or those of a data set of one's own (see `read_data_set`).

    `data` is the benchmark's file or a folder that holds it; None asks the hub. `most` and `seed` are for functions
    that make problems, which are asked for so many. Raises UsageError for an unknown name,
    for data that cannot be had, and for data that are not the registered ones unless `accept_modified`.
    """
    if name in BENCHMARKS:
        return load_benchmark(name, data, accept_modified=accept_modified)
    if not is_benchmark(name):
        if name.isidentifier() and not Path(name).exists() and not is_source(name):
            known = ", ".join([*BENCHMARKS, *CODE_BENCHMARKS])
            raise UsageError(f"unknown benchmark {name!r}; known: {known}; or give the path of a data set")
        return own_set(name, fields, count=most if is_source(name) else None, seed=seed)
    found = code_set(name, data)
    if found.notes and not accept_modified:
        raise UsageError(
            f"{'; '.join(found.notes)}: not the known {found.name}; --accept-modified evaluates it all the same"
        )
    return ProblemSet(
        name=found.name,
        title=found.title,
        problems=tuple(problem_of(task) for task in found.tasks),
        sha256=found.sha256,
        notes=found.notes,
        kind=ProblemKind.CODE,
        tasks={task.id: task for task in found.tasks},
    )


def is_benchmark(name: str) -> bool:
    """True for the name of a registered benchmark, of mathematics or of code; a file of that name does not matter."""
    return name in BENCHMARKS or known_name(name) is not None


def own_set(spec: str, fields: ProblemFields = ANY_FIELDS, *, count: int | None = None, seed: int = 0) -> ProblemSet:
    """A data set of one's own as an evaluation asks it: under one source, its test split where it has several.

    `count` and `seed` are those of a function that makes problems.
    """
    found = read_data_set(spec, fields, default_split=Split.TEST.value, count=count, seed=seed_for("test", seed))
    place = place_of(spec)
    stem = place.stem if not place.split else f"{place.stem}-{place.split}"
    problems = tuple(replace(p, source=stem, answer=p.answer.strip()) for p in found.problems)
    said = [*([] if found.is_usual else [found.taken]), *found.left_out]
    notes = tuple(f"{stem}: {sentence}" for sentence in said)
    return ProblemSet(name=stem, title=stem, problems=problems, sha256=digest_of(problems), notes=notes)


def generated_set(
    spec: str,
    families: Mapping[str, Mapping[str, object]],
    *,
    count: int,
    seed: int,
    fields: ProblemFields = ANY_FIELDS,
) -> ProblemSet:
    """The test split of reasoning-gym families, `count` problems in all; `spec` as in `load_problems`."""
    of_test = seed_for("test", seed)
    found = load_problems(spec, split=Split.TEST, count=count, seed=of_test, configs=families, fields=fields)
    name = spec.replace(":", "-").replace(",", "-").replace(" ", "")
    return ProblemSet(name=name, title=spec, problems=found.problems, sha256=digest_of(found.problems))


def problem_of(task: CodeTask) -> Problem:
    """The task as it is asked. Its tests stay behind."""
    said = {"subject": task.subject, "level": task.level, "date": task.date, "entry_point": task.entry_point}
    extra = {name: value for name, value in said.items() if value}
    return Problem(id=task.id, question=question_of(task), answer="", source=task.benchmark, extra=extra)


def question_of(task: CodeTask) -> str:
    """The text of a task, with the code that the benchmark shows beside it."""
    if task.is_continued:
        return f"Complete this function:\n\n```\n{task.prompt.rstrip()}\n```"
    if isinstance(task.tests, ExampleTests):
        if task.tests.is_stdin:
            how = "Write a Python program that reads standard input and writes the answer to standard output."
        else:
            how = f"Write it in Python, beginning so:\n\n```\n{task.shown.rstrip()}\n```"
        return f"{task.prompt.strip()}\n\n{how}"
    return f"{task.prompt.strip()}\nThe function is called `{task.entry_point}` and must satisfy\n\n{task.shown}"


def within(asked: ProblemSet, window: str) -> ProblemSet:
    """The problems of contests from one day to another, both included, as in `2024-08-01..2025-05-31`.

    An open side is left empty. Raises UsageError for another form, a set without dates, and a window without problems.
    """
    first, dots, last = window.partition("..")
    if not dots or not all(_is_day(day) for day in (first, last) if day) or not (first or last):
        raise UsageError(f"--window is like 2024-08-01..2025-05-31, either day may be left out, found {window!r}")
    if not all("date" in problem.extra for problem in asked.problems):
        raise UsageError(f"--window needs dates, which {asked.name} has not; LiveCodeBench has")
    kept = tuple(p for p in asked.problems if first <= p.extra["date"] <= (last or "9999"))
    if not kept:
        days = [problem.extra["date"] for problem in asked.problems]
        raise UsageError(f"no problem of {asked.name} is of {window}; its days are {min(days)} to {max(days)}")
    note = f"{asked.name}: the {len(kept)} of {len(asked.problems)} problems of {window}"
    return replace(asked, problems=kept, notes=(*asked.notes, note))


def _is_day(text: str) -> bool:
    year, *rest = text.split("-")
    return len(year) == 4 and len(rest) == 2 and all(part.isdecimal() for part in (year, *rest))
