"""A run folder as a real run leaves it, made up for the tests of the report."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from thor_tir.eval.transcript import ShownRepair, exhibit, step_segments
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

HOSTILE = "</script><img src=x onerror=\"document.title='owned'\">{{ 7*7 }}\u2028<!--<script>"


NOTHING_LOST = {"asked": 500, "machine": {}, "unscored": 0, "no_room": 0}
ENDS = {"correct": 300, "wrong": 200, "truncated": 0, "no_room": 0, "no_answer": 0, "unscored": 0, "dropped": 0}


def result(name: str, accuracy: float, *, ci95: Sequence[float] = (0, 1), **entry: Any) -> dict[str, Any]:
    """The results of one row, as far as a report shows them."""
    families = entry.pop("families", ("gcd", "lcm"))
    usual = {
        "title": "gym",
        "n": 500,
        "n_scored": 500,
        "lost": NOTHING_LOST,
        "ends": ENDS,
        "call_success": None,
        "calls": 1.0,
        "tokens_kept": 0,
        "tokens_discarded": 0,
    }
    by_source = {family: {"value": 0.5, "ci95": [0.4, 0.6], "n": 250} for family in families}
    avg = {"value": accuracy, "ci95": list(ci95), "n": 500}
    return {"schema": 1, "name": name, "sets": [{"avg": avg, "by_source": by_source, **usual, **entry}]}


RUNS = [
    result("base", 0.31, ci95=(0.27, 0.35), call_success={"value": 0.62}, calls=1.4, tokens_kept=180),
    result("SFT", 0.55, ci95=(0.51, 0.59), call_success={"value": 0.81}, calls=1.7, tokens_kept=212),
    result("RL", 0.72, ci95=(0.68, 0.76), calls=1.9, tokens_kept=1200, tokens_discarded=40),
]
CODE = "from math import gcd\nprint(gcd(84, 36) < 13)"


def model(length: int) -> Span:
    return Span(token_ids=(2,) * length, author=Author.MODEL, logprobs=(-0.5,) * length)


def call_step(text: str, status: Status, output: str) -> Step:
    result = ExecutionResult(status=status, stdout=output, seconds=0.01)
    observation = Observation(text=output, span=Span(token_ids=(3,), author=Author.ENVIRONMENT), result=result)
    return Step(
        thought=Thought(text=text, span=model(9)), action=Action(code=CODE, span=model(12)), observation=observation
    )


def stored(
    index: int, *, stage: str, outcome: Outcome, text: str = "Take the gcd.", failed: bool = False
) -> dict[str, Any]:
    """One line of `trajectories.jsonl`: a call, its repair where it failed, and a closing thought."""
    status = Status.RUNTIME if failed else Status.OK
    output = "NameError: name 'gcd' is not defined" if failed else "12"
    trajectory = Trajectory(
        id=f"p{index}/0",
        problem_id=f"p{index}",
        prompt=Span(token_ids=(1,), author=Author.PROMPT),
        steps=(call_step(text, status, output), Step(thought=Thought(text=r"So \boxed{12}.", span=model(5)))),
        finish=Finish.ENDED,
    )
    again = step_segments(call_step("Import it first.", Status.OK, "12"), lambda ids: f"```python\n{CODE}\n```")
    repairs = [ShownRepair(call=0, segments=again, reward=1, status=Status.OK)] if failed else []
    problem = Problem(id=f"p{index}", question=f"{text} What is gcd(84, 36)?", answer="12", source="reasoning_gym/gcd")
    verdict = Verdict(outcome=outcome, extracted="12", reason="")
    decode = {1: "<|system|>You may run Python.", 2: f"```python\n{CODE}\n```", 3: output}
    return exhibit(
        problem, trajectory, stage=stage, verdict=verdict, decode=lambda ids: decode[ids[0]], repairs=repairs
    )


def rounds(count: int) -> list[dict[str, Any]]:
    """Noisy but rising curves, as a trainer would write them."""
    rng = random.Random(0)
    return [
        {
            "step": i,
            "answer_reward": 0.4 + 0.35 * i / count + rng.gauss(0, 0.05),
            "call_success": 0.7 + 0.25 * i / count + rng.gauss(0, 0.03),
            "step_reward": 0.5 + 0.2 * i / count,
            "response_tokens": 220 + 40 * rng.random(),
            "calls": 1.5 + 0.3 * rng.random(),
            "rows_episode": 128,
            "rows_step": 24 + i % 9,
            "dropped": {"equal rewards": 60 + i % 12, "too long": i % 4, "sandbox fault": int(i == 3)},
            "loss": {"episode": rng.gauss(0, 0.01), "episode_nll": 0.2, "step": rng.gauss(0, 0.02)},
            "grad_norm": 0.4 + 0.1 * rng.random(),
            "seconds": {"rollout": 20 + rng.random(), "tools": 3, "train": 14, "grade": 1},
        }
        | ({"validation": 0.5 + 0.2 * i / count} if i % 10 == 0 else {})
        for i in range(count)
    ]


SUMMARY = {
    "paired": [
        {"name": "hierarchical RL - SFT", "difference": 0.17, "ci95": [0.13, 0.21]},
        {"name": "RL - RL without the step level", "difference": -0.004, "ci95": [-0.03, 0.022]},
    ],
    "chi_squared": {"table": [[310, 90], [40, 60]], "chi2": 54.6, "p": 1.5e-13, "phi": 0.33, "odds_ratio": 5.17},
    "failure_classes": {
        "before RL": {"NameError": 40, "SyntaxError": 25, "timeout": 6},
        "after RL": {"NameError": 9, "timeout": 5},
    },
    "seconds": {"tirgen": 640.2, "sft": 420, "rl": 2850, "eval": 190},
    "machine": "two CPU cores",
    "seed": 7,
    "config": {"rl": {"group_size": 8}},
    "versions": {"torch": "2.13.0"},
}
FUNNEL = {
    "stages": [
        {"name": "generated", "kept": 1200, "rejected": {}},
        {"name": "format", "kept": 1010, "rejected": {"no boxed answer": 150, "odd fences": 40}},
        {"name": "code quality", "kept": 640, "rejected": {"trivial code": 370}},
    ]
}


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_run(run: Path, *, num_trajectories: int = 12, num_rounds: int = 60, text: str = "Take the gcd.") -> Path:
    """A run folder with every optional file."""
    outcomes = list(Outcome)
    write_lines(
        run / "trajectories.jsonl",
        [
            stored(i, stage=("eval/rl", "rl/step 12")[i % 2], outcome=outcomes[i % 3], text=text, failed=i % 4 == 0)
            for i in range(num_trajectories)
        ],
    )
    (run / "results.json").write_text(json.dumps({"schema": 1, "runs": RUNS}))
    (run / "summary.json").write_text(json.dumps(SUMMARY))
    write_lines(run / "rl" / "metrics.jsonl", rounds(num_rounds))
    losses = [{"step": i, "loss": 2 / (1 + i / 9), "lr": 1e-4 * (1 - i / 80)} for i in range(80)]
    write_lines(
        run / "sft" / "metrics.jsonl",
        [{**r, "validation_loss": r["loss"] + 0.05} if r["step"] % 20 == 0 else r for r in losses],
    )
    (run / "tirgen").mkdir()
    (run / "tirgen" / "funnel.json").write_text(json.dumps(FUNNEL))
    return run
