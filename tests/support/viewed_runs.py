"""Run folders for the tests of `thor view`, written by the code that writes real ones, in the words of nano/actor."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from thor_tir.engines.loading import EMBEDDED
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem, write_problems
from thor_tir.rl.step import StepPrompt, repair_to_json
from thor_tir.rollout.backtrack import failed_prefix
from thor_tir.rollout.sample_many import Attempt, attempt_to_json
from thor_tir.storage.journal import Journal
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

HOSTILE = (
    "</pre></script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
    "\x1b[2J\x1b]0;owned\x07"
    "\u202egnp.exe\u2028{{7*7}}\x00 $\\href{javascript:alert(1)}{x}$ \ud83d"
)
"""Text that would steer a page, a terminal or a reader's eye if it were more than text."""
OPTIONS = {
    "actor": "nano/actor",
    "rl": {"step": {"suffix_tokens": 3, "cut": "suffix", "reward": "runs"}, "loss": {"algorithm": "token-mean"}},
}


@cache
def _tokenizer() -> Any:
    return Tokenizer.from_file(str(EMBEDDED["nano/actor"] / "tokenizer.json"))


def span(text: str, author: Author = Author.MODEL) -> Span:
    ids = tuple(_tokenizer().encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids)
    return Span(
        token_ids=ids,
        author=author,
        logprobs=tuple(-0.25 * (n % 9) for n in range(len(ids))) if author is Author.MODEL else None,
    )


def call(thought: str, code: str, status: Status = Status.OK, output: str = "12", error: str | None = None) -> Step:
    result = ExecutionResult(
        status=status, stdout=output, error=error, exit_code=0 if status is Status.OK else 1, seconds=0.002
    )
    return Step(
        thought=Thought(text=thought, span=span(thought)),
        action=Action(code=code, span=span(f"```python\n{code}```\n")),
        observation=Observation(
            text=output, span=span(f"```output\n{output}\n```\n", Author.ENVIRONMENT), result=result
        ),
    )


def words(text: str) -> Step:
    return Step(thought=Thought(text=text, span=span(text)))


def problem(name: str) -> Problem:
    return Problem(
        id=name,
        question=f"Find the Greatest Common Divisor (GCD) of 84 and 36, {name}.",
        answer="12",
        source="reasoning_gym/gcd",
    )


def trajectory(id: str, asked: Problem, steps: Sequence[Step], finish: Finish = Finish.ENDED) -> Trajectory:
    return Trajectory(
        id=id,
        problem_id=asked.id,
        prompt=span(asked.question, Author.PROMPT),
        steps=tuple(steps),
        finish=finish,
        policy_version=1,
    )


RIGHT = (call("I compute it.\n", "import math\nprint(math.gcd(84, 36))\n"), words("So it is \\boxed{12}."))
GOOD_THOUGHT = "First I need the GCD of 84 and 36.\n"
FAILED = call(GOOD_THOUGHT, "print(gcd(84, 36))\n", Status.RUNTIME, "NameError: name 'gcd' is not defined", "NameError")
WRONG = (call("I guess.\n", "print(84 - 36)\n", output="48"), words("So it is \\boxed{48}."))


def attempt(
    id: str, asked: Problem, steps: Sequence[Step], outcome: Outcome, answer: str | None, finish: Finish = Finish.ENDED
) -> Attempt:
    verdict = Verdict(outcome=outcome, extracted=answer, reason="made up for a test")
    return Attempt(problem=asked, trajectory=trajectory(id, asked, steps, finish), verdict=verdict)


