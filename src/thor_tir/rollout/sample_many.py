"""Many problems -> many graded attempts: sampled at once, kept in a journal as they finish, resumed after a kill."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

from thor_tir.distributed import ALONE, Ranks
from thor_tir.errors import GraderUnavailable, RequestFault, SandboxLost, SandboxUnavailable, ToolLost, ToolUnavailable
from thor_tir.problem import Problem
from thor_tir.progress import UNSEEN, Progress
from thor_tir.rollout.loop import Agent, Draft, RolloutConfig, StepRepair, rollout
from thor_tir.rollout.rewards import Judged, WeightedReward, judged
from thor_tir.storage.journal import Journal, JsonObject
from thor_tir.storage.shared_journal import exchange
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
    judged: Judged | None = None
    """Rewards of a run that names other ones than the answer; None where the answer is the reward."""

    @property
    def reward(self) -> float | None:
        """Reward of the episode level; None where there is none. By default 1 for a right answer and 0 for a wrong one
        (paper, section 2.3.1)."""
        if self.judged is not None:
            return self.judged.total
        return None if self.verdict.outcome is Outcome.UNSCORED else float(self.is_correct)

    @property
    def is_correct(self) -> bool:
        """True where the grader accepted the answer."""
        return self.verdict.outcome is Outcome.CORRECT


def written_text(trajectory: Trajectory) -> str:
    """Text that is graded of a trajectory by default: all that the model wrote outside of code."""
    return trajectory.response_text


def attempt_to_json(attempt: Attempt) -> JsonObject:
    """An attempt as it stands in journals."""
    verdict = attempt.verdict
    return {
        "problem_id": attempt.problem.id,
        "outcome": verdict.outcome.value,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
        "by_judge": verdict.by_judge,
        **({} if attempt.judged is None else {"judged": asdict(attempt.judged)}),
        "trajectory": trajectory_to_json(attempt.trajectory),
    }


def attempt_from_json(row: JsonObject, problem: Problem) -> Attempt:
    """The attempt a journal's row stands for. Raises ValueError for a damaged row."""
    if row.get("problem_id") != problem.id:
        raise ValueError(f"row {row.get('key')} is about problem {row.get('problem_id')}, not {problem.id}")
    verdict = Verdict(
        outcome=Outcome(row["outcome"]),
        extracted=row["extracted"],
        reason=row["reason"],
        by_judge=row["by_judge"],
    )
    return Attempt(
        problem=problem,
        trajectory=trajectory_from_json(row["trajectory"]),
        verdict=verdict,
        judged=Judged(**row["judged"]) if "judged" in row else None,
    )


T = TypeVar("T")

Grade = Callable[[Problem, str], Awaitable[Verdict]]
"""Grades what the model wrote against a problem's reference. Raises GraderUnavailable."""


Unit = Callable[[], Awaitable[JsonObject]]
"""Work that ends in one journal row. Raises machine faults."""

DROPPED = "dropped"
"""Field of a journal row that stands for a unit lost to a machine fault, which it names."""


async def at_once() -> None:
    """Wait for nothing."""


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
    rewards: Sequence[WeightedReward] = ()
    """Rewards that judge a trajectory; none where the answer is the reward."""
    repair: StepRepair | None = None
    """Function that repairs a failed step; None where failures stay."""
    concurrency: int = 256
    """Attempts in flight; the engine's batch is smaller, the rest wait for tools or for a slot."""
    ranks: Ranks = ALONE
    """Processes among which the attempts are shared out; each has an engine of its own."""
    turn: Callable[[], Awaitable[None]] = at_once
    """Function that waits until the processes may tell each other their rows, where several works go on at once."""


async def attempt(request: AttemptRequest, setup: SamplingSetup) -> Attempt:
    """Sample and grade one trajectory. Machine faults pass through."""
    draft = Draft(
        id=request.id,
        problem_id=request.problem.id,
        prompt=setup.agent.dialect.prompt(request.problem.question, request.problem.system),
        seed=request.seed,
    )
    return await graded_rollout(draft, request.problem, setup)


async def graded_rollout(draft: Draft, problem: Problem, setup: SamplingSetup) -> Attempt:
    """Let a draft grow to its end, and grade it. Machine faults pass through."""
    trajectory = await rollout(draft, setup.agent, setup.config, setup.repair)
    verdict = await setup.grade(problem, setup.graded(trajectory))
    found = await judged(setup.rewards, problem, trajectory, verdict) if setup.rewards else None
    return Attempt(problem=problem, trajectory=trajectory, verdict=verdict, judged=found)


