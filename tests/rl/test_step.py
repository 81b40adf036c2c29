"""The step level: which failed calls are repaired, from where, and what a repair earns."""

import asyncio
from collections import Counter

import pytest

from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.errors import SandboxUnavailable
from thor_tir.execution import ExecutionResult, Status
from thor_tir.problem import Problem
from thor_tir.rl.config import StepConfig
from thor_tir.rl.step import (
    StepPrompt,
    StepSample,
    queries,
    repair_from_json,
    repair_to_json,
    rewarded,
    sample_repair,
    step_rows,
)
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, rollout
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict
from tiny_models import tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised

PROBLEM = Problem(id="p", question="What is 20 + 57?", answer="77", source="")
GOOD, BAD = "```python\nprint(77)\n```\n", "```python\nprint(x)\n```\n"
RESULTS = {"print(77)": printed("77"), "print(x)": raised()}


def world_that_says(*replies: str, sandbox: ToldSandbox | None = None) -> Agent:
    tokenizer = tiny_tokenizer()
    return Agent(
        policy=ScriptedPolicy(tokenizer, list(replies)),
        sandbox=sandbox or ToldSandbox(RESULTS),
        dialect=Dialect(tokenizer),
    )


def trajectory(*replies: str, id: str = "t") -> Trajectory:
    agent = world_that_says(*replies)
    draft = Draft(id=id, problem_id="p", prompt=agent.dialect.prompt(PROBLEM.question), seed=0)
    return asyncio.run(rollout(draft, agent, RolloutConfig()))


def attempts(*trajectories: Trajectory) -> list[Attempt]:
    verdict = Verdict(outcome=Outcome.WRONG, extracted=None, reason="")
    return [Attempt(problem=PROBLEM, trajectory=t, verdict=verdict) for t in trajectories]


def asked(*trajectories: Trajectory, max_queries: int = 99, seed: int = 0, suffix_tokens: int = 4) -> list[StepPrompt]:
    config = StepConfig(suffix_tokens=suffix_tokens)
    return queries(attempts(*trajectories), config, max_queries=max_queries, seed=seed)


def repaired(query: StepPrompt, *replies: str, number: int = 0, **config) -> StepSample:
    agent = world_that_says(*replies)
    step = asyncio.run(sample_repair(query, number, agent, RolloutConfig(**config), seed=0))
    (sample,) = rewarded({query.repair_id(number): step})
    return sample


FAILED = trajectory(f"First we add.\n{GOOD}", f"Then we print once more.\n{BAD}", f"Again.\n{BAD}", "So.")
FINE = trajectory(f"First we add.\n{GOOD}", "So \\boxed{77}.", id="fine")


def test_the_first_failed_call_of_each_trajectory_is_the_query_and_success_is_none():
    assert [query.id for query in asked(FAILED, FINE, trajectory("So 77.", id="words"))] == ["t/step1"]


def test_the_cut_lies_inside_the_failing_thought():
    (query,) = asked(FAILED, suffix_tokens=4)
    failing = FAILED.steps[1].thought.span
    before = [FAILED.prompt, *FAILED.steps[0].spans]
    assert query.prefix.token_ids == tuple(t for span in before for t in span.token_ids) + failing.token_ids[:-4]
    assert (query.prefix.parent, query.prefix.call) == ("t", 1)


def test_a_thought_shorter_than_the_suffix_goes_whole_and_nothing_before_it():
    (query,) = asked(FAILED, suffix_tokens=10_000)
    before = [FAILED.prompt, *FAILED.steps[0].spans]
    assert query.prefix.token_ids == tuple(token for span in before for token in span.token_ids)


def test_queries_are_capped_by_a_draw_that_the_seed_alone_decides():
    many = [trajectory(f"Add.\n{BAD}", "So.", id=f"t{n}") for n in range(10)]
    drawn = [[query.id for query in asked(*many, max_queries=3, seed=seed)] for seed in range(5)]
    assert all(len(set(ids)) == 3 for ids in drawn)
    assert drawn[0] == [query.id for query in asked(*many, max_queries=3, seed=0)]
    assert len({tuple(ids) for ids in drawn}) > 1
    assert len(asked(*many, max_queries=10)) == 10
    assert asked(*many, max_queries=0) == []


@pytest.mark.parametrize(
    ("reply", "reward"),
    [
        (f"once more.\n{GOOD}", 1.0),
        (f"once more.\n{BAD}", 0.0),
        ("once more: it is \\boxed{77}.", 0.0),  # right, but no call
        ("once more.\n```python\nprint(77)", 0.0),  # never closed
        ("", 0.0),
    ],
)
def test_only_an_executed_and_successful_call_is_rewarded(reply, reward):
    (query,) = asked(FAILED)
    assert repaired(query, reply).reward == reward


