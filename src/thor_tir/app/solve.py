"""One question, one transcript; and transcripts of what a run has stored."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from thor_tir.app.config import EvalConfig, ResourceConfig
from thor_tir.app.runtime import dialect_of, open_runtime
from thor_tir.console import ConsoleReporter
from thor_tir.dialect.observation import ObservationConfig
from thor_tir.dialect.prompts import TOOLS
from thor_tir.engines.openai_api.policy import ServedAs
from thor_tir.errors import UsageError
from thor_tir.eval.folder import EvalFolder
from thor_tir.eval.transcript import (
    Exhibit,
    Segment,
    SegmentKind,
    readable_segments,
    rendered_transcript,
    segments_of,
    stored_attempts,
)
from thor_tir.execution import Status
from thor_tir.grading.extract import extract_answer
from thor_tir.inference.best_of_n import choose, selector
from thor_tir.inference.self_correction import self_correction
from thor_tir.problem import Problem, digest
from thor_tir.rollout.sample_many import Attempt, AttemptRequest, attempt
from thor_tir.seeds import seed_of
from thor_tir.storage.trajectory_json import trajectory_from_json
from thor_tir.trajectory import Decode
from thor_tir.verdict import Outcome, Verdict

TRAINED = (Path("runs/quickstart/rl/model"), Path("runs/quickstart/sft/model"))
"""Looked for in this order when no model is named."""
EMBEDDED = "nano/actor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question, and the model that is asked."""

    text: str
    """Question as the user typed it."""
    model: str = ""
    """Model by name or address; empty for the newest trained model of the quickstart, else the embedded one."""
    served: ServedAs = field(default_factory=ServedAs)
    """Model, tokenizer and key of an address."""
    reasoning: bool = False
    """True for a reasoning model, whose chat template opens a thinking turn."""
    end_tokens: tuple[str, ...] = ()
    """Further tokens that end the model's turn."""
    chat_template: str = ""
    """Chat template in place of the model's own."""
    observation: ObservationConfig = field(default_factory=ObservationConfig)
    """Form in which the model is shown what a program printed."""
    attempts: int = 1
    """Number of attempts; a single one is made with self-correction, several without."""
    select: str = "pass-rate"
    """Name of the selector that chooses among several attempts."""
    seed: int = 0
    """Seed of the attempts and of ties among them."""


def solve(question: Question, config: EvalConfig, reporter: ConsoleReporter) -> None:
    """Sample, choose, print. Raises UsageError for no question, an unknown selector or a model that does not load."""
    if not question.text.strip():
        raise UsageError("the question is empty")
    if question.attempts < 1:
        raise UsageError(f"attempts is {question.attempts}; at least one is needed")
    selector(question.select)
    name = question.model or usual_model()
    reporter.say(f"model: {name}")
    question = replace(question, model=name)
    chosen, decode = asyncio.run(_answer(question, config, reporter))
    segments = segments_of(chosen.trajectory, decode)
    reporter.show(rendered_transcript(segments, answer=chosen.verdict.extracted))


def usual_model() -> str:
    """The model that is asked where none is named."""
    return next((str(path) for path in TRAINED if path.is_dir()), EMBEDDED)


async def _answer(question: Question, config: EvalConfig, reporter: ConsoleReporter) -> tuple[Attempt, Decode]:
    problem = Problem(id=digest(question.text), question=question.text, answer="", source="command line")
    async with (
        open_runtime(ResourceConfig(end_token=question.end_tokens, chat_template=question.chat_template)) as runtime,
        runtime.load(question.model, question.served, reporter, thinks=question.reasoning) as loaded,
    ):
        dialect = dialect_of(loaded.tokenizer, TOOLS, reasoning=question.reasoning, observation=question.observation)
        setup = replace(runtime.setup(loaded.policy, dialect, config.rollout), grade=_ungraded)
        if question.attempts == 1:
            setup = replace(setup, repair=self_correction(setup.agent, config.rollout, config.correction))
        requests = [
            AttemptRequest(id=str(k), problem=problem, seed=seed_of(question.seed, k)) for k in range(question.attempts)
        ]
        candidates = await asyncio.gather(*(attempt(request, setup) for request in requests))
    return choose(candidates, selector(question.select), seed=question.seed).chosen, dialect.decode


async def _ungraded(problem: Problem, text: str) -> Verdict:
    """There is no reference to compare with."""
    return Verdict(outcome=Outcome.UNSCORED, extracted=extract_answer(text), reason="no reference")


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
