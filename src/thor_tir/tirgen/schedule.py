"""Many questions, several attempts at each: which are made, in what order, when to stop, and how it goes meanwhile.

No more work exists than is in flight: attempts are taken one by one from the questions, so that memory does not grow
with the run. What is finished is in a journal, of which only a summary stays in memory.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from sys import intern
from time import perf_counter
from typing import Any

from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import DROPPED, dropping, in_parallel
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.generate import ACTOR, CRITIC
from thor_tir.verdict import Outcome

YOUNG_OBJECTS = 20_000
"""So many more objects made than freed, and the garbage collector looks at them; Python's own value is 700."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What may be spent, by one question or by a whole run. An attempt that has begun is finished."""

    tokens: int | None = None
    """Sampled by actor and critic; None for no bound."""
    calls: int | None = None
    """Completions asked of actor and critic."""
    hours: float | None = None
    """Hours that may be spent: by a question the time of its attempts added up, by a run the time since this process
    began."""

    def __post_init__(self) -> None:
        if any(bound is not None and bound <= 0 for bound in (self.tokens, self.calls, self.hours)):
            raise ValueError(f"a budget is positive, found {self}")

    def used_up(self, spent: Counter[str], seconds: float) -> str | None:
        """What is used up, in words; None while something is left of everything."""
        found = (
            ("tokens", self.tokens, spent[f"{ACTOR} tokens"] + spent[f"{CRITIC} tokens"]),
            ("calls", self.calls, spent[f"{ACTOR} calls"] + spent[f"{CRITIC} calls"]),
            ("hours", self.hours, seconds / 3600),
        )
        return next((f"{bound:g} {name}" for name, bound, used in found if bound is not None and used >= bound), None)


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


FAILED = "failed: "


class ProgressLine:
    """Counts of this process; questions done and solved are the run's."""

    def __init__(self, schedule: AttemptSchedule) -> None:
        self.attempts = 0
        self.critic: Counter[str] = Counter()
        """Fates of steps."""
        self.spent: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self._campaign = schedule
        self._began = perf_counter()

    def add(self, row: Mapping[str, Any]) -> None:
        """One more attempt."""
        self.attempts += 1
        if DROPPED in row:
            self.dropped[row[DROPPED]] += 1
            return
        self.critic.update(row["critic"])
        self.spent.update(row["spent"])

    def line(self) -> str:
        """Questions, attempts, tokens by role, what the critic and the sandbox did, time left."""
        seconds = max(perf_counter() - self._began, 1e-9)
        schedule = self._campaign
        done = schedule.num_done
        parts = [f"{done} of {schedule.num_questions} questions, {schedule.num_solved} solved"]
        parts.append(f"{self.attempts / seconds:.1f} attempts/s")
        parts += [f"{role} {self.spent[f'{role} tokens'] / seconds:,.0f} tokens/s" for role in ("actor", "critic")]
        if judged := sum(self.critic.values()):
            parts.append(f"critic {100 * self.critic['rewritten'] / judged:.0f} % accepted")
        failures = {name.removeprefix(FAILED): n for name, n in self.critic.items() if name.startswith(FAILED)}
        if failures:
            parts.append("programs failed: " + ", ".join(f"{n} {name}" for name, n in sorted(failures.items())))
        if self.dropped:
            parts.append("lost: " + ", ".join(f"{n} {name}" for name, n in sorted(self.dropped.items())))
        if (fresh := done - schedule.num_done_before) > 0:
            parts.append(f"{_duration((schedule.num_questions - done) * seconds / fresh)} left")
        return "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
