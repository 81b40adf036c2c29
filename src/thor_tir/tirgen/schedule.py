"""Many questions, several attempts at each: which are made, in what order, when to stop, and how it goes meanwhile.

No more work exists than is in flight: attempts are taken one by one from the questions, so that memory does not grow
with the run. What is finished is in a journal, of which only a summary stays in memory.
"""

import gc
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from sys import intern
from time import perf_counter

from thor_tir.problem import Problem
from thor_tir.progress import duration
from thor_tir.rollout.sample_many import DROPPED, ChainEvents, KeyedUnit, UnitChain, record_chains
from thor_tir.storage.journal import Journal, JsonObject
from thor_tir.tirgen.generate import FAILED, REWRITTEN, Role, Spent
from thor_tir.trajectory import Finish
from thor_tir.verdict import Outcome

YOUNG_OBJECTS = 20_000
"""Objects made and not freed after which the garbage collector looks at them; Python's own value is 700."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Bounds on what one question or a whole run may cost. An attempt that has begun is finished."""

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

    def used_up(self, spent: Spent, seconds: float) -> str | None:
        """The bound that is reached, for a person; None while something is left of everything."""
        found = (
            ("tokens", self.tokens, spent.tokens.total()),
            ("calls", self.calls, spent.calls.total()),
            ("hours", self.hours, seconds / 3600),
        )
        return next((f"{bound:g} {name}" for name, bound, used in found if bound is not None and used >= bound), None)


@dataclass(frozen=True, kw_only=True)
class AttemptScheduleConfig:
    """Number of attempts, and bounds on their cost."""

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
        """Key of the attempt's row."""
        return f"{self.problem.id}/{self.number}"


def problem_id_of(key: str) -> str:
    """Id of the problem that the attempt of this key is made at."""
    return key.rpartition("/")[0]


Make = Callable[[AttemptKey], Awaitable[JsonObject]]
"""Makes one attempt: its row. Raises machine faults."""


def brief(row: JsonObject) -> JsonObject:
    """The part of a raw row that stays in memory."""
    if DROPPED in row:
        return {"key": row["key"], DROPPED: row[DROPPED]}
    is_right = row.get("outcome") == Outcome.CORRECT.value
    spent = row.get("spent", {})
    return {
        "is_right": is_right,
        "wrote_nothing": wrote_nothing(row),
        "is_promising": is_right and row.get("critic", {}).get(REWRITTEN, 0) > 0,
        "spent": {intern(name): spent[name] for name in sorted(spent)},
        "seconds": row.get("seconds", 0.0),
    }


def wrote_nothing(row: JsonObject) -> bool:
    """True for an attempt that a full context ended before the actor's first word."""
    trajectory = row.get("trajectory", {})
    return not trajectory.get("steps", True) and trajectory.get("finish") == Finish.TOKEN_LIMIT


