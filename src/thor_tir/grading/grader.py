"""The grader: verdicts on answers, for asyncio and for any number of threads.

A verdict comes from the quick rules, from memory, or from the pool of grading processes; in lenient grading a judge
may be asked about what those leave unscored. What a model wrote is never evaluated in this process. Nothing waits
inside an event loop, and one grader may serve several loops.
"""

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self

from thor_tir.errors import MachineFault
from thor_tir.grading.extract import extract_answer, from_its_box
from thor_tir.grading.references import GYM, read_reference
from thor_tir.grading.rules.canonical import MAX_CHARS
from thor_tir.grading.rules.matching import quick_outcome
from thor_tir.grading.types import Graded, GradingRoute, Submission, SubmissionKind, Tally, pair
from thor_tir.grading.workers.pool import Considered, Pool
from thor_tir.grading.workers.process import GraderLimits, GradingQuestion
from thor_tir.grading.workers.reasoning_gym import UNREADABLE, calls_only_maths
from thor_tir.problem import Problem
from thor_tir.verdict import Outcome, Strictness, Verdict

_WINDOW = 1_024
"""Submissions of a batch that are under way at once."""
_JUDGE_THREADS = 8
_MAX_KEY_CHARS = 128

Key = tuple[str, str, str, str, Strictness]


class Judge(Protocol):
    """Decides what rules could not; thread-safe."""

    def outcome(self, question: str, reference: str, answer: str) -> tuple[Outcome, str]:
        """The outcome and its reason; UNSCORED where no decision could be had."""
        ...


