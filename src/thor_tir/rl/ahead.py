"""Sampling that runs ahead of training, by as many optimiser steps as a run allows.

A batch stays a round: the same problems, seeds and groups as without, whichever answer comes first, so that short
answers are not trained on more often than long ones. Round r may be sampled from the moment at which the learner has
done all but `max_staleness` of the steps before it; its tokens are then at most so many steps old when it is trained.
Weights are renewed under way, and what was sampled so far is kept.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter
from types import TracebackType
from typing import TypeVar

from thor_tir.distributed import in_a_thread
from thor_tir.rl.collect import RoundSamples, collect
from thor_tir.rl.config import RLConfig
from thor_tir.rl.source import RoundSource

Result = TypeVar("Result")


class Ahead:
    """The rounds of a run, from the first that is not trained yet, as a context within which they are sampled."""

    def __init__(self, source: RoundSource, config: RLConfig, *, first: int) -> None:
        self.sampler_waited_s = 0.0
        """Seconds in which nothing was sampled, since all rounds that may be had been."""
        ranks = source.setup.ranks
        if config.max_staleness and not ranks.is_alone:  # the learner talks meanwhile
            source = replace(source, setup=replace(source.setup, ranks=ranks.on_their_own()))
        self._source = source
        self._config = config
        self._next = first
        self._tasks: dict[int, asyncio.Task[RoundSamples]] = {}
        self._idle_since: float | None = perf_counter()

    async def __aenter__(self) -> "Ahead":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def reach(self, version: int) -> None:
        """The learner has done so many steps: begin the rounds that this allows."""
        config = self._config
        while self._next < config.num_rounds and config.first_step(self._next) - config.max_staleness <= version:
            if config.max_staleness:
                self._begin(self._next)
            self._next += 1

    async def take(self, number: int) -> RoundSamples:
        """The samples of a round, when all are there. Whatever ended its sampling is raised."""
        if self._config.max_staleness:
            return await self._tasks.pop(number)
        self._work_begins()
        try:
            return await collect(number, self._source, self._config)
        finally:
            self._idle_since = perf_counter()

    def waited(self) -> float:
        """Seconds that sampling has waited since this was asked last."""
        seconds, self.sampler_waited_s = self.sampler_waited_s, 0.0
        return seconds

    def _begin(self, number: int) -> None:
        self._work_begins()
        before, setup = self._tasks.get(number - 1), self._source.setup

        async def turn() -> None:
            if before is not None:
                await asyncio.shield(before)

        if not setup.ranks.is_alone:  # alone there is nobody to be told, and repairs need not wait
            setup = replace(setup, turn=turn)
        source = replace(self._source, setup=setup)
        task = asyncio.create_task(collect(number, source, self._config), name=f"round {number + 1}")
        task.add_done_callback(self._work_may_end)
        self._tasks[number] = task

    def _work_begins(self) -> None:
        if self._idle_since is not None:
            self.sampler_waited_s += perf_counter() - self._idle_since
            self._idle_since = None

    def _work_may_end(self, done: asyncio.Task[RoundSamples]) -> None:
        if all(task.done() for task in self._tasks.values()):
            self._idle_since = perf_counter()


async def beside(act: Callable[[], Result], config: RLConfig) -> Result:
    """The result of `act`: at once where nothing is sampled meanwhile, else from a thread beside the sampling."""
    return await in_a_thread(act) if config.max_staleness else act()
