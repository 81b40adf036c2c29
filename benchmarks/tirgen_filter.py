"""How long the filter takes and how much memory it needs on a raw file of many long trajectories.

    .venv/bin/python benchmarks/tirgen_filter.py --rows 20000 --tokens 2000

The rows are synthetic: two calls each, of two attempts a question, prose of the given length, a tenth of them wrong.
"""

import argparse
import json
import resource
import tempfile
from dataclasses import asdict
from pathlib import Path
from random import Random
from time import perf_counter, process_time

from thor_tir.app.stages.tirgen_data import filter_raw
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import Attempt, attempt_to_json
from thor_tir.tirgen.selection import FilterConfig
from thor_tir.trajectory import Action, Author, Finish, Observation, Span, Step, Thought, Trajectory
from thor_tir.verdict import Outcome, Verdict

TEXT = "let us see whether the sum of these two numbers divides their product and what is left when it does not"
WORDS = TEXT.split(" ")
IDS = range(150_000)
CODE = "from math import gcd\nprint(gcd({a}, {b}))\n"


def raw_row(number: int, tokens: int, random: Random) -> dict[str, object]:
    """One attempt: its tokens are random ids, one word of prose each."""

    def span(length: int, author: Author = Author.MODEL) -> Span:
        return Span(token_ids=tuple(random.choices(IDS, k=length)), author=author)

    def thought(length: int) -> Thought:
        return Thought(text=" ".join(random.choices(WORDS, k=length)) + "\n", span=span(length))

    def call() -> Step:
        code = CODE.format(a=random.randrange(10**6), b=random.randrange(10**6))
        result = ExecutionResult(status=Status.OK, stdout="1\n", exit_code=0)
        seen = Observation(text="1", span=span(8, Author.ENVIRONMENT), result=result)
        return Step(thought=thought(tokens // 3), action=Action(code=code, span=span(40)), observation=seen)

    question = number // 2
    problem = Problem(id=f"q{question}", question=f"What about {question}?", answer="1", source=f"made/{question % 7}")
    end = Thought(text=f"{thought(tokens // 3).text}So \\boxed{{1}}.", span=span(tokens // 3))
    trajectory = Trajectory(
        id=f"q{question}/{number % 2}",
        problem_id=problem.id,
        prompt=span(60, Author.PROMPT),
        steps=(call(), call(), Step(thought=end)),
        finish=Finish.ENDED,
    )
    outcome = Outcome.WRONG if random.random() < 0.1 else Outcome.CORRECT
    verdict = Verdict(outcome=outcome, extracted="1", reason="")
    attempt = Attempt(problem=problem, trajectory=trajectory, verdict=verdict)
    return {"key": trajectory.id, **attempt_to_json(attempt), "critic": {"rewritten": 2}, "problem": asdict(problem)}


def peak_mib() -> float:
    """Of this process, since it began."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--tokens", type=int, default=2000, help="of a trajectory's prose")
    given = options.parse_args()
    random = Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "raw.jsonl"
        with path.open("w", encoding="utf-8") as out:
            for number in range(given.rows):
                out.write(json.dumps(raw_row(number, given.tokens, random)) + "\n")
        size, before, began, spent = path.stat().st_size, peak_mib(), perf_counter(), process_time()
        dataset = filter_raw([path], FilterConfig(max_share=1), Path(folder))
        seconds, spent, after = perf_counter() - began, process_time() - spent, peak_mib()
        with dataset.open("rb") as rows:
            kept = sum(1 for _ in rows)
    print(f"{given.rows:,} rows, {size / 2**20:,.0f} MiB; {kept:,} kept")
    print(f"{seconds:.1f} s of wall clock, {spent:.1f} s of CPU: {1000 * spent / given.rows:.2f} ms a row")
    print(f"peak of the process {after:,.0f} MiB, {before:,.0f} MiB of it before the filter began")


if __name__ == "__main__":
    main()