class Grader:
    """Judges answers; a context manager, in asyncio (`grade`, `grade_batch`) and in threads (`begin`, `iter_graded`).

    Its processes start with the first answer that needs one, or with `warm`. Verdicts are remembered, since the
    attempts at one problem often end in the same answer; UNSCORED ones are not, for they may be the machine's haste.
    A problem of `reasoning-gym` is judged by its family's own scorer, every other one by our rules and math-verify.
    """

    def __init__(
        self,
        limits: GraderLimits | None = None,
        *,
        num_processes: int = 1,
        num_remembered: int = 65_536,
        strictness: Strictness = Strictness.STRICT,
        judge: Judge | None = None,
    ) -> None:
        """A judge is for lenient grading only. Raises ValueError with a strict one, or without processes."""
        if judge is not None and strictness is Strictness.STRICT:
            raise ValueError("a judge's opinion can be talked into; strict grading takes none")
        self.pool = Pool(limits or GraderLimits(), num_processes=num_processes)
        self.strictness = strictness
        self.num_remembered = num_remembered
        self._judge = judge
        self._judges = ThreadPoolExecutor(_JUDGE_THREADS, thread_name_prefix="judge")  # starts no thread by itself
        self._lock = threading.RLock()  # a future that is done already calls back at once
        self._remembered: OrderedDict[Key, tuple[Outcome, str]] = OrderedDict()
        self._under_way: dict[Key, Future[Considered]] = {}
        self._tallies = {path: Tally(count=0, seconds=0.0) for path in GradingRoute}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def warm(self) -> None:
        """Start the grading processes in the background, so that the first answer need not wait for them."""
        self.pool.warm()

    def close(self) -> None:
        """End all processes. What is under way raises GraderUnavailable."""
        self.pool.close()
        self._judges.shutdown(cancel_futures=True)

    @property
    def stats(self) -> Mapping[GradingRoute, Tally]:
        """The verdicts so far by route, with the seconds they took."""
        with self._lock:
            return dict(self._tallies)

    async def grade(self, problem: Problem, text: str) -> Verdict:
        r"""The verdict on what a model wrote, code and tool output excluded.

        CORRECT or WRONG by the last box in `text` (WRONG without one); UNSCORED where the reference cannot be read or
        the machine was too slow. An answer whose comparison uses up its time or memory is WRONG if the reference alone
        does not. Raises GraderUnavailable when a grading process cannot be had.
        """
        return (await self._graded(Submission(problem=problem, text=text))).verdict

    async def grade_answer(self, reference: str, answer: str) -> Verdict:
        """The verdict on a final answer, as it stands inside a box. Raises as `grade` does."""
        return (await self._graded(pair(reference, answer))).verdict

    async def grade_batch(self, submissions: Iterable[Submission]) -> list[Graded]:
        """Verdicts in order, with the cost of each. Raises as `grade` does."""
        given = list(submissions)
        return await asyncio.to_thread(lambda: list(self.iter_graded(given)))

    async def _graded(self, submission: Submission) -> Graded:
        future = self.begin(submission)
        return future.result() if future.done() else await asyncio.wrap_future(future)

    def iter_graded(self, submissions: Iterable[Submission]) -> Iterator[Graded]:
        """Verdicts in the order of the submissions, of which no more are read than keep the processes busy."""
        window: deque[Future[Graded]] = deque()
        for submission in submissions:
            window.append(self.begin(submission))
            while len(window) >= _WINDOW or (window and window[0].done()):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()

    def begin(self, submission: Submission) -> "Future[Graded]":
        """Grade without waiting, as far as that takes a process. The future raises GraderUnavailable."""
        began = perf_counter()
        problem = _with_plain_reference(submission.problem)
        answer = self._answer(submission)
        if not problem.answer.strip():
            return self._at_once(
                (
                    Outcome.UNSCORED,
                    f"the reference says nothing, or takes back what it says: {submission.problem.answer[:40]!r}",
                ),
                answer,
                GradingRoute.QUICK,
                began,
            )
        if answer is None:
            return self._at_once((Outcome.WRONG, "no answer found"), None, GradingRoute.QUICK, began)
        if (quick := self._quick(problem, answer)) is not None:
            return self._at_once(quick, answer, GradingRoute.QUICK, began)
        key = self._key(problem, answer)
        with self._lock:
            known = self._remembered.get(key)
            if known is not None:
                self._remembered.move_to_end(key)
            else:
                joined = self._under_way.get(key)
                considered = joined or self._submit(key, problem, answer)
        if known is not None:
            return self._at_once(known, answer, GradingRoute.CACHED, began)
        graded: Future[Graded] = Future()
        graded.set_running_or_notify_cancel()
        considered.add_done_callback(lambda done: self._conclude(graded, done, (problem, answer), joined is not None))
        return graded

    def _answer(self, submission: Submission) -> str | None:
        if submission.kind is SubmissionKind.ANSWER:
            return from_its_box(submission.text).strip() or None
        return extract_answer(submission.text, self.strictness)

    def _quick(self, problem: Problem, answer: str) -> tuple[Outcome, str] | None:
        """The verdict that needs no algebra; None where there is none.

        A reasoning-gym reference is compared as text only, because its scorer may ask for a form (a reduced fraction,
        a clock time) that the value alone does not show.
        """
        if not problem.source.startswith(GYM):
            try:
                return quick_outcome(problem.answer, answer, self.strictness)
            except UNREADABLE:  # whatever the quick rules stumble over, the process may stumble over too, and survive
                return None
        if answer == problem.answer.strip():
            return Outcome.CORRECT, "the reference, letter for letter"
        if len(answer) > MAX_CHARS:
            return Outcome.WRONG, f"longer than {MAX_CHARS} characters, as no answer is"
        return None if calls_only_maths(answer) else (Outcome.WRONG, "a program instead of an answer")

    def _key(self, problem: Problem, answer: str) -> Key:
        is_gym = problem.source.startswith(GYM)
        source, id = (problem.source, problem.id) if is_gym else ("", "")
        return (source, id, _short(problem.answer), _short(answer), self.strictness)

    def _submit(self, key: Key, problem: Problem, answer: str) -> "Future[Considered]":
        """Hand a pair to the pool; the lock is held."""
        self._under_way[key] = considered = self.pool.submit(_question(problem, answer, self.strictness))
        considered.add_done_callback(lambda done: self._remember(key, done))
        return considered

    def _remember(self, key: Key, done: "Future[Considered]") -> None:
        with self._lock:
            self._under_way.pop(key, None)
            if done.exception() is not None or done.result().outcome is Outcome.UNSCORED:
                return
            self._remembered[key] = done.result().outcome, done.result().reason
            if len(self._remembered) > self.num_remembered:
                self._remembered.popitem(last=False)

    def _conclude(
        self, graded: "Future[Graded]", done: "Future[Considered]", asked: tuple[Problem, str], is_joined: bool
    ) -> None:
        """Turn the pool's reply into a verdict; runs in the pool's thread, so a judge is asked in another."""
        if (error := done.exception()) is not None:
            graded.set_exception(error)
            return
        considered, (_, answer) = done.result(), asked
        if self._judge is not None and considered.outcome is Outcome.UNSCORED:
            try:
                self._judges.submit(self._ask_judge, self._judge, graded, considered, asked)
            except RuntimeError as closed:
                graded.set_exception(MachineFault(f"the grader is closed: {closed}"))
            return
        path = (
            GradingRoute.CACHED if is_joined else GradingRoute.KILLED if considered.was_killed else GradingRoute.ALGEBRA
        )
        seconds = 0.0 if is_joined else considered.seconds
        graded.set_result(self._count((considered.outcome, considered.reason), answer, path, seconds))

    def _ask_judge(
        self, judge: Judge, graded: "Future[Graded]", considered: Considered, asked: tuple[Problem, str]
    ) -> None:
        began = perf_counter()
        problem, answer = asked
        try:
            outcome, reason = judge.outcome(problem.question, problem.answer, answer)
        except Exception as fault:  # lost in this thread, it would leave the caller waiting for ever
            graded.set_exception(fault)
            return
        if outcome is Outcome.UNSCORED:
            reason = f"{considered.reason}; {reason}"
        seconds = considered.seconds + perf_counter() - began
        graded.set_result(self._count((outcome, reason), answer, GradingRoute.JUDGE, seconds))

    def _at_once(
        self, judged: tuple[Outcome, str], answer: str | None, path: GradingRoute, began: float
    ) -> "Future[Graded]":
        graded: Future[Graded] = Future()
        graded.set_result(self._count(judged, answer, path, perf_counter() - began))
        return graded

    def _count(self, judged: tuple[Outcome, str], answer: str | None, path: GradingRoute, seconds: float) -> Graded:
        with self._lock:
            before = self._tallies[path]
            self._tallies[path] = Tally(count=before.count + 1, seconds=before.seconds + seconds)
        extracted = answer[:MAX_CHARS] if answer else answer
        by_judge = path is GradingRoute.JUDGE and judged[0] is not Outcome.UNSCORED
        verdict = Verdict(outcome=judged[0], extracted=extracted, reason=judged[1], by_judge=by_judge)
        return Graded(verdict=verdict, path=path, seconds=seconds)


def _short(text: str) -> str:
    """A text by which to remember it: a long one by its digest, so that memory is bounded by the number of verdicts."""
    if len(text) <= _MAX_KEY_CHARS:
        return text
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _with_plain_reference(problem: Problem) -> Problem:
    """The problem with its reference as it is compared; a family's own scorer reads the reference by itself."""
    if problem.source.startswith(GYM):
        return problem
    reference = read_reference(problem.answer)
    return problem if reference == problem.answer else replace(problem, answer=reference)


def _question(problem: Problem, answer: str, strictness: Strictness) -> GradingQuestion:
    if not problem.source.startswith(GYM):
        return {"kind": "math", "reference": problem.answer, "answer": answer, "strictness": strictness}
    entry = {"question": problem.question, "answer": problem.answer, "metadata": {}, **problem.extra}
    return {"kind": "gym", "family": problem.source.removeprefix(GYM), "answer": answer, "entry": entry}
