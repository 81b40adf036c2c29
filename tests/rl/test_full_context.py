"""A context that is full ends a repair as any limit does: the run goes on, and goes on alike when it is continued."""

import asyncio
import math
from collections import Counter

import pytest

from scripted_agent import agent_of, draft_of, program
from thor_tir.engines.protocol import ContextFull, Sampling
from thor_tir.inference.self_correction import SelfCorrectionConfig, self_correction
from thor_tir.learner.learner import Learner, LearnerConfig
from thor_tir.rl.config import StepConfig
from thor_tir.rl.step import StepPrompt, repair_from_json, repair_to_json, rewarded, sample_repair, step_rows
from thor_tir.rollout.loop import Agent, RolloutConfig, rollout
from thor_tir.trajectory import Completion, Finish, Prefix
from tiny_models import tiny_model

HALLUCINATED = "```output\n77\n```\n"
"""Ends at a stop string and closes no program, so that the turn asks again."""


class Narrow:
    """A scripted policy whose context holds `most` tokens."""

    def __init__(self, agent: Agent, most: float) -> None:
        self._policy, self.most, self.refused = agent.policy, most, 0
        self.attend = agent.policy.attend

    async def sample(self, token_ids: list[int], sampling: Sampling) -> Completion:
        if len(token_ids) >= self.most:
            self.refused += 1
            raise ContextFull(f"{len(token_ids)} tokens fill the context of {self.most}")
        return await self._policy.sample(token_ids, sampling)


def narrow(replies: list[str], most: float = math.inf) -> tuple[Agent, Narrow]:
    agent = agent_of(replies)
    policy = Narrow(agent, most)
    return Agent(policy=policy, sandbox=agent.sandbox, dialect=agent.dialect), policy


def query_of(agent: Agent) -> StepPrompt:
    prefix = Prefix(spans=(agent.dialect.prompt("What is 7 * 11?"),), parent="t", call=0)
    return StepPrompt(id="t/step0", prefix=prefix)


@pytest.mark.parametrize("room", [0, 1, 2, 5, 9, 10])
def test_a_repair_that_fills_the_context_has_no_reward_and_what_was_sampled_of_it(room):
    agent, policy = narrow([HALLUCINATED, HALLUCINATED, program("print(1)")])
    query = query_of(agent)
    policy.most = len(query.prefix.token_ids) + room
    step = asyncio.run(sample_repair(query, 0, agent, RolloutConfig(), seed=0))
    assert policy.refused == 1
    assert step.action is None
    assert (len(step.thought.span) > 0) == (room > 0)
    again = repair_from_json(repair_to_json(query, "t/step0/repair0", step))
    assert again == step
    (sample,) = rewarded({"t/step0/repair0": step})
    assert sample.reward == 0


def test_a_repair_that_could_not_begin_is_a_row_that_trains_nothing():
    agent, policy = narrow(["\n" + program("print(1)")])
    query = query_of(agent)
    good = asyncio.run(sample_repair(query, 0, agent, RolloutConfig(), seed=0))
    policy.most = 0
    empty = asyncio.run(sample_repair(query, 1, agent, RolloutConfig(), seed=0))
    rows = step_rows([(query, rewarded({"good": good, "empty": empty}))], StepConfig(), Counter())
    assert {row.id: row.num_trained > 0 for row in rows} == {"good": True, "empty": False}
    ids = {row.id: max(row.token_ids) for row in rows}
    assert max(ids.values()) < tiny_model().config.vocab_size
    metrics = Learner(tiny_model(), LearnerConfig()).step(rows)
    assert metrics.is_updated
    assert math.isfinite(metrics.loss)


@pytest.mark.parametrize("attempts", [1, 2, 4])
def test_self_correction_without_room_leaves_the_failed_step_and_the_attempt_goes_on(attempts):
    replies = ["Let us see.\n" + program("boom"), *[HALLUCINATED] * attempts, "So \\boxed{77}."]
    agent, policy = narrow(replies)
    config = RolloutConfig()
    repair = self_correction(agent, config, SelfCorrectionConfig(max_attempts=attempts, suffix_tokens=99))
    prompt = len(agent.dialect.prompt("What is 7 * 11?"))

    async def work():
        async def within(draft, failed):
            policy.most = prompt + 1  # so narrow that a repair begins and cannot go on
            step = await repair(draft, failed)
            policy.most = math.inf
            return step

        return await rollout(draft_of(agent), agent, config, within)

    trajectory = asyncio.run(work())
    assert policy.refused == attempts
    assert trajectory.finish is Finish.ENDED
    assert trajectory.steps[0].failed
    assert len(trajectory.steps[0].discarded) == attempts
    assert trajectory.response_text.endswith("So \\boxed{77}.")
