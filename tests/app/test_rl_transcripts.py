"""Trajectories of training rounds as people read them."""

import asyncio
import json
from pathlib import Path

from thor_tir.app.stages.rl import exhibit_round
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.problem import Problem
from thor_tir.rl.collect import RoundSamples
from thor_tir.rl.config import StepConfig
from thor_tir.rl.step import queries, rewarded, sample_repair
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.rollout.sample_many import Attempt
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

PROBLEM = Problem(id="p", question="What is 20 + 57?", answer="77", source="")
GOOD, BAD = "```python\nprint(77)\n```\n", "```python\nprint(x)\n```\n"
DIALECT = Dialect(tiny_tokenizer())


def world_that_says(*replies: str) -> Agent:
    sandbox = ToldSandbox({"print(77)": printed("77"), "print(x)": raised()})
    return Agent(policy=ScriptedPolicy(tiny_tokenizer(), list(replies)), sandbox=sandbox, dialect=DIALECT)


def attempt(id: str, *replies: str) -> Attempt:
    agent = world_that_says(*replies)
    draft = Draft(id=id, problem_id="p", prompt=DIALECT.prompt(PROBLEM.question), seed=0)
    trajectory = asyncio.run(rollout(draft, agent, RolloutConfig(stop_at_failure=True)))
    return Attempt(
        problem=PROBLEM, trajectory=trajectory, verdict=Verdict(outcome=Outcome.WRONG, extracted=None, reason="")
    )


def a_round() -> RoundSamples:
    attempts = [attempt(f"round5/0/{n}", "So 78.") for n in range(6)]
    attempts += [attempt(f"round5/1/{n}", f"We print.\n{BAD}") for n in range(2)]
    asked = queries(attempts, StepConfig(suffix_tokens=3), max_queries=9, seed=0)
    again = world_that_says(*[f"\n{GOOD}"] * len(asked))
    repairs = [
        (query, rewarded({query.repair_id(0): asyncio.run(sample_repair(query, 0, again, RolloutConfig(), seed=0))}))
        for query in asked
    ]
    return RoundSamples(groups=[attempts], repairs=repairs, num_lost=0, rollout_s=0.0, repair_s=0.0, grade_s=0.0)


def written(folder: Path, **options) -> list[dict]:
    journal = Journal(folder / "trajectories.jsonl")
    exhibit_round(4, a_round(), journal, DIALECT.decode, **options)
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]


def test_half_of_a_draw_are_trajectories_with_repairs_and_a_round_that_is_done_again_adds_nothing(tmp_path):
    lines = written(tmp_path, count=4)
    assert len(lines) == 4
    assert sorted(len(line["repairs"]) for line in lines) == [0, 0, 1, 1]
    assert {line["stage"] for line in lines} == {"RL round 5"}
    assert written(tmp_path, count=4) == lines


def test_where_no_trajectory_has_a_repair_the_draw_is_full_all_the_same(tmp_path):
    assert len(written(tmp_path, count=100)) == 8
