"""The step methods: which tokens each samples, rewards and credits, by hand; and that kills change nothing of a run."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch

from rl_steps import attempt_with, called, said
from thor_tir.dialect.dialect import Dialect
from thor_tir.engines.scripted import ScriptedPolicy
from thor_tir.execution import Status
from thor_tir.problem import Problem
from thor_tir.rl.algorithms import group_advantages
from thor_tir.rl.config import TURN_METHODS, EpisodeConfig, LossConfig, RLConfig, StepConfig, StepMethodName
from thor_tir.rl.episode import episode_rows
from thor_tir.rl.source import RoundSource
from thor_tir.rl.step import step_rows
from thor_tir.rl.step_methods import locate, potential, recovery, returns
from thor_tir.rl.step_methods.branches import after
from thor_tir.rl.step_methods.method import Evidence, StepRound
from thor_tir.rl.step_methods.table import METHODS
from thor_tir.rl.train import spent_budget
from thor_tir.rollout.loop import Agent, RolloutConfig
from thor_tir.rollout.sample_many import Attempt, AttemptRequest, SamplingSetup, attempt
from thor_tir.storage.journal import Journal
from thor_tir.trajectory import Author, dated
from thor_tir.verdict import Outcome
from tiny_models import tiny_tokenizer
from told_sandbox import ToldSandbox, printed, raised
from toy_task import BREAKS, LIMITS, OTHER, PROGRAMS, RIGHT, grade, primed_model, run

PROBLEM = Problem(id="p", question="What is 20 + 57?", answer="77", source="")
GOOD, BAD = "```python\nprint(77)\n```\n", "```python\nprint(x)\n```\n"
ANSWER, WRONG = "So \\boxed{77}.", "So \\boxed{7}."
ROLLOUT = RolloutConfig(stop_at_failure=True)


def setup_of(replies: list[str], config: RolloutConfig = ROLLOUT) -> SamplingSetup:
    sandbox = ToldSandbox({"print(77)": printed("77"), "print(x)": raised()})
    tokenizer = tiny_tokenizer()
    agent = Agent(policy=ScriptedPolicy(tokenizer, replies), sandbox=sandbox, dialect=Dialect(tokenizer))
    return SamplingSetup(agent=agent, grade=grade, config=config, concurrency=1)


def attempt_of(*replies: str, id: str = "round1/0/0") -> Attempt:
    return asyncio.run(attempt(AttemptRequest(id=id, problem=PROBLEM, seed=0), setup_of(list(replies))))


def gathered(
    method: str, attempts: list[Attempt], replies: list[str], folder: Path, **step
) -> tuple[Evidence, SamplingSetup]:
    """Everything that a method samples where the policy replies like this."""
    config = RLConfig(
        problems_per_round=1,
        rollout=ROLLOUT,
        episode=EpisodeConfig(filters=()),
        step=StepConfig(method=method, **{"num_generations": 2, **step}),
    )
    setup = setup_of(replies)
    source = RoundSource(setup=setup, problems=[PROBLEM], rollouts=Journal(folder / "rollouts.jsonl"))
    found = StepRound(number=0, groups=[attempts], source=source, setup=setup, config=config)
    return asyncio.run(METHODS[method].gather(found)), setup


def trained_text(row) -> str:
    ids = [token for token, is_trained in zip(row.token_ids, row.trained, strict=True) if is_trained]
    return tiny_tokenizer().decode(ids)


def sampled_ids(setup: SamplingSetup, number: int) -> tuple[int, ...]:
    return setup.agent.policy.asked[number].token_ids


FAILED = attempt_of(f"Add.\n{GOOD}", f"Print.\n{BAD}")


# recovery


def test_recovery_goes_on_behind_the_error_and_is_rewarded_by_its_call(tmp_path):
    evidence, setup = gathered("recovery", [FAILED], [f"Again.\n{GOOD}", f"Again.\n{BAD}"], tmp_path)
    ((query, repairs),) = evidence.groups
    whole = tuple(token for span in FAILED.trajectory.spans for token in span.token_ids)
    assert query.prefix.token_ids == whole == sampled_ids(setup, 0)
    assert [repair.reward for repair in repairs] == [1.0, 0.0]
    rows = step_rows(evidence.groups, StepConfig(), Counter())
    # rewards 1 0: mean 1/2, deviation sqrt(1/2), so +-0.5/0.7071
    assert [row.terms[0].advantage for row in rows] == pytest.approx([0.70711, -0.70711], rel=1e-4)
    assert [trained_text(row) for row in rows] == [f"Again.\n{GOOD}", f"Again.\n{BAD}"]
    assert {row.parent for row in rows} == {FAILED.trajectory.id}


def test_recovery_to_the_answer_trains_all_that_the_model_wrote_behind_the_error(tmp_path):
    replies = [f"Again.\n{GOOD}", ANSWER, WRONG]
    evidence, _ = gathered("recovery", [FAILED], replies, tmp_path, horizon="answer")
    ((_, repairs),) = evidence.groups
    assert [(repair.reward, len(repair.steps)) for repair in repairs] == [(1.0, 2), (0.0, 1)]
    rows = step_rows(evidence.groups, StepConfig(), Counter())
    end = tiny_tokenizer().decode([tiny_tokenizer().eos_token_id])
    assert [trained_text(row) for row in rows] == [f"Again.\n{GOOD}{ANSWER}{end}", WRONG + end]
    observation = repairs[0].step.observation.span.token_ids
    assert any(
        rows[0].token_ids[i : i + len(observation)] == observation
        and not any(rows[0].trained[i : i + len(observation)])
        for i in range(len(rows[0].token_ids))
    )


def test_what_the_journal_holds_is_not_sampled_again(tmp_path):
    first, _ = gathered("recovery", [FAILED], [ANSWER, WRONG], tmp_path, horizon="answer")
    again, setup = gathered("recovery", [FAILED], [], tmp_path, horizon="answer")
    assert again.groups == first.groups
    assert setup.agent.policy.asked == []


def test_a_prefix_ends_behind_the_observation_of_its_last_step():
    assert after(FAILED.trajectory, 0).prefix.token_ids == FAILED.trajectory.prompt.token_ids
    prompt = after(FAILED.trajectory, 1)
    assert prompt.prefix.spans[-2].author is Author.ENVIRONMENT
    assert prompt.earlier == tuple(dated(step, 0) for step in FAILED.trajectory.steps[:1])
    query = recovery.after_the_error(FAILED.trajectory, 1, StepConfig())
    assert (query.prefix.parent, query.prefix.call) == (FAILED.trajectory.id, 1)


# returns


def test_a_return_is_the_turns_reward_and_the_discounted_rest():
    # 1, then 0 + 0.5 * 1, then 0.1 + 0.5 * 0.5
    assert returns.discounted([0.1, 0.0, 1.0], 0.5) == pytest.approx([0.35, 0.5, 1.0])
    assert returns.discounted([], 0.5) == []


def test_a_turn_earns_by_its_call_and_the_last_one_the_answer_besides():
    trajectory = attempt_with(called("a"), called("b", status=Status.RUNTIME), said("c")).trajectory
    assert returns.turn_rewards(trajectory, 1.0, turn_reward=0.1) == pytest.approx([0.1, 0.0, 1.0])
    assert returns.turn_rewards(attempt_with(called("a")).trajectory, 1.0, turn_reward=0.1) == pytest.approx([1.1])
    assert returns.turn_rewards(attempt_with().trajectory, 0.0, turn_reward=0.1) == []


def test_a_turn_is_compared_with_those_that_have_it():
    found = returns.turn_advantages([[1.0, 2.0, 5.0], [3.0, 0.0], [2.0]], group_advantages)
    # turn 0: 1 3 2, mean 2, deviation 1; turn 1: 2 0, mean 1, deviation sqrt(2); turn 2 stands alone
    assert found == [pytest.approx([-1.0, 0.70711, 0.0], rel=1e-4), pytest.approx([1.0, -0.70711], rel=1e-4), [0.0]]


def named(attempt: Attempt, id: str) -> Attempt:
    return replace(attempt, trajectory=replace(attempt.trajectory, id=id))


def test_tokens_carry_the_advantage_of_their_turn_even_where_all_answers_are_wrong():
    ran, broke = attempt_with(called("ab"), said("c")), attempt_with(called("d", status=Status.RUNTIME), said("e"))
    config = RLConfig(episode=EpisodeConfig(filters=()), step=StepConfig(method="returns", gamma=1.0))
    shape = returns.credit(config, Evidence())
    dropped: Counter[str] = Counter()
    rows = episode_rows(
        [[named(ran, "ran"), named(broke, "broke")], [named(ran, "one"), named(ran, "two")]],
        config.episode,
        dropped,
        shape=shape,
        credits_equals=True,
    )
    up = pytest.approx(0.70711, rel=1e-4)  # returns 0.1 and 0, and 0 and 0 in the second turn
    credits = [
        [a for a, is_trained in zip(row.terms[0].token_advantages, row.trained, strict=True) if is_trained]
        for row in rows
    ]
    assert credits == [[up, up, up, 0.0], [pytest.approx(-0.70711, rel=1e-4)] * 2 + [0.0]]
    assert dropped == {"episode: all wrong": 2}  # the second group agrees in every turn


@pytest.mark.parametrize(
    "field",
    [
        {"step": StepConfig(method="returns")},
        {
            "step": StepConfig(method="returns"),
            "episode": EpisodeConfig(filters=()),
            "loss": LossConfig(advantages="m:f"),
        },
        {"step": StepConfig(method="none"), "levels": "step"},
    ],
)
def test_what_would_leave_a_method_without_effect_is_refused(field):
    with pytest.raises(ValueError, match=r"step\.method"):
        RLConfig(**field)


# locate


@pytest.mark.parametrize("first_bad", range(1, 9))
def test_the_first_step_from_which_nothing_succeeds_is_found_in_log_many_probes(first_bad):
    search, num_probes = locate.Search(num_steps=8), 0
    while (num_steps := search.next_probe(most=9)) is not None:
        search.learn(num_steps, succeeds=num_steps < first_bad)
        num_probes += 1
    assert (search.recoverable, search.irrecoverable) == (first_bad - 1, first_bad)
    assert num_probes == 3


def test_a_search_ends_with_its_budget():
    search = locate.Search(num_steps=8)
    assert search.next_probe(most=1) == 4
    search.learn(4, succeeds=True)
    assert search.next_probe(most=1) is None
    assert (search.recoverable, search.irrecoverable) == (4, 8)


def test_continuations_of_a_searched_prefix_stand_in_their_group_and_among_all_of_the_problem(tmp_path):
    wrong = attempt_of(f"Add.\n{GOOD}", f"Again.\n{GOOD}", WRONG, id="round1/0/1")
    right = attempt_of(ANSWER)
    evidence, setup = gathered("locate", [right, wrong], [WRONG, ANSWER, WRONG, WRONG], tmp_path)
    # three steps: one is recoverable, as its second continuation is right; two are not
    assert [query.id for query, _ in evidence.groups] == ["round1/0/1/after1", "round1/0/1/after2"]
    assert sampled_ids(setup, 0) == after(wrong.trajectory, 1).prefix.token_ids
    rows = step_rows(evidence.groups, StepConfig(), Counter())
    # global: rewards 1 0 | 0 1 0 0, mean 1/3, deviation sqrt(4/15); local: 0 1, then 0 0
    among_all = [-0.64550, 1.29099, -0.64550, -0.64550]
    among_group = [-0.70711, 0.70711, 0.0, 0.0]
    expected = [a + b for a, b in zip(among_all, among_group, strict=True)]
    assert [row.terms[0].advantage for row in rows] == pytest.approx(expected, rel=1e-4)
    assert evidence.num_asked == 4


def test_nothing_is_searched_where_no_trajectory_is_right_or_the_wrong_one_has_one_step(tmp_path):
    wrong = attempt_of(f"Add.\n{GOOD}", WRONG)
    assert gathered("locate", [wrong], [], tmp_path / "a")[0].groups == []
    assert gathered("locate", [attempt_of(ANSWER), attempt_of(WRONG, id="w")], [], tmp_path / "b")[0].groups == []


# potential


def test_the_potential_of_the_four_corners():
    corners = [potential.potential(acc, conf) for acc, conf in ((1, 1), (0, 1), (1, 0), (0, 0))]
    assert corners == [1.0, -1.0, 0.5, 0.0]


def test_a_turn_gets_its_gain_and_less_of_the_outcome_once_the_answer_is_found():
    # gains -0.5 and 1.45, none behind the last turn, which begins with the answer found
    found = potential.turn_advantages(2.0, [0.0, -0.5, 0.95], shaping=0.1)
    assert found == pytest.approx([2.0 - 0.05, 2.0 + 0.145, 1.0])


def test_potentials_come_from_answers_given_at_once_behind_each_turn(tmp_path):
    two_turns = attempt_of(f"Add.\n{GOOD}", ANSWER)
    replies = ["7}.", "77}.", "77}.", "77}."]
    evidence, setup = gathered("potential", [two_turns], replies, tmp_path)
    # scripted tokens have probability 1/2, so conf = 1/2; acc = 1/2 before the turn and 1 behind it
    assert evidence.potentials == {two_turns.trajectory.id: pytest.approx([0.125, 0.75])}
    probe = setup.agent.dialect.encode(StepConfig().probe)
    assert sampled_ids(setup, 0) == (*two_turns.trajectory.prompt.token_ids, *probe)
    assert sampled_ids(setup, 2) == (*after(two_turns.trajectory, 1).prefix.token_ids, *probe)
    spans = [tiny_tokenizer().encode(reply.rstrip("."), add_special_tokens=False) for reply in replies]
    assert evidence.probe_tokens == sum(map(len, spans))
    assert gathered("potential", [two_turns], [], tmp_path)[0] == evidence  # read from the journal


def test_turns_are_shaped_by_their_potentials_and_a_trajectory_without_them_is_left_alone():
    right, wrong = attempt_with(called("ab"), said("c"), outcome=Outcome.CORRECT), attempt_with(called("d"), said("e"))
    config = RLConfig(step=StepConfig(method="potential", shaping=0.5))
    evidence = Evidence(potentials={"right": [0.0, 0.4]})
    rows = episode_rows(
        [[named(right, "right"), named(wrong, "wrong")]],
        config.episode,
        Counter(),
        shape=potential.credit(config, evidence),
        credits_equals=True,
    )
    up = 0.70711  # rewards 1 0
    credits = [
        a for a, is_trained in zip(rows[0].terms[0].token_advantages, rows[0].trained, strict=True) if is_trained
    ]
    assert credits == pytest.approx([up + 0.2, up + 0.2, up + 0.2, up], rel=1e-4)
    assert (rows[1].terms[0].token_advantages, rows[1].terms[0].advantage) == ((), pytest.approx(-up, rel=1e-4))


# all of them


class Killed(BaseException):
    """Stands for SIGKILL."""


class FusedSandbox(ToldSandbox):
    """Kills instead of running the program of this number."""

    def __init__(self, fatal: int = 0) -> None:
        super().__init__(PROGRAMS)
        self.fatal = fatal

    async def run(self, code, limits=None):
        if len(self.ran) + 1 == self.fatal:
            raise Killed
        return await super().run(code, limits)


def toy_config(**step) -> RLConfig:
    return RLConfig(
        num_rounds=1,
        problems_per_round=2,
        rollout=replace(LIMITS, max_tool_calling_iterations=2),
        episode=EpisodeConfig(num_generations=6, filters=()),
        step=StepConfig(num_generations=4, suffix_tokens=4, **step),
        learning_rate=5e-4,
    )


def toy_run(folder: Path, config: RLConfig, **fields) -> tuple[dict[str, torch.Tensor], list[dict]]:
    model = primed_model(RIGHT, OTHER, BREAKS)
    run(model, config, folder, **fields)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return model.state_dict(), [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]


@pytest.mark.parametrize(
    "step",
    [
        {"method": "recovery", "horizon": "answer"},
        {"method": "returns"},
        {"method": "locate"},
        {"method": "potential"},
    ],
    ids=lambda step: "-".join(step.values()),
)
def test_a_killed_run_of_any_method_ends_with_the_bits_of_an_uninterrupted_one(tmp_path, step):
    config = toy_config(**step)
    sandbox = FusedSandbox()
    weights, record = toy_run(tmp_path / "whole", config, sandbox=sandbox)
    with pytest.raises((Killed, BaseExceptionGroup)):
        toy_run(tmp_path / "killed", config, sandbox=FusedSandbox(len(sandbox.ran)))
    resumed, again = toy_run(tmp_path / "killed", config)
    assert again == record
    assert record[0]["rows_episode"] + record[0]["rows_step"] > 0
    assert all(torch.equal(weight, resumed[name]) for name, weight in weights.items())


def test_no_further_round_is_begun_once_a_budget_is_spent(tmp_path):
    said: list[str] = []
    config = replace(toy_config(method="none"), num_rounds=5, max_sampled_tokens=1)
    _, record = toy_run(tmp_path, config, say=said.append)
    (row,) = record
    lines = [json.loads(line) for line in (tmp_path / "rollouts.jsonl").read_text(encoding="utf-8").splitlines()]
    parts = [step[part] for line in lines for step in line["trajectory"]["steps"] for part in ("thought", "action")]
    assert row["sampled_tokens"] == sum(len(part["ids"]) for part in parts if part is not None)
    assert said[0].startswith(
        f"{row['sampled_tokens']:,} tokens were sampled, of at most 1: training ends after round 1"
    )


def test_budgets_are_counted_from_the_finished_rounds():
    rounds = [{"sampled_tokens": 600, "seconds": {"rollout": 1.0, "repair": 2.0, "grade": 9.0, "train": 3.0}}] * 2
    assert spent_budget(rounds, RLConfig()) == ""
    assert spent_budget(rounds, RLConfig(max_sampled_tokens=1201)) == ""
    assert "1,200 tokens" in spent_budget(rounds, RLConfig(max_sampled_tokens=1200))
    assert "12 seconds" in spent_budget(rounds, RLConfig(max_seconds=12))


def test_every_method_that_credits_turns_is_known_to_the_options_as_such() -> None:
    assert {name for name, method in METHODS.items() if method.credit is not None} == set(TURN_METHODS)
    assert set(METHODS) == set(get_args(StepMethodName))
