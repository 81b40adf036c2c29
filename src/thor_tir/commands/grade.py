"""The command that grades pairs of a reference and an answer, or a whole response, from a file."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Literal, TypedDict

import tyro

from thor_tir.commands.options import NO_JUDGE, JudgeOptions
from thor_tir.console import ConsoleReporter
from thor_tir.errors import UsageError

if TYPE_CHECKING:
    from thor_tir.grading.grader import Grader
    from thor_tir.grading.types import Submission
    from thor_tir.verdict import Strictness


@dataclass(frozen=True, kw_only=True)
class GradeFile:
    """Grade answers against references, a pair a line, within bounds. Exit status 0 whatever the verdicts."""

    jsonl: Path
    """Pairs, one JSON object a line: id, gold, pred, kind (`answer`, or `response`, in which an answer is found)."""
    output: Path
    """File of the verdicts, in the same order: id, outcome (correct, wrong, unscored), extracted, reason, seconds."""
    strictness: Literal["strict", "lenient"] | None = None
    """strict (the default): as for a reward, the last box only; lenient: as for evaluation."""
    strict: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as `--strictness strict`."""
    lenient: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The same as `--strictness lenient`."""
    workers: int = min(4, os.cpu_count() or 1)
    """Grading processes; one more is kept warm."""
    timeout_s: float = 5.0
    """Seconds within which each verdict comes, whatever the answer."""
    judge: Annotated[JudgeOptions, tyro.conf.arg(name="")] = NO_JUDGE
    """For lenient grading only."""
    judge_journal: Path = Path("judge.jsonl")
    """Place that keeps the judge's replies, so that no question is paid for twice."""

    def __post_init__(self) -> None:
        chosen = {self.strictness, "strict" if self.strict else None, "lenient" if self.lenient else None} - {None}
        if len(chosen) > 1:
            raise ValueError("choose one of --strict and --lenient, found both")
        if self.workers < 1 or self.timeout_s <= 0:
            raise ValueError(f"--workers and --timeout-s must be positive, found {self.workers} and {self.timeout_s}")
        if self.judge.judge_model and "lenient" not in chosen:
            raise ValueError("--judge-model needs --lenient: a judge can be talked into an opinion")

    @property
    def chosen(self) -> "Strictness":
        """The strictness that the three options amount to."""
        from thor_tir.verdict import Strictness

        return Strictness.LENIENT if self.lenient or self.strictness == "lenient" else Strictness.STRICT

    def run(self) -> None:
        """Grade and write. Raises UsageError for a malformed line before anything is written."""
        from thor_tir.grading.grader import Grader
        from thor_tir.grading.judge import opened
        from thor_tir.grading.workers.process import GraderLimits
        from thor_tir.storage.journal import check_place

        pairs = read_pairs(self.jsonl)
        check_place(self.output, besides=[self.jsonl])
        limits = GraderLimits(timeout_s=self.timeout_s)
        reporter = ConsoleReporter()
        with (
            opened(self.judge.config(self.judge_journal)) as judge,
            Grader(limits, num_processes=self.workers, strictness=self.chosen, judge=judge) as grader,
        ):
            _grade(pairs, grader, self.output, reporter)


class _VerdictRow(TypedDict):
    """A line of the file of verdicts."""

    id: str | int
    """The pair's id."""
    outcome: str
    """The outcome."""
    extracted: str | None
    """The answer that was found."""
    reason: str
    """The reason."""
    seconds: float
    """Seconds that the verdict took."""


def _grade(pairs: "list[tuple[str | int, Submission]]", grader: "Grader", out: Path, reporter: ConsoleReporter) -> None:
    from thor_tir.grading.references import check_references
    from thor_tir.grading.types import grader_version
    from thor_tir.storage.journal import write_atomically

    for fault in check_references(submission.problem for _, submission in pairs):
        reporter.say(fault.sentence(len(pairs)))
    rows: list[_VerdictRow] = []
    began = perf_counter()
    with reporter.stage("graded", len(pairs)) as bar:
        for (id, _), graded in zip(pairs, grader.iter_graded(s for _, s in pairs), strict=True):
            verdict, seconds = graded.verdict, round(graded.seconds, 6)
            rows.append(
                {
                    "id": id,
                    "outcome": verdict.outcome,
                    "extracted": verdict.extracted,
                    "reason": verdict.reason,
                    "seconds": seconds,
                }
            )
            bar.advance()
    # ASCII, since an answer may hold half of a surrogate pair, which no encoding writes.
    write_atomically(out, "".join(json.dumps(row) + "\n" for row in rows))
    outcomes = Counter(row["outcome"] for row in rows)
    reporter.say(", ".join(f"{name} {outcomes[name]}" for name in ("correct", "wrong", "unscored")))
    paths = [f"{path} {tally.count} ({tally.seconds:.2f} s)" for path, tally in grader.stats.items() if tally.count]
    if rows:
        reporter.say(f"{', '.join(paths)}; slowest {max(row['seconds'] for row in rows):.2f} s")
    reporter.say(f"{grader.strictness}, {grader_version()}; {perf_counter() - began:.1f} s; verdicts in {out}")


def read_pairs(path: Path) -> "list[tuple[str | int, Submission]]":
    """Ids and submissions of a file of pairs. Raises UsageError that names the line."""
    if not path.is_file():
        raise UsageError(f"no file of pairs at {path}; expected JSONL with id, gold, pred and kind on each line")
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    pairs = [_pair(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not pairs:
        raise UsageError(f"{path} holds no pairs; expected id, gold, pred and kind on each line")
    return pairs


def _pair(line: bytes, where: str) -> "tuple[str | int, Submission]":
    from thor_tir.grading.types import Submission, SubmissionKind
    from thor_tir.problem import Problem

    try:
        row = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where}: not valid JSON in UTF-8 ({error})") from error
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected a JSON object, found {type(row).__name__}")
    if (kind := row.get("kind")) not in tuple(SubmissionKind):
        raise UsageError(f"{where}: `kind` is answer or response, found {kind!r}")
    id, question = row.get("id"), row.get("question", "")
    if not isinstance(id, str | int) or isinstance(id, bool):
        raise UsageError(f"{where}: `id` must be a string or an integer, found {id!r}")
    gold, pred = (_text(row.get(name), f"{where}: `{name}`") for name in ("gold", "pred"))
    problem = Problem(id=str(id), question=str(question), answer=gold, source="")
    return id, Submission(problem=problem, text=pred, kind=SubmissionKind(kind))


def _text(value: object, what: str) -> str:
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise UsageError(f"{what} must be a string or a number, found {value!r:.80}")
    return str(value)
