"""Many attempts at once: order, faults that are counted, and going on after a kill."""

import asyncio
import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from scripted_agent import agent_of, program
from thor_tir.errors import EngineFault, GraderUnavailable
from thor_tir.problem import Problem
from thor_tir.progress import UNSEEN, Unseen
from thor_tir.rollout.loop import RolloutConfig
from thor_tir.rollout.sample_many import (
    Attempt,
    AttemptRequest,
    SamplingSetup,
    attempt_all,
    attempt_from_json,
    attempt_to_json,
    lost,
    record_all,
)
from thor_tir.storage.journal import Journal
from thor_tir.verdict import Outcome, Verdict

ANSWER = "So \\boxed{77}."
QUESTIONS = {
    "first one": [program("slow"), ANSWER],
    "second one": [ANSWER],
    "third one": [program("offline")],
    "fourth one": [program("boom"), ANSWER],
}


class Bar(Unseen):
    """Counts what was reported."""

    before = done = 0

    def resume(self, units: int) -> None:
        self.before += units

    def advance(self, units: int = 1) -> None:
        self.done += units


async def grade(problem: Problem, text: str) -> Verdict:
    if problem.answer == "broken":
        raise GraderUnavailable("the grader is gone")
    is_right = f"\\boxed{{{problem.answer}}}" in text
    return Verdict(outcome=Outcome.CORRECT if is_right else Outcome.WRONG, extracted="77", reason="")


def problem_of(question: str, answer: str = "77") -> Problem:
    return Problem(id=f"id {question}", question=question, answer=answer, source="test")


def requests_of(questions: list[str]) -> list[AttemptRequest]:
    return [AttemptRequest(id=f"r/{q}", problem=problem_of(q), seed=n) for n, q in enumerate(questions)]


def setup_of(questions=QUESTIONS, **settings) -> SamplingSetup:
    return SamplingSetup(agent=agent_of(questions), grade=grade, config=RolloutConfig(), **settings)


def run(
    setup: SamplingSetup, requests: list[AttemptRequest], path: Path, *, hold: bool = False, bar=UNSEEN
) -> list[Attempt]:
    with closing(Journal(path, hold=hold)) as journal:
        return asyncio.run(attempt_all(requests, setup, journal, bar))


def record(work: dict, setup: SamplingSetup, path: Path, *, hold: bool = False) -> None:
    with closing(Journal(path, hold=hold)) as journal:
        asyncio.run(record_all(work, setup, journal))