class AttemptSchedule:
    """The state of a run over its questions."""

    def __init__(self, problems: Sequence[Problem], journal: Journal, config: AttemptScheduleConfig) -> None:
        self.config = config
        self.ended_by: str | None = None
        """The budget that is used up, if one is."""
        self.num_questions = len(problems)
        self.num_done = 0
        self.num_solved_of_done = 0
        """Questions among those that are done with an attempt that is right."""
        self._problems = problems
        self._journal = journal
        self._began = perf_counter()
        self._solved: set[str] = set()
        self._done_before: set[str] = set()
        self._open: dict[str, int] = {}
        self._spent = Spent()
        self._by_question: defaultdict[str, Spent] = defaultdict(Spent)
        self._milliseconds_by_question = Counter[str]()
        for problem in problems:
            made = [AttemptKey(problem=problem, number=n) for n in range(config.attempts)]
            made = [wanted for wanted in made if wanted.key in journal]
            for wanted in made:
                self._note(problem.id, journal[wanted.key])
            is_enough = config.until_solved and problem.id in self._solved
            if is_enough or len(made) == config.attempts:
                self._done_before.add(problem.id)

    @property
    def num_done_before(self) -> int:
        """Questions that an earlier process finished."""
        return len(self._done_before)

    @property
    def num_solved(self) -> int:
        """Questions with an attempt that is right."""
        return len(self._solved)

    async def run(
        self, make: Make, *, concurrency: int, made: Callable[[str, JsonObject], None], done: Callable[[], None]
    ) -> None:
        """Make the attempts that are missing. `made` is called after each, `done` after each question that
        is finished now."""

        def note(key: str, row: JsonObject) -> None:
            self._note(problem_id_of(key), brief({"key": key, **row}))
            made(key, row)

        def close(chain: UnitChain) -> None:
            problem_id = problem_id_of(chain[0].key)
            if self._closes(problem_id) and self.ended_by is None:
                self.num_done += 1
                self.num_solved_of_done += problem_id in self._solved
                if problem_id not in self._done_before:
                    done()

        events = ChainEvents(is_wanted=self._is_wanted, made=note, ended=close)
        with _settled_objects():
            await record_chains(self._chains(make), self._journal, events, concurrency=concurrency)

    def _chains(self, make: Make) -> Iterator[UnitChain]:
        """Attempts that must follow each other, question by question, until a budget is used up."""
        for problem in self._problems:
            wanted = [AttemptKey(problem=problem, number=number) for number in range(self.config.attempts)]
            units = [KeyedUnit(key=each.key, make=partial(make, each)) for each in wanted]
            for chain in [units] if self.config.until_solved else [[each] for each in units]:
                if self.ended_by is not None:
                    return
                yield chain

    def _is_wanted(self, key: str) -> bool:
        id = problem_id_of(key)
        if self.config.until_solved and id in self._solved:
            return False
        own = self._by_question.get(id, Spent())
        if self.config.per_question.used_up(own, self._milliseconds_by_question[id] / 1000) is not None:
            return False
        self.ended_by = self.config.total.used_up(self._spent, perf_counter() - self._began)
        return self.ended_by is None

    def _closes(self, problem_id: str) -> bool:
        """True for the question's last chain."""
        if self.config.until_solved:
            return True
        left = self._open.pop(problem_id, self.config.attempts) - 1
        if left:
            self._open[problem_id] = left
        return not left

    def _note(self, problem_id: str, row: JsonObject) -> None:
        if row.get("is_right"):
            self._solved.add(problem_id)
        spent = Spent.from_json(row.get("spent", {}))
        self._spent.add(spent)
        if self.config.per_question != Budget():
            self._by_question[problem_id].add(spent)
            self._milliseconds_by_question[problem_id] += round(1000 * row.get("seconds", 0.0))


@contextmanager
def _settled_objects() -> Iterator[None]:
    """The garbage collector leaves alone what exists now: its look at it all would stop every request at once.

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


class ProgressLine:
    """Counts of this process; questions done and solved are the run's."""

    def __init__(self, schedule: AttemptSchedule) -> None:
        self.attempts = 0
        self.critic: Counter[str] = Counter()
        """Fates of steps."""
        self.spent = Spent()
        self.dropped: Counter[str] = Counter()
        self._schedule = schedule
        self._began = perf_counter()

    def add(self, row: JsonObject) -> None:
        """One more attempt."""
        self.attempts += 1
        if DROPPED in row:
            self.dropped[row[DROPPED]] += 1
            return
        self.critic.update(row["critic"])
        self.spent.add(Spent.from_json(row["spent"]))

    def line(self) -> str:
        """Questions, attempts, tokens by role, what the critic and the sandbox did, time left."""
        seconds = max(perf_counter() - self._began, 1e-9)
        schedule = self._schedule
        done = schedule.num_done
        parts = [f"{done} of {schedule.num_questions} questions, {schedule.num_solved_of_done} solved"]
        parts.append(f"{self.attempts / seconds:.1f} attempts/s")
        parts += [f"{role} {self.spent.tokens[role] / seconds:,.0f} tokens/s" for role in Role]
        if judged := sum(self.critic.values()):
            parts.append(f"critic {100 * self.critic[REWRITTEN] / judged:.0f} % accepted")
        failures = {str(status): n for status, fate in FAILED.items() if (n := self.critic[fate])}
        if failures:
            parts.append("programs failed: " + ", ".join(f"{n} {name}" for name, n in sorted(failures.items())))
        if self.dropped:
            parts.append("lost: " + ", ".join(f"{n} {name}" for name, n in sorted(self.dropped.items())))
        if (fresh := done - schedule.num_done_before) > 0:
            parts.append(f"{duration((schedule.num_questions - done) * seconds / fresh)} left")
        return "; ".join(parts)
