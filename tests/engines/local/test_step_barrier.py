"""Whose step is next, where several engines serve the same trajectories."""

import asyncio
import random

from engine_cases import TEXTS, encoded, engine_of, tokens
from thor_tir.engines.local.engine import TransformersEngine
from thor_tir.engines.local.step_barrier import StepBarrier
from thor_tir.engines.options import EngineConfig
from thor_tir.engines.protocol import Sampling
from tiny_models import tiny_model, tiny_tokenizer


class Desk:
    """An engine reduced to what its barrier sees."""

    def __init__(self, barrier: StepBarrier) -> None:
        self.num_waiting = 0
        self.num_woken = 0
        self.num_left = 0
        barrier.join(self)

    def wake(self) -> None:
        self.num_woken += 1

    def all_left(self) -> None:
        self.num_left += 1


def two_desks() -> tuple[StepBarrier, Desk, Desk]:
    barrier = StepBarrier()
    return barrier, Desk(barrier), Desk(barrier)


def test_nobody_steps_while_one_attending_trajectory_is_away_at_a_tool():
    barrier, actor, critic = two_desks()
    with barrier.attend(), barrier.attend():
        actor.num_waiting = 1
        assert not barrier.is_turn_of(actor)
        critic.num_waiting = 1  # the second trajectory now waits too, although for the other engine
        assert barrier.is_turn_of(actor)


def test_a_trajectory_that_left_is_not_waited_for():
    barrier, actor, _ = two_desks()
    with barrier.attend():
        with barrier.attend():
            actor.num_waiting = 1
            assert not barrier.is_turn_of(actor)
        assert barrier.is_turn_of(actor)


def test_engines_with_work_take_turns_whoever_asks_first():
    barrier, actor, critic = two_desks()
    actor.num_waiting = critic.num_waiting = 1
    order = []
    for _ in range(4):
        assert barrier.is_turn_of(actor) != barrier.is_turn_of(critic)
        turn = actor if barrier.is_turn_of(actor) else critic
        order.append(turn)
        barrier.end_turn_of(turn)
    assert order == [actor, critic, actor, critic]


def test_an_engine_without_work_is_passed_over():
    barrier, actor, critic = two_desks()
    critic.num_waiting = 1
    for _ in range(2):
        assert barrier.is_turn_of(critic)
        assert not barrier.is_turn_of(actor)
        barrier.end_turn_of(critic)


def test_coming_and_going_wakes_all_engines_and_the_end_of_a_turn_the_others():
    barrier, actor, critic = two_desks()
    with barrier.attend():
        assert (actor.num_woken, critic.num_woken) == (1, 1)
    assert (actor.num_woken, critic.num_woken) == (2, 2)
    barrier.end_turn_of(actor)
    assert (actor.num_woken, critic.num_woken) == (2, 3)


def test_engines_are_told_at_once_when_the_last_trajectory_leaves():
    barrier, actor, critic = two_desks()
    with barrier.attend():
        with barrier.attend():
            pass
        assert (actor.num_left, critic.num_left) == (0, 0)
    assert (actor.num_left, critic.num_left) == (1, 1)


def test_a_deterministic_engine_keeps_nothing_for_a_batch_that_follows_without_a_pause():
    async def run() -> list[int]:
        reused = []
        async with engine_of(deterministic=True) as engine:
            for _ in range(3):
                with engine.attend():
                    await engine.sample(encoded(TEXTS[0]), Sampling(max_tokens=4))
                reused.append(engine.stats.reused_tokens)
        return reused

    assert asyncio.run(run()) == [0, 0, 0]


def test_two_deterministic_engines_give_the_same_bits_whatever_time_tools_take():
    """Each trajectory asks the actor, then the critic, then a tool, as Algorithm 1 does."""

    async def run(delay_seed: int) -> list[list[object]]:
        delays = random.Random(delay_seed)
        barrier, config = StepBarrier(), EngineConfig(deterministic=True, max_num_seqs=3)
        actor = TransformersEngine(tiny_model(seed=1), tiny_tokenizer(), config, barrier)
        critic = TransformersEngine(tiny_model(seed=2), tiny_tokenizer(), config, barrier)

        async def trajectory(number: int) -> list[object]:
            seen: list[object] = []
            context = encoded(TEXTS[number % 4])
            with actor.attend():
                for turn in range(3):
                    for engine in (actor, critic):
                        sampling = Sampling(max_tokens=3 + number, seed=10 * number + turn)
                        completion = await engine.sample(context, sampling)
                        seen.append(completion)
                        context = [*context, *tokens(completion)]
                    await asyncio.sleep(delays.random() * 0.01)
            return seen

        async with actor, critic:
            return await asyncio.gather(*map(trajectory, range(5)))

    first, *others = [asyncio.run(run(seed)) for seed in range(3)]
    assert all(other == first for other in others)  # equality of floats: every bit of every log-probability
