"""Rounds of RL as discrete events: decode steps whose cost depends on the rows, tools on a pool of sandboxes, repairs,
training, weights, and sampling that runs ahead by as many steps as a run allows.

It follows `rl/ahead.py` and `rl/collect.py`: repairs begin when all trajectories of their round have ended, a round may
begin once all but `max_staleness` of the updates before it are done, and rounds are trained in order. Several processes
have a share of each round and replicas of their own; they tell each other what they sampled, and before a round is told
the one before must be complete. Nothing is drawn here: what happens is a function of the rounds and costs that are
handed in. Only the standard library is used.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from math import ceil, inf
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One stretch that a row decodes, and the program behind it."""

    tokens: int
    """Tokens drawn."""
    read: int = 0
    """Tokens that are read before: the prompt, or what a program printed."""
    tool_s: float | None = None
    """Seconds of its program; None where none is called."""


Row = Sequence[Turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round samples."""

    trajectories: Sequence[Row]
    repairs: Sequence[Row] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds of everything but programs."""

    step: Callable[[int, int], float]
    """A decode step of so many rows that hold so many tokens together."""
    read_token: float = 0.0
    """Reading one token."""
    train: Callable[[int], float] = lambda number: 0.0
    """Training on the round of this number."""
    transfer_s: float = 0.0
    """Weights to the engines, after a round's training."""
    tell_s: float = 0.0
    """Telling other processes what was sampled, after trajectories and after repairs."""
    save_s: float = 0.0
    """Writing a checkpoint, after the engines have a round's weights; in turn nothing is sampled meanwhile."""
    contention: float = 1.0
    """Factor by which decoding and training take longer while both go on; 1 where they share no device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Where it goes on."""

    replicas: int = 1
    processes: int = 1
    """Processes that sample and train together; replicas are divided among them."""
    max_rows: int = 256
    """Rows that a replica decodes together."""
    sandboxes: float = inf
    """Programs that run side by side."""
    max_staleness: int = 0


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came out."""

    trained_at: list[float] = field(default_factory=list)
    """Seconds at which each round was trained, its weights with the engines and its checkpoint written."""
    learner_idle_s: float = 0.0
    """Seconds in which nothing was trained."""
    engine_idle_s: float = 0.0
    """Seconds in which a replica decoded nothing, in the mean of the replicas."""
    tail_s: float = 0.0
    """Seconds of rounds in which fewer than a tenth of their trajectories were left."""

    @property
    def round_s(self) -> float:
        """Seconds of a round in the mean."""
        return self.trained_at[-1] / len(self.trained_at)


class _Events:
    """Things that happen at their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._heap, (self.now + seconds, self._count, act))

    def run(self) -> None:
        while self._heap:
            self.now, _, act = heappop(self._heap)
            act()


class _Pool:
    """Sandboxes: programs wait in order for one that is free."""

    def __init__(self, events: _Events, size: float) -> None:
        self._events, self._free = events, size
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def run(self, seconds: float, done: Callable[[], None]) -> None:
        if self._free < 1:
            self._waiting.append((seconds, done))
            return
        self._free -= 1

        def ended() -> None:
            self._free += 1
            if self._waiting:
                self.run(*self._waiting.popleft())
            done()

        self._events.after(seconds, ended)


@dataclass(slots=True, kw_only=True)
class _Request:
    tokens: int
    read: int
    context: int
    done: Callable[[], None]


