"""Which attempts a run over questions makes, and when it stops."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from hostile_server import HostileServer, hostile, reply, resets, says, until
from thor_tir.errors import EngineFault, SandboxLost, SandboxUnavailable
from thor_tir.problem import Problem
from thor_tir.rollout.sample_many import DROPPED
from thor_tir.sandbox.remote.client import RemoteSandbox, RemoteSandboxConfig
from thor_tir.sandbox.remote.load_balancer import FleetRules
from thor_tir.storage.journal import Journal
from thor_tir.tirgen.schedule import AttemptKey, AttemptSchedule, AttemptScheduleConfig, Budget, ProgressLine, brief

RIGHT, WRONG = "correct", "wrong"


def problems(count: int) -> list[Problem]:
    return [Problem(id=f"p{i}", question=f"{i}?", answer="1", source="test") for i in range(count)]


def row_of(outcome: str = WRONG, *, tokens: int = 10) -> dict:
    spent = {"actor tokens": tokens, "actor calls": 1}
    return {"outcome": outcome, "critic": {"rewritten": 1}, "spent": spent, "seconds": 1.0}


class Run:
    """One process of a run: what it made, and how many attempts were in flight."""

    def __init__(self, path: Path, count: int, make=None, *, hold: bool = False, **config) -> None:
        self.journal = Journal(path, hold=hold, brief=brief)
        self.schedule = AttemptSchedule(problems(count), self.journal, AttemptScheduleConfig(**config))
        self.made: list[str] = []
        self.flying = self.most_flying = 0
        self.done = 0
        self._make = make or (lambda wanted: row_of())

    async def _one(self, wanted: AttemptKey) -> dict:
        self.flying += 1
        self.most_flying = max(self.most_flying, self.flying)
        await asyncio.sleep(0)
        self.flying -= 1
        self.made.append(wanted.key)
        return self._make(wanted)

    def _count(self) -> None:
        self.done += 1

    def go(self, *, concurrency: int = 3) -> "Run":
        work = self.schedule.run(self._one, concurrency=concurrency, made=lambda *_: None, done=self._count)
        asyncio.run(work)
        return self


def test_every_question_gets_its_attempts_and_no_more_are_in_flight_than_allowed(tmp_path):
    run = Run(tmp_path / "j", 10, attempts=3).go(concurrency=4)
    assert sorted(run.made) == sorted(f"p{i}/{k}" for i in range(10) for k in range(3))
    assert run.most_flying == 4
    assert run.done == 10


def test_a_question_that_is_solved_gets_no_further_attempt_where_that_is_asked_for(tmp_path):
    run = Run(
        tmp_path / "j",
        3,
        lambda wanted: row_of(RIGHT if wanted.key in ("p0/0", "p1/1") else WRONG),
        attempts=3,
        until_solved=True,
    ).go()
    assert Counter(key.split("/")[0] for key in run.made) == {"p0": 1, "p1": 2, "p2": 3}
    assert run.schedule.num_solved == 2
    assert run.done == 3


def test_what_is_in_the_journal_is_not_made_again_and_counts_as_solved(tmp_path):
    Run(tmp_path / "j", 4, lambda wanted: row_of(RIGHT), attempts=2).go()
    again = Run(tmp_path / "j", 6, attempts=2).go()
    assert sorted(again.made) == ["p4/0", "p4/1", "p5/0", "p5/1"]
    assert again.schedule.num_solved == 4
    assert (again.done, again.schedule.num_done, again.schedule.num_solved_of_done) == (2, 6, 4)  # two of them now
    assert again.schedule.num_done_before == 4  # which say nothing about how long the rest takes


def test_a_total_budget_ends_the_run_and_a_larger_one_continues_it(tmp_path):
    # 10 tokens an attempt: after 5 attempts 50 are spent, and at most two more are in flight
    first = Run(tmp_path / "j", 20, total=Budget(tokens=50)).go()
    assert first.schedule.ended_by == "50 tokens"
    assert 5 <= len(first.made) <= 7
    second = Run(tmp_path / "j", 20, total=Budget(tokens=1000)).go()
    assert second.schedule.ended_by is None
    assert sorted(first.made + second.made) == sorted(f"p{i}/0" for i in range(20))


def test_a_question_that_costs_too_much_is_left_and_the_others_go_on(tmp_path):
    dear = Run(
        tmp_path / "j",
        2,
        lambda wanted: row_of(tokens=100 if wanted.problem.id == "p0" else 1),
        attempts=5,
        per_question=Budget(tokens=150),
    ).go(concurrency=1)
    assert Counter(key.split("/")[0] for key in dear.made) == {"p0": 2, "p1": 5}


@pytest.mark.parametrize("bound", [{"calls": 1}, {"hours": 1 / 3600}])
def test_calls_and_time_of_a_question_are_bounded_too(tmp_path, bound):
    run = Run(tmp_path / "j", 1, attempts=5, per_question=Budget(**bound)).go(concurrency=1)
    assert run.made == ["p0/0"]  # one call, one second


def test_a_unit_lost_to_a_fault_is_a_row_and_a_dead_engine_ends_the_run(tmp_path):
    def lose(wanted: AttemptKey) -> dict:
        if wanted.problem.id == "p1":
            raise SandboxUnavailable("gone")
        return row_of()

    run = Run(tmp_path / "j", 3, lose).go()
    assert run.journal["p1/0"][DROPPED] == "SandboxUnavailable"

    def die(wanted: AttemptKey) -> dict:
        raise EngineFault("dead")

    dead = Run(tmp_path / "k", 1000, die)
    with pytest.raises(EngineFault):
        dead.go()
    assert len(dead.journal) == 0  # no question was burnt
    assert len(dead.made) <= 3


async def mortal(server: HostileServer, writer: asyncio.StreamWriter) -> None:
    """Run programs until the twentieth, and from then on only while pings are answered."""
    if len(server.asked) == 20:
        server.is_pinging = False
    await says(reply())(server, writer) if server.is_pinging else await resets(server, writer)


async def on_servers(server: HostileServer, path: Path, *, patience_s: float) -> list[str]:
    """One process of a run of 100 attempts, each a program on the server; what it made."""
    fleet = FleetRules(ping_s=0.01, patience_s=patience_s)
    settings = RemoteSandboxConfig(endpoints=(server.url,), token=None, fleet=fleet, backoff_s=0.01)
    made: list[str] = []
    async with RemoteSandbox(settings) as sandbox:

        async def make(wanted: AttemptKey) -> dict:
            await sandbox.run(wanted.key)
            return row_of()

        schedule = AttemptSchedule(problems(100), Journal(path, brief=brief), AttemptScheduleConfig())
        await schedule.run(make, concurrency=8, made=lambda key, _: made.append(key), done=lambda: None)
    return made


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_sandbox_servers_that_die_and_come_back_cost_no_attempt(tmp_path):
    async def work() -> list[str]:
        async with hostile(mortal) as server:
            running = asyncio.create_task(on_servers(server, tmp_path / "j", patience_s=30.0))
            await until(lambda: server.pings >= 4)  # one greeting, three in vain
            server.is_pinging = True
            return await running

    made = asyncio.run(work())
    assert sorted(made) == sorted(f"p{i}/0" for i in range(100))
    assert not any(DROPPED in row for row in rows_of(tmp_path / "j"))


def test_sandbox_servers_that_stay_dead_end_the_run_and_the_same_command_makes_the_rest(tmp_path):
    async def work() -> list[str]:
        async with hostile(mortal) as server:
            with pytest.raises(SandboxLost, match=r"no sandbox server can be used for \d+ s .*thor sandbox serve"):
                await on_servers(server, tmp_path / "j", patience_s=0.2)
            first = [row["key"] for row in rows_of(tmp_path / "j")]
            assert 10 <= len(first) <= 20
            server.is_pinging = True
            return first + await on_servers(server, tmp_path / "j", patience_s=30.0)

    made = asyncio.run(work())
    rows = rows_of(tmp_path / "j")
    assert sorted(made) == sorted(f"p{i}/0" for i in range(100)) == sorted(row["key"] for row in rows)
    assert not any(DROPPED in row for row in rows)


def test_chunks_of_a_deterministic_run_are_written_whole_and_in_order(tmp_path):
    run = Run(tmp_path / "j", 5, attempts=2, hold=True).go(concurrency=4)
    keys = [row.split('"')[3] for row in (tmp_path / "j").read_text().splitlines()]
    assert keys == [f"p{i}/{k}" for i in range(5) for k in range(2)]
    assert len(run.journal) == 10


def test_memory_holds_a_summary_of_a_row_and_the_file_all_of_it(tmp_path):
    run = Run(tmp_path / "j", 1, lambda wanted: {**row_of(RIGHT), "trajectory": {"steps": ["x" * 10_000]}}).go()
    assert "trajectory" not in run.journal["p0/0"]
    assert "x" * 10_000 in (tmp_path / "j").read_text()


def test_the_board_tells_how_a_run_goes(tmp_path):
    run = Run(tmp_path / "j", 4, lambda wanted: row_of(RIGHT)).go()
    board = ProgressLine(run.schedule)
    board.add(row_of() | {"critic": {"rewritten": 1, "failed: runtime": 2, "changed words": 1}})
    board.add({DROPPED: "SandboxUnavailable"})
    line = board.line()
    assert "4 of 4 questions, 4 solved" in line
    assert "critic 25 % accepted" in line  # one of four
    assert "programs failed: 2 runtime" in line
    assert "lost: 1 SandboxUnavailable" in line


@pytest.mark.parametrize("bad", [{"attempts": 0}, {"total": {"tokens": 0}}])
def test_nothing_less_than_one_attempt_and_a_positive_budget_is_taken(bad):
    with pytest.raises(ValueError, match=r"at least one|positive"):
        AttemptScheduleConfig(**{name: Budget(**v) if isinstance(v, dict) else v for name, v in bad.items()})
