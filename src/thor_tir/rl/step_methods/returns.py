"""Returns: every turn earns a reward, and a turn's advantage is its discounted return against those of the same turn.

Nothing more is sampled. Reward of turn t: `step.turn_reward` where its call succeeded, 0 where it failed or made none;
the last turn earns the trajectory's reward besides. Return: G_t = r_t + gamma G_{t+1}. Advantage: G_t against all
members of the problem's group that have a turn t, for the tokens of the turn; a turn that only one member has stands
alone and gets 0.

After GTPO (arXiv 2511.14846; the formulas are taken from memory of it, its text could not be read here). Its partial
rewards of wrong trajectories, by the likeness of their programs to those of right ones, are left out.
"""

from collections.abc import Sequence
from functools import partial

from thor_tir.execution import CallSuccess
from thor_tir.learner.sample import TrainingSample
from thor_tir.rl.algorithms import Advantages, compose
from thor_tir.rl.config import RLConfig
from thor_tir.rl.samples import EPISODE
from thor_tir.rl.shaping import CreditGroup, Shape, with_credit
from thor_tir.rl.step_methods.method import Evidence, StepMethod
from thor_tir.rollout.sample_many import Attempt
from thor_tir.trajectory import Trajectory


def turn_rewards(
    trajectory: Trajectory, reward: float, *, turn_reward: float, call_success: CallSuccess = "printed"
) -> list[float]:
    """r_t of each turn."""
    earned = [turn_reward * step.succeeds(call_success) for step in trajectory.steps]
    return [*earned[:-1], earned[-1] + reward] if earned else []


def discounted(rewards: Sequence[float], gamma: float) -> list[float]:
    """G_t = r_t + gamma G_{t+1} of each turn."""
    returns, later = [], 0.0
    for reward in reversed(rewards):
        later = reward + gamma * later
        returns.append(later)
    return returns[::-1]


def turn_advantages(returns: Sequence[Sequence[float]], advantages: Advantages) -> list[list[float]]:
    """Advantage of each turn of each member, among the members that have that turn."""
    found: list[list[float]] = [[] for _ in returns]
    for turn in range(max(map(len, returns), default=0)):
        members = [number for number, own in enumerate(returns) if turn < len(own)]
        column = [returns[number][turn] for number in members]
        credits = advantages(column) if len(members) > 1 else [0.0]
        for number, credit in zip(members, credits, strict=True):
            found[number].append(credit)
    return found


def by_turn(trajectory: Trajectory, advantages: Sequence[float]) -> list[float]:
    """The advantage of each token of the trajectory's row: that of its turn, and 0 for the prompt."""
    spread = [0.0] * len(trajectory.prompt)
    for step, advantage in zip(trajectory.steps, advantages, strict=True):
        spread += [advantage] * sum(map(len, step.spans))
    return spread


def _shape(config: RLConfig, group: CreditGroup, nll_weight: float) -> list[TrainingSample]:
    if group.level != EPISODE:
        return list(group.rows)
    attempts: Sequence[Attempt] = group.samples
    step, rule = config.step, config.rollout.call_success
    advantages = compose(config.loss, max_tokens=config.rollout.max_completion_length).advantages
    returns = [
        discounted(turn_rewards(a.trajectory, reward, turn_reward=step.turn_reward, call_success=rule), step.gamma)
        for a, reward in zip(attempts, group.rewards, strict=True)
    ]
    credits = turn_advantages(returns, advantages)
    return [
        with_credit(row, by_turn(a.trajectory, own), EPISODE, nll_weight, "the step method returns")
        for row, a, own in zip(group.rows, attempts, credits, strict=True)
    ]


def credit(config: RLConfig, evidence: Evidence) -> Shape:
    """Returns in place of one advantage for all turns."""
    return partial(_shape, config)


METHOD = StepMethod(reads=frozenset({"gamma", "turn_reward"}), credit=credit)
