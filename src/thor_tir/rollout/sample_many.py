"""Many problems -> many graded attempts: sampled at once, kept in a journal as they finish, resumed after a kill."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import GraderUnavailable, RequestFault, SandboxLost, SandboxUnavailable
from thor_tir.problem import Problem
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, StepRepair, rollout
from thor_tir.storage.journal import Journal, exchange
from thor_tir.storage.trajectory_json import trajectory_from_json, trajectory_to_json
from thor_tir.trajectory import Trajectory
from thor_tir.verdict import Outcome, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRequest:
    """One attempt that is wanted."""

    id: str
    """Unique within the run; the key of the journal."""
    problem: Problem
    """Problem that is attempted."""
    seed: int
    """Seed of the attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt that was made, with its verdict."""

    problem: Problem
    """Problem that was attempted."""
    trajectory: Trajectory
    """Trajectory that was sampled."""
    verdict: Verdict
    """Verdict on its answer."""

    @property
    def is_correct(self) -> bool:
        """True where the grader accepted the answer."""
        return self.verdict.outcome is Outcome.CORRECT


def written_text(trajectory: Trajectory) -> str:
    """Text that is graded of a trajectory unless somebody says otherwise: all that the model wrote outside of code."""
    return trajectory.response_text


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """An attempt as it stands in journals."""
    verdict = attempt.verdict
    return {
        "problem_id": attempt.problem.id,
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
        "by_judge": verdict.by_judge,
        "trajectory": trajectory_to_json(attempt.trajectory),
    }


def attempt_from_json(row: dict[str, Any], problem: Problem) -> Attempt:
    """The attempt a journal's row stands for. Raises ValueError for a damaged row."""
    if row.get("problem_id") != problem.id:
        raise ValueError(f"row {row.get('key')} is about problem {row.get('problem_id')}, not {problem.id}")
    verdict = Verdict(
        outcome=Outcome(row["outcome"]),
        extracted=row["extracted"],
        reason=row["reason"],
        by_judge=row["by_judge"],
    )
    return Attempt(problem=problem, trajectory=trajectory_from_json(row["trajectory"]), verdict=verdict)


T = TypeVar("T")

Grade = Callable[[Problem, str], Awaitable[Verdict]]
"""Grades what the model wrote against a problem's reference. Raises GraderUnavailable."""


Unit = Callable[[], Awaitable[dict[str, Any]]]
"""Work that ends in one journal row. Raises machine faults."""

DROPPED = "dropped"
"""Field of a journal row that stands for a unit lost to a machine fault, which it names."""


class Progress(Protocol):
    """The place to which long work reports finished units."""

    def advance(self, units: int = 1) -> None:
        """Count `units` more as done."""
        ...

    def note(self, line: str) -> None:
        """Show a line about the work to a person; it replaces the line before."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingSetup:
    """Everything that attempts are made with."""

    agent: Agent
    """Policy, sandbox and dialect."""
    grade: Grade
    """Function that judges a text against a problem's reference."""
    config: RolloutConfig
    """Limits and sampling of each trajectory."""
    graded: Callable[[Trajectory], str] = written_text
    """Function from a trajectory to the text that is graded."""
    repair: StepRepair | None = None
    """Function that repairs a failed step; None where failures stay."""
    concurrency: int = 256
    """Attempts in flight; the engine's batch is smaller, the rest wait for tools or for a slot."""
    ranks: Ranks = ALONE
    """Processes among which the attempts are shared out; each has an engine of its own."""


async def attempt(request: AttemptRequest, setup: SamplingSetup) -> Attempt:
    """Sample and grade one trajectory. Machine faults pass through."""
    draft = Draft(
        id=request.id,
        problem_id=request.problem.id,
        prompt=setup.agent.dialect.prompt(request.problem.question),
        seed=request.seed,
    )
    trajectory = await rollout(draft, setup.agent, setup.config, setup.repair)
    verdict = await setup.grade(request.problem, setup.graded(trajectory))
    return Attempt(problem=request.problem, trajectory=trajectory, verdict=verdict)


async def attempt_all(
    requests: Sequence[AttemptRequest], setup: SamplingSetup, journal: Journal, progress: Progress | None = None
) -> list[Attempt]:
    """All attempts in the order of the requests, without those that a machine fault ended.

    What the journal already holds is read, not sampled again.
    """

    async def one(request: AttemptRequest) -> dict[str, Any]:
        return attempt_to_json(await attempt(request, setup))

    await record_all({r.id: partial(one, r) for r in requests}, setup, journal, progress)
    return [attempt_from_json(journal[r.id], r.problem) for r in requests if DROPPED not in journal[r.id]]


async def record_all(
    work: Mapping[str, Unit], setup: SamplingSetup, journal: Journal, progress: Progress | None = None
) -> Counter[str]:
    """Run units of work at once and journal each row under its key as it finishes; returns `lost` of these keys.

    A journal that holds its lines (deterministic runs) gets them in the order of `work`, chunk by chunk, each wholly or
    not at all: which units share a batch then does not depend on where a kill fell. Sandbox and grader faults, and a
    single request that an engine cannot answer, drop the unit, which is counted and stays dropped when the run is
    resumed; any other fault cancels the rest and is raised.
    Units the journal already holds are not run. Of several processes each runs its share; all know all rows at the end.
    """
    keys = list(work)
    mine = setup.ranks.share(keys)
    size = setup.concurrency if journal.hold else max(1, len(mine))
    for start in range(0, len(mine), size):
        await _record({key: work[key] for key in mine[start : start + size]}, setup, journal, progress)
    exchange(journal, mine, setup.ranks)
    return lost(journal, keys)


def lost(journal: Journal, keys: Iterable[str]) -> Counter[str]:
    """Units that a fault of the machine ended, by the fault's name: they have no reward.

    Counted from the journal, so that a resumed run counts what was dropped before the kill.
    """
    return Counter(journal[key][DROPPED] for key in keys if DROPPED in journal[key])


async def _record(work: Mapping[str, Unit], setup: SamplingSetup, journal: Journal, progress: Progress | None) -> None:
    todo = [key for key in work if key not in journal]
    if progress is not None:
        progress.advance(len(work) - len(todo))
    held: dict[str, dict[str, Any]] = {}

    async def run(key: str) -> None:
        row = await dropping(work[key])
        if journal.hold:
            held[key] = row
        else:
            journal.add(key, row)
        if progress is not None:
            progress.advance()

    await in_parallel(todo, run, setup.concurrency)
    if journal.hold:
        for key in todo:
            journal.add(key, held[key])
        journal.commit()


async def dropping(unit: Unit) -> dict[str, Any]:
    """The row of a unit, or the one that stands for a unit lost to a fault of the machine that is its own."""
    try:
        return await unit()
    except SandboxLost:
        raise
    except (SandboxUnavailable, GraderUnavailable, RequestFault) as fault:
        return {DROPPED: type(fault).__name__}


async def in_parallel(items: Iterable[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Work on items, at most `concurrency` at once. An item is taken when there is room for it: they may be endless.

    The first fault cancels the rest and is raised.
    """
    shared = iter(items)

    async def worker() -> None:
        for item in shared:
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(worker())
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None