async def attempt_all(
    requests: Sequence[AttemptRequest], setup: SamplingSetup, journal: Journal, progress: Progress = UNSEEN
) -> list[Attempt]:
    """All attempts in the order of the requests, without those that a machine fault ended.

    What the journal already holds is read, not sampled again.
    """

    async def one(request: AttemptRequest) -> JsonObject:
        return attempt_to_json(await attempt(request, setup))

    await record_all({r.id: partial(one, r) for r in requests}, setup, journal, progress)
    return [attempt_from_json(journal[r.id], r.problem) for r in requests if DROPPED not in journal[r.id]]


async def record_all(
    work: Mapping[str, Unit], setup: SamplingSetup, journal: Journal, progress: Progress = UNSEEN
) -> Counter[str]:
    """Run units of work at once and journal each row under its key as it finishes; returns `lost` of these keys.

    Sandbox and grader faults, and a single request that an engine cannot answer, drop the unit, which is counted and
    stays dropped when the run is resumed; any other fault cancels the rest and is raised. Of several processes each
    runs its share; all know all rows at the end.
    """
    keys = list(work)
    mine = setup.ranks.share(keys)
    chains = ([KeyedUnit(key=key, make=work[key])] for key in mine)
    before = {key for key in mine if key in journal}
    size = setup.ranks.size  # while this process does one, the others do one each
    progress.resume(len(before))
    events = ChainEvents(ended=lambda chain: None if chain[0].key in before else progress.advance(size))
    await record_chains(chains, journal, events, concurrency=setup.concurrency)
    await setup.turn()
    await exchange(journal, mine, setup.ranks)
    progress.advance(len(keys) - len(before) - size * (len(mine) - len(before)))
    return lost(journal, keys)


def lost(journal: Journal, keys: Iterable[str]) -> Counter[str]:
    """Units that a fault of the machine ended, by the fault's name: they have no reward.

    Counted from the journal, so that a resumed run counts what was dropped before the kill.
    """
    return Counter(journal[key][DROPPED] for key in keys if DROPPED in journal[key])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedUnit:
    """One unit of work and the key under which its row is journalled."""

    key: str
    """Key of the row, unique within the journal."""
    make: Unit
    """Function that does the work."""


UnitChain = Sequence[KeyedUnit]
"""Units that are done one after the other, since what one gives may make the next ones needless."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainEvents:
    """Functions that are called while chains of units are run."""

    is_wanted: Callable[[str], bool] = lambda key: True
    """Function that is asked before a unit is begun; False leaves it out, and the rest of its chain."""
    made: Callable[[str, JsonObject], None] = lambda key, row: None
    """Function that is called with each row that this process made, and its key."""
    ended: Callable[[UnitChain], None] = lambda chain: None
    """Function that is called with each chain that is done."""


async def record_chains(
    chains: Iterable[UnitChain], journal: Journal, events: ChainEvents, *, concurrency: int
) -> None:
    """Run chains of units, at most `concurrency` at once, and journal each row: the only fan-out of the package.

    A chain is taken when there is room for it, so that no more of them exist than are in flight. Units the journal
    already holds are not run. A journal that holds its lines gets them in the order of the chains, `concurrency` of
    them at a time, each time wholly or not at all: which units share a batch does not depend on where a kill fell.
    """
    held: dict[str, JsonObject] = {}

    async def run(chain: UnitChain) -> None:
        for unit in chain:
            if unit.key in journal:
                continue
            if not events.is_wanted(unit.key):
                break
            row = await dropping(unit.make)
            events.made(unit.key, row)
            if journal.hold:
                held[unit.key] = row
            else:
                journal.add(unit.key, row)
        events.ended(chain)

    if not journal.hold:
        await in_parallel(chains, run, concurrency)
        return
    rest = iter(chains)
    while batch := list(islice(rest, concurrency)):
        held.clear()
        await in_parallel(batch, run, concurrency)
        for key in (unit.key for chain in batch for unit in chain if unit.key in held):
            journal.add(key, held[key])
        journal.commit()


async def dropping(unit: Unit) -> JsonObject:
    """The row of a unit, or the one that stands for a unit lost to a fault of the machine that is its own."""
    try:
        return await unit()
    except (SandboxLost, ToolLost):
        raise
    except (SandboxUnavailable, ToolUnavailable, GraderUnavailable, RequestFault) as fault:
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
