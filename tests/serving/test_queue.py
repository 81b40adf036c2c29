"""Places of a server: first come, first served, counted in attempts, and a refusal that says when to try again."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from thor_tir.serving.queue import Queue, QueueConfig
from thor_tir.web_service import TurnedAway


class Held:
    """Requests in a queue, each of which stays until it is let go; `order` is that in which they came in."""

    def __init__(self, config: QueueConfig) -> None:
        self.queue = Queue(config)
        self.order: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, attempts: int = 1, client: str = "local") -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._stay(name, attempts, client))
        await settle()

    async def go(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await self.tasks[name]
        await settle()

    async def _stay(self, name: str, attempts: int, client: str) -> None:
        async with self.queue.place(client, attempts):
            self.order.append(name)
            await self.ends[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def held(work: Callable[[Held], Awaitable[None]], **config: int) -> None:
    async def main() -> None:
        line = Held(QueueConfig(**config))
        await work(line)
        assert line.queue.running == 0
        assert line.queue.num_waiting == 0

    asyncio.run(main())


def test_who_comes_first_is_served_first_and_a_small_request_does_not_pass_a_large_one() -> None:
    async def work(line: Held) -> None:
        await line.come("a", 3)
        await line.come("b", 4)
        await line.come("c", 1)  # there would be room for it, but b waits longer
        assert (line.order, line.queue.num_waiting, line.queue.running) == (["a"], 2, 3)
        await line.go("a")
        assert (line.order, line.queue.running) == (["a", "b"], 4)
        await line.go("b", "c")
        assert line.order == ["a", "b", "c"]

    held(work, running=4)


def test_more_attempts_than_there_are_places_take_all_of_them() -> None:
    async def work(line: Held) -> None:
        await line.come("a", 16)
        assert (line.order, line.queue.running) == (["a"], 4)
        await line.go("a")

    held(work, running=4)


def test_a_full_queue_turns_away_with_429_and_says_when_to_try_again() -> None:
    async def work(line: Held) -> None:
        for name in "abc":
            await line.come(name)
        with pytest.raises(TurnedAway, match="2 requests wait already; try again in") as refused:
            async with line.queue.place("local", 1):
                pass
        assert refused.value.status_code == 429
        assert 1 <= int(refused.value.headers["Retry-After"]) <= 60
        await line.go("a", "b", "c")

    held(work, running=1, waiting=2)


@pytest.mark.parametrize("leaver", ["b", "c"])
def test_who_leaves_the_queue_holds_nobody_up(leaver: str) -> None:
    async def work(line: Held) -> None:
        for name in "abcd":
            await line.come(name)
        line.tasks[leaver].cancel()
        await settle()
        assert line.queue.num_waiting == 2
        stays = [name for name in "abcd" if name != leaver]
        await line.go(*stays)
        assert line.order == stays

    held(work, running=1)


def test_who_leaves_at_the_moment_of_being_called_gives_the_place_back() -> None:
    async def work(line: Held) -> None:
        for name in "abc":
            await line.come(name)
        line.ends["a"].set()
        await line.tasks["a"]  # b has been called and has not run yet
        line.tasks["b"].cancel()
        await settle()
        assert line.order in (["a", "c"], ["a", "b", "c"])
        await line.go("c")

    held(work, running=1)


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def work(line: Held) -> None:
        with pytest.raises(RuntimeError):
            async with line.queue.place("local", 2):
                raise RuntimeError
        assert line.queue.running == 0

    held(work, running=2)


def test_one_key_can_have_no_more_in_work_than_its_share() -> None:
    async def work(line: Held) -> None:
        await line.come("a", client="ann")
        await line.come("b", client="ann")
        with pytest.raises(TurnedAway, match="this key has 2 requests in work"):
            async with line.queue.place("ann", 1):
                pass
        await line.come("c", client="bob")
        await line.go("a", "b", "c")
        assert line.order == ["a", "c", "b"] or line.order == ["a", "b", "c"]
        await line.come("d", client="ann")
        await line.go("d")

    held(work, running=2, per_client=2)


def test_one_key_can_begin_no_more_within_a_minute_than_its_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("thor_tir.serving.queue.monotonic", lambda: now)

    async def work(line: Held) -> None:
        nonlocal now
        for second in (0, 20):
            now = 1000.0 + second
            await line.come("a", client="ann")
            await line.go("a")
        with pytest.raises(TurnedAway, match="2 are allowed") as refused:
            async with line.queue.place("ann", 1):
                pass
        assert refused.value.headers["Retry-After"] == "40"  # the first was begun at 1000, it is 1020
        await line.come("b", client="bob")
        await line.go("b")
        now = 1060.5
        await line.come("c", client="ann")
        await line.go("c")

    held(work, running=2, per_minute=2)


@pytest.mark.parametrize("config", [{"running": 0}, {"waiting": -1}, {"per_client": -1}])
def test_a_queue_that_could_serve_nobody_is_refused(config: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no negative bound"):
        QueueConfig(**config)
