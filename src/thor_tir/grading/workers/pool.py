"""A fixed number of grading processes, each served by a thread of its own, and one warm spare for all of them.

When a process is killed over an answer or has served its time, the spare takes its place at once and the next spare
starts in the background, so that no answer waits for imports.
"""

import contextlib
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter

from thor_tir.errors import GraderUnavailable
from thor_tir.grading.workers.process import (
    GraderLimits,
    GraderProcess,
    GradingQuestion,
    ItemLost,
    JudgeReply,
    QuestionKind,
)
from thor_tir.verdict import Outcome

_LEAST_S = 0.5
"""A second attempt with less time left than this is not made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """The pool's finding on one request."""

    outcome: Outcome
    """The outcome that the process gave, or that its end implies."""
    reason: str
    """The reason, one clause for a person to read."""
    seconds: float
    """Wall-clock time of the comparison, without waiting for a process."""
    was_killed: bool = False
    """True if the comparison ended by a limit or took its process with it."""


Job = tuple[GradingQuestion, "Future[Considered]"]


class Pool:
    """Answers requests in the order in which they come, `num_processes` at a time; thread-safe.

    Nothing starts before `warm` or the first `submit`.
    """

    def __init__(self, limits: GraderLimits, *, num_processes: int) -> None:
        if num_processes < 1:
            raise ValueError(f"num_processes is {num_processes}; grading needs at least one")
        self.limits = limits
        self.num_processes = num_processes
        self.is_closed = False
        self.running: set[GraderProcess] = set()
        """Processes alive, the spare among them."""
        self._lock = threading.RLock()
        self._kinds: list[QuestionKind] = ["math"]
        self._spare: GraderProcess | None = None
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def submit(self, question: GradingQuestion) -> "Future[Considered]":
        """Have a question judged. The future raises GraderUnavailable where no process can be had."""
        future: Future[Considered] = Future()
        future.set_running_or_notify_cancel()  # several may wait for it, so none can cancel it
        with self._lock:
            if self.is_closed:
                future.set_exception(GraderUnavailable("the grader is closed"))
                return future
            self._start_threads()
            self._jobs.put((question, future))
        return future

    def warm(self) -> None:
        """Start all processes now; returns at once."""
        with self._lock:
            if not self.is_closed:
                self._start_threads()

    def close(self) -> None:
        """End all processes. Requests under way or waiting raise GraderUnavailable. May be called again."""
        with self._lock:
            self.is_closed = True
            for process in self.running:
                process.stop()
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        with self._lock:
            for process in list(self.running):  # only the spare is left
                self._discard(process)

    def _start_threads(self) -> None:
        while len(self._threads) < self.num_processes:
            thread = threading.Thread(target=self._serve, name="grader", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self) -> None:
        """One thread's life. It outlives every process it starts (see `process.py`)."""
        process: GraderProcess | None = None
        with contextlib.suppress(GraderUnavailable):  # the first request tries again and raises
            process = self._take()
        while (job := self._jobs.get()) is not None:
            question, future = job
            try:
                considered, process = self._judge(question, process)
            except GraderUnavailable as fault:
                process = None
                future.set_exception(fault)
            else:
                future.set_result(considered)
        if process is not None:
            self._discard(process)

    def _judge(
        self, question: GradingQuestion, process: GraderProcess | None
    ) -> tuple[Considered, GraderProcess | None]:
        """A process that dies may have been killed by anyone, so the item gets another; a time-out is its own doing."""
        left_s = self.limits.process_s
        spent_s = 0.0
        while True:
            process = self._ready(process, question["kind"])
            began = perf_counter()
            try:
                reply = process.ask(question, left_s - spent_s)
            except ItemLost as lost:
                self._discard(process)
                is_first = spent_s == 0
                spent_s += perf_counter() - began
                if lost.timed_out or not is_first or left_s - spent_s < _LEAST_S:
                    return _lost(lost, spent_s), self._replacement()
                process = None
            else:
                return _considered(reply, spent_s + perf_counter() - began), self._renewed(process)

    def _ready(self, process: GraderProcess | None, kind: QuestionKind) -> GraderProcess:
        """A process that can judge requests of that kind at once. Raises GraderUnavailable."""
        with self._lock:
            if kind not in self._kinds:
                self._kinds.append(kind)  # spares started from now on are prepared for it
        process = process or self._take()
        process.load_libraries(kind)
        try:
            process.await_ready()
        except GraderUnavailable:
            self._discard(process)
            raise
        return process

    def _renewed(self, process: GraderProcess) -> GraderProcess | None:
        if not process.is_worn:
            return process
        self._discard(process)
        return self._replacement()

    def _replacement(self) -> GraderProcess | None:
        """The next process, where there can be one; otherwise the next request says why not."""
        try:
            return self._take()
        except GraderUnavailable:
            return None

    def _take(self) -> GraderProcess:
        """The warm spare, and a new one in its place. Raises GraderUnavailable."""
        with self._lock:
            process = self._spare or self._start()
            self._spare = None
            self._spare = self._start()
            return process

    def _start(self) -> GraderProcess:
        if self.is_closed:
            raise GraderUnavailable("the grader is closed")
        process = GraderProcess(self.limits)
        self.running.add(process)
        for kind in self._kinds:
            process.load_libraries(kind)
        return process

    def _discard(self, process: GraderProcess) -> None:
        process.kill()
        with self._lock:
            self.running.discard(process)


def _considered(reply: JudgeReply, seconds: float) -> Considered:
    return Considered(
        outcome=Outcome(reply["outcome"]), reason=reply["reason"], seconds=seconds, was_killed=reply["was_cut"]
    )


def _lost(lost: ItemLost, seconds: float) -> Considered:
    """WRONG if the answer alone is at fault: dropping it would spare a model what it deserves."""
    if lost.is_answers_fault:
        cause = "ran out of time" if lost.timed_out else "brought its process down"
        return Considered(
            outcome=Outcome.WRONG,
            reason=f"the comparison {cause}; no plain answer does",
            seconds=seconds,
            was_killed=True,
        )
    reason = f"the grading process was {lost}" if lost.timed_out else f"the grading process {lost}"
    return Considered(outcome=Outcome.UNSCORED, reason=reason, seconds=seconds, was_killed=True)
