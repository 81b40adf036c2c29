"""Files of registered benchmarks in a folder that `--data` takes: fetched where there is a hub, always checked."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thor_tir.errors import UsageError
from thor_tir.problems import code_sources
from thor_tir.problems.benchmarks import BENCHMARKS, SIX_SETS, Benchmark, differences, hub_rows, of_hub
from thor_tir.problems.code_sources import CodeBenchmark, code_set, known_name
from thor_tir.problems.livecodebench import HUB, release_files
from thor_tir.problems.sets import load_set
from thor_tir.storage.journal import write_atomically


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkFiles:
    """The files of one benchmark, as they lie in a folder now."""

    name: str
    """Name of the benchmark."""
    paths: tuple[Path, ...]
    """Its files."""
    size: int
    """Number of its problems."""
    sha256: str
    """Digest of what they hold."""
    notes: tuple[str, ...]
    """Departures from the registered set; empty where there are none."""
    is_new: bool
    """True if they were fetched now."""


def known_sets() -> list[tuple[str, ...]]:
    """Name, number of problems, files, place on the hub and licence of every registered benchmark."""
    return [(name, *_facts(name)) for name in (*BENCHMARKS, *code_sources.BENCHMARKS)]


def get_benchmark(name: str, folder: Path, *, accept_modified: bool = False) -> BenchmarkFiles:
    """Make sure that a folder holds a benchmark, and that it is the registered one unless `accept_modified`.

    Raises UsageError for an unknown name, for other data, and, saying which file to put where, for data that cannot be
    fetched.
    """
    known = BENCHMARKS.get(name) or code_sources.BENCHMARKS.get(name := known_name(name) or name)
    if known is None:
        every = ", ".join([*BENCHMARKS, *code_sources.BENCHMARKS])
        raise UsageError(f"unknown benchmark {name!r}; known: {every}, and six ({', '.join(SIX_SETS)})")
    is_new = not _paths(known, folder)
    if is_new:
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(name, known, folder, accept_modified=accept_modified)
    found = load_set(name, folder, accept_modified=accept_modified)
    return BenchmarkFiles(
        name=name,
        paths=tuple(_paths(known, folder)),
        size=len(found.problems),
        sha256=found.sha256,
        notes=found.notes,
        is_new=is_new,
    )


def how_to_place(name: str, known: Benchmark | CodeBenchmark, folder: Path) -> str:
    """Files that a person without a hub provides, and their places."""
    _, files, hub, licence = _facts(name)
    if isinstance(known, Benchmark):
        holds = f"{known.size} lines with `problem` and `answer` (SHA-256 of these: {known.sha256})"
    else:
        digest = f" (SHA-256 of these: {known.digest})" if known.digest else ""
        holds = f"{known.num_tasks} tasks as {known.origin.partition(';')[0]} publishes them{digest}"
    source = f", from {hub} of the Hugging Face hub" if hub else ""
    return f"by hand: put {files} into {folder}, {holds}{source}; licence: {licence}; the same command then checks it"


def _facts(name: str) -> tuple[str, str, str, str]:
    """Number of problems, files, place on the hub and licence."""
    if (known := BENCHMARKS.get(name)) is not None:
        return str(known.size), known.files[0], known.hub.path, known.licence
    code = code_sources.BENCHMARKS[name]
    files = ", ".join(code.files) if code.read is None else code.files[0]
    hub = HUB if code.read is None else code.hub.path if code.hub else ""
    return str(code.num_tasks), files, hub, code.licence


def _paths(known: Benchmark | CodeBenchmark, folder: Path) -> list[Path]:
    """The files of a benchmark that lie in a folder; of a release of several, all or none."""
    if isinstance(known, CodeBenchmark) and known.read is None:
        files = [folder / name for name in known.files]
        return files if all(file.is_file() for file in files) else []
    packed = [] if isinstance(known, Benchmark) else [f"{name}.gz" for name in known.files]
    return [folder / name for name in (*known.files, *packed) if (folder / name).is_file()][:1]


def _fetch(name: str, known: Benchmark | CodeBenchmark, folder: Path, *, accept_modified: bool) -> None:
    by_hand = how_to_place(name, known, folder)
    if isinstance(known, CodeBenchmark) and known.read is None:
        for file in _release(known, by_hand):
            shutil.copyfile(file, folder / file.name)
        return
    draft = folder / f".{known.files[0]}.draft"
    try:
        if isinstance(known, Benchmark):
            problems = of_hub(known, by_hand)
            notes = differences(known, problems)
            _write(draft, ({"id": p.id, "problem": p.question, "answer": p.answer, **p.extra} for p in problems))
        else:
            if known.hub is None:
                raise UsageError(f"the hub has no copy of {name}. {by_hand}")
            _write(draft, hub_rows(known.hub, by_hand))
            notes = [*code_set(name, draft).notes]
        if notes and not accept_modified:
            raise UsageError(
                f"{'; '.join(notes)}: the hub's copy is not the known {name}; --accept-modified takes it. {by_hand}"
            )
        draft.rename(folder / known.files[0])
    finally:
        draft.unlink(missing_ok=True)


def _release(known: CodeBenchmark, by_hand: str) -> list[Path]:
    try:
        return release_files(known.release, None)
    except (UsageError, ImportError) as error:
        raise UsageError(f"{error}. {by_hand}") from error


def _write(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    write_atomically(path, "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows))
