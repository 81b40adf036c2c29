"""Whose step is next, among the engines that serve the same trajectories."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Attended(Protocol):
    """An engine, as its barrier sees it."""

    @property
    def num_waiting(self) -> int:
        """Requests it has not answered."""
        ...

    def wake(self) -> None:
        """Something has changed: look again whether a step can be taken."""
        ...

    def all_left(self) -> None:
        """The last attending trajectory has ended: what comes next is another batch."""
        ...


class StepBarrier:
    """Order of the steps of all engines that serve the same trajectories, and count of who may still ask for samples.

    A deterministic engine steps only when every attending trajectory waits for some engine, and engines that share a
    barrier, for example of actor and critic, take turns: neither the time of a tool nor that of the other engine
    decides who shares a batch.
    """

    def __init__(self) -> None:
        self.num_attending = 0
        self._engines: list[Attended] = []
        self._turn = 0

    def join(self, engine: Attended) -> None:
        """One more engine serves these trajectories."""
        self._engines.append(engine)

    @contextmanager
    def attend(self) -> Iterator[None]:
        """One more trajectory may ask for samples until this ends."""
        self.num_attending += 1
        self.announce()
        try:
            yield
        finally:
            self.num_attending -= 1
            if not self.num_attending:  # at once: the next batch may begin before any engine comes to look
                for engine in self._engines:
                    engine.all_left()
            self.announce()

    def announce(self) -> None:
        """Wake every engine."""
        for engine in self._engines:
            engine.wake()

    def is_turn_of(self, engine: Attended) -> bool:
        """True if all who attend wait, and `engine` is the next in turn that has something to do."""
        if sum(other.num_waiting for other in self._engines) < self.num_attending:
            return False
        order = self._engines[self._turn :] + self._engines[: self._turn]
        return next((other for other in order if other.num_waiting), None) is engine

    def end_turn_of(self, engine: Attended) -> None:
        """`engine` has taken a step."""
        self._turn = (self._engines.index(engine) + 1) % len(self._engines)
        for other in self._engines:
            if other is not engine:
                other.wake()
