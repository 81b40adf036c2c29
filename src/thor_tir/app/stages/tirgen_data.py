"""From raw trajectories to a data set, and from there to the forms that others read.

The filter takes two readings of the raw files: the first judges each trajectory alone and keeps a small entry of it,
the second copies what was chosen. No more than one trajectory is in memory at a time.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from thor_tir.app.config import CallConfig
from thor_tir.app.runtime import DIALECT, PYTHON_ALONE, dialect_of
from thor_tir.dialect.dialect import DialectName, in_tool_calls
from thor_tir.dialect.prompt_file import read_prompts
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.loading import load_tokenizer
from thor_tir.errors import UsageError
from thor_tir.problem import Problem
from thor_tir.problems.overlap import question_files, read_questions
from thor_tir.provenance import versions
from thor_tir.rollout.sample_many import DROPPED
from thor_tir.sft.examples import sft_row, spelled_for
from thor_tir.storage.journal import JsonObject, line_of, write_atomically, writing_atomically
from thor_tir.tirgen.dataset import NoToolsCount, SampleFacts, attempts_of, rows_of, to_row
from thor_tir.tirgen.publish.export import message_row, table_row, token_row, turn_row, write_parquet
from thor_tir.tirgen.raw_rows import (
    NO_TOOLS,
    PROVENANCE,
    RowPlace,
    attempt_of,
    no_tools_verdicts,
    raw_files,
    read_at,
    read_provenance,
    rows,
    thinking_in,
    write_provenance,
)
from thor_tir.tirgen.rules import Candidate
from thor_tir.tirgen.selection import (
    GENERATED,
    Examined,
    FilterConfig,
    FilterSelection,
    Rejected,
    choose_samples,
    examine_candidate,
)
from thor_tir.tools.loading import load_tools


@dataclass(slots=True)
class _Reading:
    """Findings of the first reading of the raw files."""

    examined: list[Examined] = field(default_factory=list)
    """Findings on each raw attempt, in the order of the files."""
    places: dict[str, RowPlace] = field(default_factory=dict)
    """Places of the rows that passed, by their id."""
    fates: Counter[str] = field(default_factory=Counter)
    """Fates of the steps that the critic saw, counted."""
    calls: Counter[int] = field(default_factory=Counter)
    """Raw attempts by number of calls."""


def filter_raw(sources: Sequence[Path], config: FilterConfig, folder: Path, *, seed: int = 0) -> Path:
    """Write `dataset.jsonl`, `rejected.jsonl`, `funnel.json` and `provenance.json`; the data set's path is returned.

    `seed` decides between samples that are equal to the filter.

    Raises UsageError for files that are no raw trajectories or contradict each other.
    """
    files = raw_files(sources)
    without = no_tools_verdicts(raw_files(sources, NO_TOOLS))
    no_tools = without.by_problem
    provenance = read_provenance(raw_files(sources, PROVENANCE))
    benchmark = benchmark_questions(config.benchmarks)
    reading = _read(files, no_tools, provenance, config)
    selection = choose_samples(reading.examined, config, seed=seed, no_tools=no_tools, benchmark=benchmark)
    path = folder / "dataset.jsonl"
    _write_dataset(path, selection, reading, no_tools)
    with writing_atomically(folder / "rejected.jsonl") as out:
        for rejected in selection.rejected:
            out.write(line_of(asdict(rejected)))
    if provenance:
        write_provenance(folder / PROVENANCE, provenance)
    funnel = {
        "stages": [asdict(stage) for stage in selection.stages],
        "no_tools": without.counts,
        "critic": dict(sorted(reading.fates.items())),
        "raw_calls": dict(sorted(reading.calls.items())),
        "config": asdict(config),
        "seed": seed,
        "versions": versions(),
    }
    write_atomically(folder / "funnel.json", json.dumps(funnel, indent=1) + "\n")
    return path


def benchmark_questions(paths: Sequence[str]) -> list[Problem]:
    """The questions that must not be trained on. Raises UsageError where a path holds none."""
    found = [problem for path in paths for file in question_files(Path(path)) for problem in read_questions(file)]
    if paths and not found:
        raise UsageError(f"no benchmark problems at {', '.join(paths)}; expected files of questions")
    return found


def _read(
    files: Sequence[Path], no_tools: Mapping[str, Sequence[bool]], provenance: JsonObject, config: FilterConfig
) -> _Reading:
    reading = _Reading()
    for place, row in rows(files):
        if DROPPED in row:
            reading.examined.append(_lost(row))
            continue
        attempt = attempt_of(row, place)
        verdicts = no_tools.get(attempt.problem.id)
        candidate = Candidate(
            trajectory=attempt.trajectory,
            verdict=attempt.verdict,
            no_tools_pass_rate=sum(verdicts) / len(verdicts) if verdicts else None,
            question=attempt.problem.question,
            thinking=thinking_in(provenance.get(str(row.get("provenance")), {})),
        )
        examined = examine_candidate(candidate, config)
        reading.examined.append(examined)
        if examined.rejected is None:
            reading.places[examined.id] = place
        reading.fates.update(row.get("critic") or {})
        reading.calls[examined.num_calls] += 1
    return reading


def _lost(row: JsonObject) -> Examined:
    key = str(row["key"])
    problem_id = key.rpartition("/")[0]
    rejected = Rejected(id=key, problem_id=problem_id, stage=GENERATED, reason=str(row[DROPPED]))
    return Examined(id=key, problem_id=problem_id, question="", num_calls=0, is_correct=None, rejected=rejected)


def _write_dataset(
    path: Path, selection: FilterSelection, reading: _Reading, no_tools: Mapping[str, Sequence[bool]]
) -> None:
    with writing_atomically(path) as out:
        for id in selection.kept:
            place = reading.places[id]
            row = read_at(place)
            attempt = attempt_of(row, place)
            verdicts = no_tools.get(attempt.problem.id)
            facts = SampleFacts(
                no_tools=NoToolsCount(samples=len(verdicts), right=sum(verdicts)) if verdicts else None,
                solved_share=round(selection.solved[attempt.problem.id], 6),
                critic=row.get("critic", {}),
                seed=row.get("seed"),
                provenance=row.get("provenance"),
            )
            out.write(line_of(to_row(attempt, facts)))


ExportForm = Literal["parquet", "messages", "turns", "tokens"]


def export_dataset(
    dataset: Path,
    folder: Path,
    forms: Sequence[ExportForm],
    *,
    model: str,
    reasoning: bool = False,
    calls: CallConfig = PYTHON_ALONE,
) -> list[Path]:
    """Write the data set in some forms and return their files. Raises UsageError for a damaged or empty data set.

    `model` names the tokenizer that tokens are asked of; its prompt takes the place of the one TIRGen used.
    `calls` name a file of prompts, as `--prompts` does, and tools. Calls are spelled as TIRGen spelled them.
    """
    if next(rows_of(dataset), None) is None:
        raise UsageError(f"{dataset} holds no samples; funnel.json beside it tells which stage dropped them")
    tools, spelling = load_tools(calls.tool), _spelling(dataset.parent, calls)
    is_fenced = spelling == "fences"
    written, asked_so = [], read_prompts(calls.prompts).get(TOOLS, TOOLS)
    style = asked_so if is_fenced else in_tool_calls(asked_so, [tool.spec for tool in tools])

    def lines(form: ExportForm) -> Iterator[JsonObject]:
        if form != "tokens":
            spell = message_row if form == "messages" else turn_row
            yield from (dict(spell(row, style, is_fenced=is_fenced)) for row in rows_of(dataset))
            return
        dialect = dialect_of(load_tokenizer(model), asked_so, reasoning=reasoning, calls=spelling, tools=tools)
        for attempt in attempts_of(dataset):
            whole, asked = spelled_for(attempt.trajectory, dialect), attempt.problem
            yield token_row(sft_row(whole, prompt=dialect.prompt(asked.question, asked.system)))

    for form in forms:
        if form == "parquet":
            path = folder / "data" / "train.parquet"
            write_parquet(path, (table_row(row, style, is_fenced=is_fenced) for row in rows_of(dataset)))
        else:
            path = folder / f"{form}.jsonl"
            with writing_atomically(path) as out:
                for row in lines(form):
                    out.write(line_of(row))
        written.append(path)
    return written


def _spelling(folder: Path, calls: CallConfig) -> DialectName:
    """The spelling of calls in the data of a folder, which TIRGen wrote down unless it was the paper's fences."""
    if calls.dialect != "fences":
        return calls.dialect
    path = folder / DIALECT
    found = json.loads(path.read_text(encoding="utf-8"))["calls"] if path.is_file() else "fences"
    return "tool-call" if found == "tool-call" else "fences"