def test_a_repair_is_one_think_act_observe_loop_from_the_prefix():
    (query,) = asked(FAILED)
    agent = world_that_says(f"more.\n{GOOD}", "never asked for")
    asyncio.run(sample_repair(query, 3, agent, RolloutConfig(), seed=0))
    (request,) = agent.policy.asked
    assert request.token_ids == query.prefix.token_ids
    assert query.repair_id(3) == "t/step1/repair3"
    assert agent.policy.attending == 0


def test_repairs_of_one_query_are_sampled_under_different_seeds():
    (query,) = asked(FAILED)
    agent = world_that_says(*["So."] * 4)
    for number in (0, 1, 2, 0):
        asyncio.run(sample_repair(query, number, agent, RolloutConfig(), seed=0))
    seeds = [request.sampling.seed for request in agent.policy.asked]
    assert len(set(seeds[:3])) == 3
    assert seeds[3] == seeds[0]


def test_a_repair_gets_the_tokens_that_its_trajectory_had_left():
    (query,) = asked(FAILED)
    used = len(query.prefix.token_ids) - len(FAILED.prompt)
    for limit, room in ((used + 9, 9), (used, 1), (1, 1)):
        agent = world_that_says("So.")
        asyncio.run(sample_repair(query, 0, agent, RolloutConfig(max_completion_length=limit), seed=0))
        assert agent.policy.asked[0].sampling.max_tokens == room


def test_a_fault_of_the_sandbox_is_no_reward():
    def refuse(code: str) -> ExecutionResult:
        raise SandboxUnavailable("gone")

    (query,) = asked(FAILED)
    agent = world_that_says(f"more.\n{GOOD}", sandbox=ToldSandbox(otherwise=refuse))
    with pytest.raises(SandboxUnavailable):
        asyncio.run(sample_repair(query, 0, agent, RolloutConfig(), seed=0))
    assert agent.policy.attending == 0


def rows_of(*rewards: bool, **config) -> tuple[list, Counter[str]]:
    (query,) = asked(FAILED)
    repairs = [repaired(query, f"more.\n{GOOD if good else BAD}", number=n) for n, good in enumerate(rewards)]
    dropped: Counter[str] = Counter()
    return step_rows([(query, repairs)], StepConfig(**config), dropped), dropped


def test_repairs_of_one_failed_call_share_a_baseline_and_train_suffix_and_action_alone():
    rows, dropped = rows_of(True, False, False, False, nll_weight=0.02)
    # rewards 1 0 0 0: mean 1/4, unbiased standard deviation 1/2
    assert [row.terms[0].advantage for row in rows] == pytest.approx([1.5, -0.5, -0.5, -0.5], rel=1e-5)
    assert [len(row.terms) for row in rows] == [2, 1, 1, 1]
    assert (rows[0].terms[1].name, rows[0].terms[1].weight) == ("step_nll", 0.02)
    suffix = tiny_tokenizer().decode([t for t, m in zip(rows[0].token_ids, rows[0].trained, strict=True) if m])
    assert suffix == f"more.\n{GOOD}"
    assert {(row.group, row.parent) for row in rows} == {("t/step1", "t")}
    assert not dropped


@pytest.mark.parametrize(("is_good", "reason"), [(True, "step: all succeed"), (False, "step: all fail")])
def test_repairs_of_equal_reward_are_dropped_and_counted(is_good, reason):
    rows, dropped = rows_of(is_good, is_good, is_good)
    assert rows == []
    assert dropped == {reason: 3}


def test_what_machine_faults_left_of_a_group_may_be_too_few():
    rows, dropped = rows_of(True, False, min_survivors=3)
    assert rows == []
    assert dropped == {"step: too few survivors": 2}


@pytest.mark.parametrize("reply", [f"more.\n{GOOD}", f"more.\n{BAD}", "So."])
def test_a_repair_survives_its_journal(reply):
    (query,) = asked(FAILED)
    repair = repaired(query, reply)
    row = repair_to_json(query, repair.id, repair.step)
    assert repair_from_json(row) == repair.step
    assert set(row) == {"query", "trajectory"}  # facts alone: the reward needs the whole group
    (again,) = rewarded({repair.id: repair_from_json(row)})
    assert again.reward == float(
        repair.step.observation is not None and repair.step.observation.result.status is Status.OK
    )


def test_a_lone_repair_is_refused():
    with pytest.raises(ValueError, match="num_generations is 1"):
        StepConfig(num_generations=1)
