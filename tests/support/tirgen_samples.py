"""Raw samples made by hand: one that passes every rule, and what is asked to differ from it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from thor_tir.dialect.dialect import Thinking
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt, attempt_to_json
from thor_tir.tirgen.rules import Candidate
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

MODEL = Span(token_ids=(2,), author=Author.MODEL)
OUTPUT = Span(token_ids=(3,), author=Author.ENVIRONMENT)
CORRECT = Verdict(outcome=Outcome.CORRECT, extracted="77", reason="")
WRONG = replace(CORRECT, outcome=Outcome.WRONG)
CALL = "print(20 + 57)"


def call(code: str, status: Status) -> Step:
    return Step(
        thought=Thought(text="We compute.\n", span=MODEL),
        action=Action(code=code, span=MODEL),
        observation=Observation(text="77", span=OUTPUT, result=ExecutionResult(status=status, stdout="77\n")),
    )


def candidate(
    *codes: str,
    question: str = "q",
    number: int = 0,
    status: Status = Status.OK,
    answer: str = "So \\boxed{77}.",
    finish: Finish = Finish.ENDED,
    verdict: Verdict = CORRECT,
    rate: float | None = 0.0,
    thinking: Thinking = Thinking.NONE,
) -> Candidate:
    """A sample that passes every rule unless told otherwise."""
    steps = [call(code, status) for code in codes or (CALL,)]
    trajectory = Trajectory(
        id=f"{question}/{number}",
        problem_id=question,
        prompt=Span(token_ids=(1,), author=Author.PROMPT),
        steps=(*steps, Step(thought=Thought(text=answer, span=MODEL))),
        finish=finish,
    )
    return Candidate(
        trajectory=trajectory,
        verdict=verdict,
        no_tools_pass_rate=rate,
        question=f"What is asked in {question}?",
        thinking=thinking,
    )


def without_calls() -> Candidate:
    whole = candidate()
    return replace(whole, trajectory=replace(whole.trajectory, steps=whole.trajectory.steps[-1:]))


def problem_of(sample: Candidate) -> Problem:
    id = sample.trajectory.problem_id
    return Problem(id=id, question=sample.question, answer="77", source=f"made/{id[0]}")


def raw_row(sample: Candidate, **told: object) -> dict[str, object]:
    """A row of raw.jsonl."""
    problem = problem_of(sample)
    attempt = Attempt(problem=problem, trajectory=sample.trajectory, verdict=sample.verdict)
    rest = {"critic": {"rewritten": len(sample.trajectory.calls)}, "seed": 7, "problem": asdict(problem)}
    return {"key": sample.trajectory.id, **attempt_to_json(attempt), **rest, **told}


def no_tools_row(question: str, number: int, *, is_right: bool) -> dict[str, object]:
    """A row of no_tools.jsonl."""
    return {
        "key": f"{question}/no-tools{number}",
        "problem_id": question,
        "outcome": "correct" if is_right else "wrong",
    }


def write_lines(path: Path, rows: Iterable[object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