def add_round(folder: Path, number: int, *, text: str = "") -> None:
    """One round, counted from 0: two right attempts, one wrong, one whose failed call is repaired four times."""
    asked = problem(f"gcd-{number}")
    rollouts = Journal(folder / "rl" / "rollouts.jsonl")
    failed = attempt(f"round{number + 1}/0/3", asked, [FAILED], Outcome.WRONG, None, Finish.FAILED_CALL)
    right = RIGHT if not text else (RIGHT[0], words(text + " \\boxed{12}."))
    made = [
        attempt(f"round{number + 1}/0/0", asked, right, Outcome.CORRECT, "12"),
        attempt(f"round{number + 1}/0/1", asked, RIGHT, Outcome.CORRECT, "12"),
        attempt(f"round{number + 1}/0/2", asked, WRONG, Outcome.WRONG, "48"),
        failed,
    ]
    for each in made:
        rollouts.add(each.trajectory.id, attempt_to_json(each))
    query = StepPrompt(id=f"round{number + 1}/0/3/step0", prefix=failed_prefix(failed.trajectory, 0, suffix_tokens=3))
    for repair in range(4):
        good = call("and 36.\n", "import math\nprint(math.gcd(84, 36))\n")
        bad = call("and 36!\n", "print(gcd 84)\n", Status.SYNTAX, "SyntaxError: invalid syntax", "SyntaxError")
        id = query.repair_id(repair)
        rollouts.add(id, repair_to_json(query, id, good if repair < 2 else bad))
    updates = Journal(folder / "rl" / "updates.jsonl")
    rows = [a.trajectory.id for a in made[:3]] + [query.repair_id(n) for n in range(4)]
    updates.add(str(number + 1), {"round": number + 1, "rows": rows, "is_updated": True, "loss": 0.1, "grad_norm": 1.0})
    drift = {"low_share": 0.01 * number, "high_share": 0.02, "mean_log_ratio": 0.001, "approx_kl": 0.0001 * number}
    level = {
        "reward": 0.5,
        "pass_rate": 0.75,
        "entropy": 0.4 / (number + 1),
        "groups": 1,
        "groups_kept": 1,
        "drift": drift,
    }
    record = {"step": number + 1, "answer_reward": 0.5 + 0.01 * number, "levels": {"episode": level, "step": level}}
    Journal(folder / "rl" / "metrics.jsonl").add(str(number), record)


def training_run(folder: Path, *, rounds: int = 3, text: str = "") -> Path:
    """A run of reinforcement learning whose first attempt of the last round says `text`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(OPTIONS))
    for number in range(rounds):
        add_round(folder, number, text=text if number == rounds - 1 else "")
    return folder


def evaluation_run(folder: Path, *, problems: int = 3) -> Path:
    """An evaluation with four attempts at each problem: right, right, wrong, and one that self-correction mended."""
    asked = [problem(f"p-{n}") for n in range(problems)]
    write_problems(folder / "problems" / "toy.jsonl", asked)
    manifest = {"schema": 1, "name": "toy", "model": "nano/actor", "samples": 4, "seed": 0, "select": None, "sets": []}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    attempts = Journal(folder / "attempts" / "toy.jsonl")
    mended = Step(
        **{name: getattr(RIGHT[0], name) for name in ("thought", "action", "observation")}, discarded=(FAILED,)
    )
    for each in asked:
        made = [(RIGHT, "12"), (RIGHT, "12"), (WRONG, "48"), ((mended, RIGHT[1]), "12")]
        for n, (steps, answer) in enumerate(made):
            outcome = Outcome.CORRECT if answer == "12" else Outcome.WRONG
            row = attempt_to_json(attempt(f"{each.id}/{n}", each, steps, outcome, answer))
            attempts.add(f"{each.id}/{n}", {**row, "seconds": 0.5 + n})
    return folder


def many_trajectories(path: Path, count: int) -> None:
    """A journal of that many attempts, each with some hundred tokens and their log-probabilities."""
    path.parent.mkdir(parents=True, exist_ok=True)
    asked = problem("gcd-many")
    rows = [
        {
            **attempt_to_json(
                attempt("X", asked, [*steps, *[words("I check it once more. " * 20)] * 2], outcome, answer)
            ),
            "problem": asdict(asked),
        }
        for steps, outcome, answer in (
            (RIGHT, Outcome.CORRECT, "12"),
            (WRONG, Outcome.WRONG, "48"),
            ([FAILED], Outcome.WRONG, None),
        )
    ]
    lines = [json.dumps({"key": "KEY", **row}, ensure_ascii=False) + "\n" for row in rows]
    with path.open("w", encoding="utf-8") as file:
        for n in range(count):
            file.write(
                lines[n % 3]
                .replace('"KEY"', f'"round{n // 1000 + 1}/{n % 1000}/0"')
                .replace('"id": "X"', f'"id": "round{n // 1000 + 1}/{n % 1000}/0"')
            )
