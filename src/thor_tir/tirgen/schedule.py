"""Many questions, several attempts at each: which are made, in what order, and when to stop.

No more work exists than is in flight: attempts are taken one by one from the questions, so that memory does not grow
with the run. What is finished is in a journal, of which only a summary stays in memory.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from sys import intern
from time import perf_counter
from typing import Any

from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import DROPPED, dropping, in_parallel
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.spending import Budget
from thor_tir.verdict import Outcome

YOUNG_OBJECTS = 20_000
"""So many more objects made than freed, and the garbage collector looks at them; Python's own value is 700."""


@dataclass(frozen=True, kw_only=True)
class AttemptScheduleConfig:
    """How much is tried."""

    attempts: int = 1
    """At each question, with seeds of their own."""
    until_solved: bool = False
    """No further attempt at a question after one that is right."""
    per_question: Budget = field(default_factory=Budget)
    """No further attempt at a question that has cost so much."""
    total: Budget = field(default_factory=Budget)
    """No further attempt of this run; the same command, with a larger budget, continues."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts is {self.attempts}; at least one at each question is needed")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """One attempt that may be made."""

    problem: Problem
    """Problem that may be attempted."""
    number: int
    """Number of the attempt at this problem, from 0."""

    @property
    def key(self) -> str:
        """Of its row."""
        return f"{self.problem.id}/{self.number}"


Make = Callable[[AttemptKey], Awaitable[dict[str, Any]]]
"""Makes one attempt: its row. Raises machine faults."""


def brief(row: dict[str, Any]) -> dict[str, Any]:
    """What of a raw row stays in memory."""
    if DROPPED in row:
        return {"key": row["key"], DROPPED: row[DROPPED]}
    is_right = row.get("outcome") == Outcome.CORRECT.value
    spent = row.get("spent", {})
    return {
        "is_right": is_right,
        "is_promising": is_right and row.get("critic", {}).get("rewritten", 0) > 0,
        "spent": {intern(name): spent[name] for name in sorted(spent)},
        "seconds": row.get("seconds", 0.0),
    }


class AttemptSchedule:
    """The state of a run over its questions."""

    def __init__(self, problems: Sequence[Problem], journal: Journal, config: AttemptScheduleConfig) -> None:
        self.config = config
        self.ended_by: str | None = None
        """The budget that is used up, if one is."""
        self.num_questions = len(problems)
        self.num_done = 0
        self.num_done_before = 0
        """Questions that an earlier process finished."""
        self._problems = problems
        self._journal = journal
        self._began = perf_counter()
        self._solved: set[str] = set()
        self._open: dict[str, int] = {}
        self._spent = Counter[str]()
        self._by_question: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for problem in problems:
            made = [AttemptKey(problem=problem, number=n) for n in range(config.attempts)]
            made = [wanted for wanted in made if wanted.key in journal]
            for wanted in made:
                self._note(wanted, journal[wanted.key])
            is_enough = config.until_solved and problem.id in self._solved
            self.num_done_before += is_enough or len(made) == config.attempts

    @property
    def num_solved(self) -> int:
        """Questions with an attempt that is right."""
        return len(self._solved)

    async def run(
        self,
        make: Make,
        *,
        concurrency: int,
        made: Callable[[AttemptKey, dict[str, Any]], None],
        done: Callable[[], None],
    ) -> None:
        """Make the attempts that are missing. `made` hears of each, `done` of each question that is finished."""

        async def chain(wanted: Sequence[AttemptKey]) -> None:
            for each in wanted:
                if each.key in self._journal:
                    continue
                if self._is_enough(each):
                    break
                row = await dropping(lambda each=each: make(each))  # type: ignore[misc]
                self._note(each, brief({"key": each.key, **row}))
                made(each, row)
                if self._journal.hold:
                    held[each.key] = row
                else:
                    self._journal.add(each.key, row)
            if self._closes(wanted[0].problem) and self.ended_by is None:
                self.num_done += 1
                done()

        held: dict[str, dict[str, Any]] = {}
        with _settled_objects():
            if not self._journal.hold:
                await in_parallel(self._chains(), chain, concurrency)
                return
            for chunk in _batches(
                self._chains(), concurrency
            ):  # wholly on disk or not at all, see `rollout/sample_many.py`
                held.clear()
                await in_parallel(chunk, chain, concurrency)
                for each in (each for wanted in chunk for each in wanted):
                    if each.key in held:
                        self._journal.add(each.key, held[each.key])
                self._journal.commit()

    def _chains(self) -> Iterator[Sequence[AttemptKey]]:
        """Attempts that must follow each other, question by question, until a budget is used up."""
        for problem in self._problems:
            wanted = [AttemptKey(problem=problem, number=number) for number in range(self.config.attempts)]
            for chain in [wanted] if self.config.until_solved else [[each] for each in wanted]:
                if self.ended_by is not None:
                    return
                yield chain

    def _is_enough(self, wanted: AttemptKey) -> bool:
        id = wanted.problem.id
        if self.config.until_solved and id in self._solved:
            return True
        own = self._by_question[id] if id in self._by_question else Counter[str]()
        if self.config.per_question.used_up(own, own["milliseconds"] / 1000) is not None:
            return True
        self.ended_by = self.config.total.used_up(self._spent, perf_counter() - self._began)
        return self.ended_by is not None

    def _closes(self, problem: Problem) -> bool:
        """Whether this was the question's last chain."""
        if self.config.until_solved:
            return True
        left = self._open.pop(problem.id, self.config.attempts) - 1
        if left:
            self._open[problem.id] = left
        return not left

    def _note(self, wanted: AttemptKey, row: dict[str, Any]) -> None:
        if row.get("is_right"):
            self._solved.add(wanted.problem.id)
        self._spent.update(row.get("spent", {}))
        if self.config.per_question != Budget():
            cost = {**row.get("spent", {}), "milliseconds": round(1000 * row.get("seconds", 0.0))}
            self._by_question[wanted.problem.id].update(cost)


@contextmanager
def _settled_objects() -> Iterator[None]:
    """What exists now is left alone by the garbage collector, whose look at it all would stop every request at once.

    It also looks less often at what is new: nearly all of that goes without it.
    """
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


def _batches(chains: Iterable[Sequence[AttemptKey]], size: int) -> Iterator[list[Sequence[AttemptKey]]]:
    rest = iter(chains)
    while batch := list(islice(rest, size)):
        yield batch