class _Replica:
    """One engine. It plans steps until a row ends, and plans anew at the end of a step in which something has come."""

    def __init__(self, world: "_World") -> None:
        self._world, self._events = world, world.events
        self._waiting: deque[_Request] = deque()
        self._ends: list[tuple[int, int, _Request]] = []  # heap of the step at which a row ends
        self._steps = self._count = self._context = 0
        self._plan: tuple[int, float, float, int] | None = None  # number, start, seconds of a step, steps
        self._plans = 0
        self._to_read = 0
        self._is_renewed = False
        self.busy_s = 0.0

    @property
    def is_busy(self) -> bool:
        return self._plan is not None

    @property
    def load(self) -> int:
        return len(self._ends) + len(self._waiting)

    def ask(self, request: _Request) -> None:
        self._waiting.append(request)
        if self._plan is None:
            self._next()
            self._world.balance()
        elif len(self._ends) < self._world.cluster.max_rows:
            self.interrupt()

    def renew(self) -> None:
        """New weights: what rows have read and drawn is read again."""
        self._is_renewed = True
        self.interrupt()

    def interrupt(self) -> None:
        """End the plan with the step that is under way."""
        if self._plan is None:
            return
        _, start, step_s, steps = self._plan
        done = max(0, min(steps, ceil((self._events.now - start) / step_s - 1e-9))) if step_s else steps
        self._schedule(start, step_s, done)

    def _schedule(self, start: float, step_s: float, steps: int) -> None:
        self._plans += 1
        number = self._plans
        self._plan = (number, start, step_s, steps)
        self._events.after(max(0.0, start + steps * step_s - self._events.now), lambda: self._ended(number))

    def _ended(self, number: int) -> None:
        if self._plan is None or self._plan[0] != number:
            return
        _, _, step_s, steps = self._plan
        self._plan = None
        self.busy_s += steps * step_s
        self._steps += steps
        self._context += steps * len(self._ends)
        finished = []
        while self._ends and self._ends[0][0] <= self._steps:
            request = heappop(self._ends)[2]
            self._context -= request.context + request.tokens
            finished.append(request)
        for request in finished:
            request.done()
        self._next()
        self._world.balance()

    def _next(self) -> None:
        if self._plan is not None:
            return
        if self._is_renewed:
            self._to_read, self._is_renewed = self._to_read + self._context, False
        while self._waiting and len(self._ends) < self._world.cluster.max_rows:
            request = self._waiting.popleft()
            self._count += 1
            self._to_read += request.read
            self._context += request.context
            heappush(self._ends, (self._steps + request.tokens, self._count, request))
        if not self._ends:
            return
        rows, steps = len(self._ends), max(0, self._ends[0][0] - self._steps)
        slower = self._world.costs.contention if self._world.is_training else 1.0
        reading = self._to_read * self._world.costs.read_token * slower
        self._to_read = 0
        self.busy_s += reading
        step_s = slower * self._world.costs.step(rows, self._context + rows * steps // 2)
        self._schedule(self._events.now + reading, step_s, steps)


class _World:
    """All of a run."""

    def __init__(self, rounds: Sequence[Round], costs: Costs, cluster: Cluster) -> None:
        self.rounds, self.costs, self.cluster = rounds, costs, cluster
        self.events = _Events()
        self.outcome = Outcome()
        self._replicas = [_Replica(self) for _ in range(cluster.replicas)]
        self._pool = _Pool(self.events, cluster.sandboxes)
        self._version = self._begun = 0
        self._learns = False
        self._complete: set[int] = set()
        self._untold: dict[int, Callable[[], None]] = {}  # what follows once the round before is complete
        self._work: float | None = None  # seconds of training that are left, were nothing else going on
        self._since, self._factor, self._trainings, self._idle_from = 0.0, 1.0, 0, 0.0

    @property
    def is_training(self) -> bool:
        return self._work is not None

    def run(self) -> Outcome:
        self._reach()
        self.events.run()
        total = self.events.now * len(self._replicas)
        self.outcome.engine_idle_s = (total - sum(r.busy_s for r in self._replicas)) / len(self._replicas)
        return self.outcome

    def _reach(self) -> None:
        while self._begun < len(self.rounds) and self._begun - self.cluster.max_staleness <= self._version:
            self._begin(self._begun)
            self._begun += 1

    def _begin(self, number: int) -> None:
        trajectories, repairs = self.rounds[number].trajectories, self.rounds[number].repairs
        near: list[float] = []

        def left(count: int) -> None:
            if not near and count <= len(trajectories) // 10:
                near.append(self.events.now)

        def sampled() -> None:
            self.outcome.tail_s += self.events.now - (near[0] if near else self.events.now)
            self._tell(number, lambda: self._all(repairs, lambda: self._tell(number, lambda: self._completed(number))))

        self._all(trajectories, sampled, left)

    def _tell(self, number: int, done: Callable[[], None]) -> None:
        """Processes tell each other the trajectories or repairs of a round: rounds in order."""
        act = partial(self.events.after, self.costs.tell_s, done)
        if self.cluster.processes == 1 or number <= self._version or number - 1 in self._complete:
            act()
        else:
            self._untold[number] = act

    def _all(self, rows: Sequence[Row], done: Callable[[], None], left: Callable[[int], None] = lambda _: None) -> None:
        """Sample rows, then do the next thing."""
        count = len(rows)
        if not count:
            done()

        def ended() -> None:
            nonlocal count
            count -= 1
            left(count)
            if not count:
                done()

        for place, row in enumerate(rows):
            replica = min(self._own(place, len(rows)), key=lambda each: each.load)
            self._turn(replica, row, 0, 0, ended)

    def _own(self, place: int, count: int) -> Sequence[_Replica]:
        """The replicas of the process that has a row of this place among so many."""
        size, total = self.cluster.processes, len(self._replicas)
        rank = ((place + 1) * size - 1) // count  # neighbours stay together
        return self._replicas[total * rank // size : total * (rank + 1) // size]

    def _turn(
        self, replica: _Replica, row: Row, number: int, context: int, ended: Callable[[], None], version: int = 0
    ) -> None:
        """A row's next turn. Where weights came while its program ran, the engine has forgotten it: it is read anew."""
        turn, again = row[number], context if version < self._version else 0
        asked = self._version

        def drawn() -> None:
            if turn.tool_s is None:
                go_on()
            else:
                self._pool.run(turn.tool_s, go_on)

        def go_on() -> None:
            if number + 1 == len(row):
                ended()
            else:
                self._turn(replica, row, number + 1, context + turn.read + turn.tokens, ended, asked)

        replica.ask(_Request(tokens=turn.tokens, read=turn.read + again, context=context + turn.read, done=drawn))

    def _completed(self, number: int) -> None:
        self._complete.add(number)
        if number + 1 in self._untold:
            self._untold.pop(number + 1)()
        self._learn()

    def _learn(self) -> None:
        if self._learns or self._version not in self._complete:
            return
        self._learns = True
        self.outcome.learner_idle_s += self.events.now - self._idle_from
        self._work, self._since = self.costs.train(self._version), self.events.now
        self._factor = 0.0  # so that it is balanced
        self.balance()
        if self.costs.contention != 1.0:
            for replica in self._replicas:
                replica.interrupt()

    def balance(self) -> None:
        """Training goes on at the rate that the engines leave it."""
        factor = self.costs.contention if any(replica.is_busy for replica in self._replicas) else 1.0
        if self._work is None or factor == self._factor:
            return
        if self._factor:
            self._work = max(0.0, self._work - (self.events.now - self._since) / self._factor)
        self._since, self._factor = self.events.now, factor
        self._trainings += 1
        number = self._trainings
        self.events.after(self._work * factor, lambda: self._learnt(number))

    def _learnt(self, number: int) -> None:
        if number != self._trainings:
            return
        self._trainings += 1
        self._work = None

        def arrived() -> None:
            self._version += 1
            for replica in self._replicas:
                replica.renew()
            if self.cluster.max_staleness:
                self._reach()
            self.events.after(self.costs.save_s, saved)

        def saved() -> None:
            self._learns = False
            self.outcome.trained_at.append(self.events.now)
            self._idle_from = self.events.now
            self._reach()
            self._learn()

        self.events.after(self.costs.transfer_s, arrived)


def simulate(rounds: Sequence[Round], costs: Costs, cluster: Cluster) -> Outcome:
    """The times of a run."""
    return _World(rounds, costs, cluster).run()


def turns_of(trajectory: Any) -> list[Turn]:
    """The turns of a trajectory as a journal has it (`rollouts.jsonl`), those that were thrown away left out."""
    turns, read = [], len(trajectory["prompt"]["ids"])
    for step in trajectory["steps"]:
        parts = [part for part in (step["thought"], step["action"]) if part is not None]
        drawn = sum(len(part["ids"]) for part in parts)
        observed = step["observation"]
        seconds = None if observed is None else float(observed["result"]["seconds"])
        turns.append(Turn(tokens=drawn, read=read, tool_s=seconds))
        read = 0 if observed is None else len(observed["ids"])
    return turns
