"""The bounded processes behind the grader, and its face for threads."""

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from thor_tir.errors import GraderUnavailable
from thor_tir.grading.extract import MAX_CHARS as MAX_RESPONSE_CHARS
from thor_tir.grading.grader import Grader
from thor_tir.grading.rules.canonical import MAX_CHARS as MAX_ANSWER_CHARS
from thor_tir.grading.types import GradingRoute, Submission, pair
from thor_tir.grading.workers import process as process_module
from thor_tir.grading.workers.process import GraderLimits, GraderProcess, ItemLost
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Verdict

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture(scope="module")
def grader():
    with Grader(GraderLimits(timeout_s=3.0)) as grader:
        yield grader


def request(reference: str, answer: str) -> dict:
    return {"kind": "math", "reference": reference, "answer": answer, "strictness": "strict"}


def verdict_on(grader: Grader, reference: str, answer: str) -> Verdict:
    """The verdict on a final answer, waited for in this thread."""
    return grader.begin(pair(reference, answer)).result().verdict


def served_by(grader: Grader) -> GraderProcess:
    """The process that answers, rather than the spare: it alone has had items."""
    verdict_on(grader, "q+1", f"q+{time.monotonic_ns()}")
    (process,) = (p for p in grader.pool.running if p.num_items)
    return process


def test_any_thread_may_ask_and_every_answer_goes_to_its_asker(grader):
    with ThreadPoolExecutor(6) as threads:
        verdicts = list(threads.map(lambda n: verdict_on(grader, "a+7", f"{n}+a"), range(12)))
    assert [n for n, verdict in enumerate(verdicts) if verdict.outcome is Outcome.CORRECT] == [7]


def test_a_process_killed_over_an_answer_is_replaced_by_the_spare_and_the_answer_judged(grader):
    process = served_by(grader)
    (spare,) = grader.pool.running - {process}
    os.kill(process.pid, signal.SIGSTOP)  # so that the request is under way for certain when it dies
    future = grader.begin(pair("(b+1)^2", "b^2+2b+1"))
    threading.Timer(0.1, os.kill, (process.pid, signal.SIGKILL)).start()
    graded = future.result()
    assert (graded.verdict.outcome, graded.path) == (Outcome.CORRECT, GradingRoute.ALGEBRA)
    assert served_by(grader) is spare
    assert len(grader.pool.running) == 2  # and there is a new spare


@linux_only
def test_a_process_that_was_not_let_run_is_the_machines_fault_so_the_answer_stays_unscored(grader):
    process = served_by(grader)
    os.kill(process.pid, signal.SIGSTOP)  # nor could any alarm inside wake it
    graded = grader.begin(pair("c+1", "1+c")).result()
    assert (graded.verdict.outcome, graded.path) == (Outcome.UNSCORED, GradingRoute.KILLED)
    assert verdict_on(grader, "c+1", "1+c").outcome is Outcome.CORRECT  # and it is not remembered as unscored


def test_a_reference_that_cannot_be_compared_with_anything_is_not_the_answers_fault(grader):
    assert verdict_on(grader, "10^{10^{10^{10}}}", "x+1").outcome is Outcome.UNSCORED


def test_a_worn_process_makes_way_for_the_spare(grader, monkeypatch):
    process = served_by(grader)
    monkeypatch.setattr(process_module, "_MAX_ITEMS", process.num_items + 1)
    verdict_on(grader, "r+1", "1+r")
    assert process not in grader.pool.running
    monkeypatch.undo()
    assert served_by(grader).num_items == 1


def test_verdicts_are_forgotten_when_there_are_too_many(grader, monkeypatch):
    monkeypatch.setattr(grader, "num_remembered", 0)
    verdict_on(grader, "d+1", "1+d")  # pushes out one that was remembered before
    monkeypatch.setattr(grader, "num_remembered", 1)
    grader._remembered.clear()
    paths = [grader.begin(pair("d+1", answer)).result() for answer in ("1+d", "1+d", "d+2", "1+d")]
    assert [graded.path for graded in paths] == [
        GradingRoute.ALGEBRA,
        GradingRoute.CACHED,
        GradingRoute.ALGEBRA,
        GradingRoute.ALGEBRA,
    ]


def test_what_is_remembered_of_a_long_answer_is_its_digest_and_surrogates_have_one_too(grader):
    long = "z" * 200 + "\udc80"
    paths = [grader.begin(pair("z+1", answer)).result().path for answer in (long, long, long + "z")]
    assert paths == [GradingRoute.ALGEBRA, GradingRoute.CACHED, GradingRoute.ALGEBRA]
    assert all(len(text) <= 128 for key in grader._remembered for text in key)


@pytest.mark.parametrize(
    "answer", ["\ud800", "x\x00y", "x" * MAX_ANSWER_CHARS, "7" * 10**6, "((((" * 10**5, "\u202e1", "\\boxed{" * 2000]
)
def test_no_characters_and_no_length_break_the_transport(grader, answer):
    verdict = verdict_on(grader, "x+1", answer)
    assert verdict.outcome is Outcome.WRONG
    assert len(verdict.extracted) <= MAX_ANSWER_CHARS


def test_only_the_end_of_an_endless_response_is_searched(grader):
    problem = Problem(id="p", question="?", answer="5", source="test")
    padding = "x" * MAX_RESPONSE_CHARS
    assert (
        grader.begin(Submission(problem=problem, text=padding + r"\boxed{5}")).result().verdict.outcome
        is Outcome.CORRECT
    )
    assert grader.begin(Submission(problem=problem, text=r"\boxed{5}" + padding)).result().verdict.extracted is None


def test_a_batch_is_read_only_as_far_as_it_keeps_the_processes_busy(grader):
    drawn = []

    def endless():
        while True:
            drawn.append(None)
            yield pair("3", "3")

    verdicts = grader.iter_graded(endless())
    assert next(verdicts).verdict.outcome is Outcome.CORRECT
    assert len(drawn) == 1  # the first was decided at once


def test_a_closed_grader_says_so_and_leaves_no_process():
    grader = Grader()
    grader.warm()
    verdict_on(grader, "x+1", "1+x")
    pids = [process.pid for process in grader.pool.running]
    grader.close()
    grader.close()
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(GraderUnavailable, match="closed"):
        verdict_on(grader, "x+1", "2+x")


@pytest.fixture
def process():
    process = GraderProcess(GraderLimits(timeout_s=2.0))
    process.load_libraries("math")
    process.await_ready()
    yield process
    process.kill()


def test_a_lost_item_says_whether_it_overstayed_or_died(process):
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(ItemLost, match="died without a reply") as lost:
        process.ask(request("x+1", "1+x"), 1.0)
    assert (lost.value.timed_out, lost.value.is_answers_fault) == (False, False)


def test_limits_that_cannot_be_kept_are_refused():
    with pytest.raises(ValueError, match="timeout_s and memory_bytes must be positive"):
        GraderLimits(timeout_s=0)
    with pytest.raises(ValueError, match="num_processes is 0"):
        Grader(num_processes=0)


def test_a_response_is_searched_for_its_answer_and_an_answer_is_taken_as_it_stands(grader):
    problem = Problem(id="p", question="?", answer="5", source="test")
    text = r"It is \boxed{5}."
    assert grader.begin(Submission(problem=problem, text=text)).result().verdict.extracted == "5"
    assert grader.begin(pair("5", " 5 ")).result().verdict.extracted == "5"