def keys_in(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def test_attempts_come_in_the_order_of_the_requests_and_are_kept_in_that_in_which_they_end(tmp_path):
    requests = requests_of(["first one", "second one"])
    attempts = run(setup_of(), requests, tmp_path / "j")
    assert [a.trajectory.id for a in attempts] == ["r/first one", "r/second one"]
    # the program of the first takes a while
    assert keys_in(tmp_path / "j") == ["r/second one", "r/first one"]


@pytest.mark.parametrize("hold", [False, True])
def test_a_machine_fault_drops_its_attempt_alone_and_is_counted_by_name(tmp_path, hold):
    setup, bar = setup_of({**QUESTIONS, "fifth one": [ANSWER]}), Bar()
    requests = requests_of(list(QUESTIONS))
    unscorable = AttemptRequest(id="r/fifth one", problem=problem_of("fifth one", "broken"), seed=9)
    attempts = run(setup, [*requests, unscorable], tmp_path / "j", hold=hold, bar=bar)
    assert [a.trajectory.id for a in attempts] == ["r/first one", "r/second one", "r/fourth one"]
    with closing(Journal(tmp_path / "j")) as journal:
        assert lost(journal, [r.id for r in [*requests, unscorable]]) == Counter(
            SandboxUnavailable=1, GraderUnavailable=1
        )
    assert bar.done == 5


def test_the_models_own_failures_are_attempts_like_any_other(tmp_path):
    [attempt] = run(setup_of(), requests_of(["fourth one"]), tmp_path / "j")
    assert attempt.trajectory.steps[0].failed
    assert attempt.is_correct


def test_a_resumed_run_samples_only_what_is_missing_and_returns_all(tmp_path):
    path, requests = tmp_path / "j", requests_of(["first one", "second one"])
    before = run(setup_of(), requests[:1], path)
    setup, bar = setup_of({"second one": [ANSWER]}), Bar()
    attempts = run(setup, requests, path, bar=bar)
    assert len(setup.agent.policy.asked) == 1
    assert attempts[0] == before[0]
    assert [a.trajectory.id for a in attempts] == ["r/first one", "r/second one"]
    assert (bar.before, bar.done) == (1, 1)


def test_what_a_fault_dropped_stays_dropped_and_counted_when_the_run_is_resumed(tmp_path):
    path, requests = tmp_path / "j", requests_of(["second one", "third one"])
    run(setup_of(), requests, path)
    resumed = setup_of({})
    assert [a.trajectory.id for a in run(resumed, requests, path)] == ["r/second one"]
    assert resumed.agent.policy.asked == []
    with closing(Journal(path)) as journal:
        assert lost(journal, [r.id for r in requests]) == Counter(SandboxUnavailable=1)


def test_a_torn_line_costs_its_attempt_and_no_other(tmp_path):
    path, requests = tmp_path / "j", requests_of(["second one", "fourth one"])
    whole = run(setup_of(), requests, path)
    path.write_bytes(path.read_bytes()[:-20])
    torn = setup_of()
    assert run(torn, requests, path) == whole
    # the fourth asks twice, the second once; whichever line was last is the one done again
    assert len(torn.agent.policy.asked) == 2


def test_any_other_fault_cancels_the_rest_and_is_raised_bare(tmp_path):
    ended: list[str] = []

    async def breaks() -> dict:
        raise EngineFault("out of memory")

    async def waits() -> dict:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")
        return {}

    with pytest.raises(EngineFault, match="out of memory"):
        record({"a": waits, "b": breaks}, setup_of(), tmp_path / "j")
    assert ended == ["cancelled"]
    assert keys_in(tmp_path / "j") == []


def units(order: list[str], names: str, *, killed_at: str = "") -> dict:
    """Units that note when they end, later names sooner, and one that ends the run."""

    def unit(place: int, name: str):
        async def work() -> dict:
            for _ in range(len(names) - place):
                await asyncio.sleep(0)
            if name == killed_at:
                raise EngineFault("killed")
            order.append(name)
            return {"name": name}

        return work

    return {name: unit(place, name) for place, name in enumerate(names)}


def test_a_journal_that_holds_gets_its_lines_in_the_order_of_the_work(tmp_path):
    ended: list[str] = []
    record(units(ended, "abcde"), setup_of(concurrency=3), tmp_path / "j", hold=True)
    assert ended == ["c", "b", "a", "e", "d"]
    assert keys_in(tmp_path / "j") == ["a", "b", "c", "d", "e"]


def test_a_journal_that_holds_keeps_whole_chunks_and_nothing_of_one_that_was_cut_short(tmp_path):
    ended: list[str] = []
    with pytest.raises(EngineFault):
        record(units(ended, "abcdef", killed_at="d"), setup_of(concurrency=2), tmp_path / "j", hold=True)
    assert keys_in(tmp_path / "j") == ["a", "b"]
    again: list[str] = []
    record(units(again, "abcdef"), setup_of(concurrency=2), tmp_path / "j", hold=True)
    # the same chunks as in an uninterrupted run: c with d, e with f
    assert again == ["d", "c", "f", "e"]
    assert keys_in(tmp_path / "j") == list("abcdef")


def test_no_more_attempts_are_in_flight_than_the_shop_allows(tmp_path):
    flying, most = 0, 0

    async def unit() -> dict:
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0)
        flying -= 1
        return {}

    work = {str(n): unit for n in range(10)}
    record(work, setup_of(concurrency=3), tmp_path / "j")
    assert most == 3


def test_an_attempt_survives_its_journal_token_for_token(tmp_path):
    [attempt] = run(setup_of(), requests_of(["fourth one"]), tmp_path / "j")
    assert attempt_from_json(attempt_to_json(attempt), attempt.problem) == attempt
    judged = replace(attempt, verdict=replace(attempt.verdict, by_judge=True))
    assert attempt_from_json(attempt_to_json(judged), attempt.problem) == judged


def test_a_row_of_another_problem_is_refused(tmp_path):
    [attempt] = run(setup_of(), requests_of(["second one"]), tmp_path / "j")
    with pytest.raises(ValueError, match="is about problem id second one, not id first one"):
        attempt_from_json(attempt_to_json(attempt), problem_of("first one"))
