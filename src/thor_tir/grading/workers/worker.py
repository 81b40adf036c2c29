"""The grader's own process: judges one answer at a time, under limits, and answers over a pipe.

Run as `python -m thor_tir.grading.workers.worker`. It reads frames from stdin and writes to the descriptor that was
stdout: one frame when it has got past the reference, so that a kill can be blamed on the answer, and one with the
outcome. It imports neither torch nor anything else of a training process. It is not a sandbox: it bounds time and
memory and refuses to start programs, to connect or to write files; what must not be executed at all is the rules' to
refuse.
"""

import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from threading import Event

from thor_tir.grading.rules.algebra import algebraic_outcome
from thor_tir.grading.workers.process import (
    JudgeReply,
    JudgeRequest,
    PastReference,
    PrepareRequest,
    ReadyReply,
    WorkerReply,
    encode_message,
    read_request,
)
from thor_tir.grading.workers.reasoning_gym import UNREADABLE, gym_outcome
from thor_tir.verdict import Outcome, Strictness

_ITEMS_PER_CACHE = 200
_RING_AGAIN_S = 0.25
_FORBIDDEN = frozenset(
    {"os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system", "os.kill", "os.remove", "os.rename"}
    | {"os.mkdir", "os.rmdir", "subprocess.Popen", "socket.connect", "socket.bind", "ctypes.dlopen"}
)
_WRITING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_judging = Event()
"""Set while an answer is looked at; imports, between answers, may do what they need."""


class _TookTooLong(BaseException):
    """Raised by the alarm. Not an Exception: the libraries below catch those and would call the answer wrong."""


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """One limit over everything inside, where math-verify's own alarms would each start anew for every candidate.

    It rings again: a library may swallow the first.
    """

    def ring(_signal: int, _frame: object) -> None:
        raise _TookTooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, _RING_AGAIN_S)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


@lru_cache(maxsize=4096)
def _try_reference(reference: str, strictness: Strictness) -> None:
    """Compare the reference with a plain number: where that takes long or fails, no answer is to blame."""
    algebraic_outcome(reference, "0", strictness)


def judge(request: JudgeRequest, tell: Callable[[PastReference], None]) -> JudgeReply:
    """The outcome and its reason. `tell` is called when the reference has been read."""
    question, is_past_reference = request["question"], False
    try:
        with _alarm(request["alarm_s"]):
            if question["kind"] == "gym":
                outcome, reason = gym_outcome(question["family"], question["answer"], question["entry"])
            else:
                strictness = Strictness(question["strictness"])
                _try_reference(question["reference"], strictness)
                is_past_reference = True
                tell({"past": "reference"})
                outcome, reason = algebraic_outcome(question["reference"], question["answer"], strictness)
        return _judged(outcome, reason)
    except _TookTooLong:
        cause = f"took longer than {request['alarm_s']:g} s"
    except MemoryError:
        cause = "needed more memory than it may have"
    except UNREADABLE as error:
        cause = f"failed ({type(error).__name__})"
    if is_past_reference:
        return _judged(Outcome.WRONG, f"the comparison {cause}; no plain answer does", was_cut=True)
    return _judged(Outcome.UNSCORED, f"reading the reference {cause}", was_cut=True)


def _judged(outcome: Outcome, reason: str, *, was_cut: bool = False) -> JudgeReply:
    return {"outcome": outcome, "reason": reason, "was_cut": was_cut, "resident_bytes": _pages(1)}


def load_libraries(request: PrepareRequest) -> ReadyReply:
    """Import what a kind of question needs, before any limit on time or memory counts."""
    _limit(resource.RLIMIT_AS, resource.RLIM_INFINITY)
    _limit(resource.RLIMIT_CPU, resource.RLIM_INFINITY)
    if request["kind"] == "gym":
        import reasoning_gym  # noqa: F401
    else:
        import math_verify

        math_verify.parse(r"\boxed{\frac{1}{2}}", parsing_timeout=None)  # builds the parser's tables
        algebraic_outcome(r"\sqrt{2}", "x^2+1", Strictness.STRICT)
    _limit(resource.RLIMIT_AS, _pages(0) + request["memory_bytes"])
    return {"ready": request["kind"]}


def _forbid(event: str, arguments: tuple[object, ...]) -> None:
    """Mathematics needs no programs, no network and no files of its own."""
    is_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING_FLAGS
    if _judging.is_set() and (event in _FORBIDDEN or is_write):
        raise PermissionError(f"{event} is no part of grading")


def _fall_silent() -> None:
    """Discard the output of scorers, which could fill a disk or get mixed with the replies."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _limit(what: int, soft: int) -> None:
    """Lower or raise the soft limit, as far as the hard limit of the parent allows."""
    hard = resource.getrlimit(what)[1]
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(what, (soft, hard))


def _pages(field: int) -> int:
    """Bytes of address space (field 0) or resident (1) now; 0 where the system has no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[field]) * resource.getpagesize()
    except OSError:
        return 0


def _die_with_parent() -> None:
    if sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def _serve_one(request: JudgeRequest, tell: Callable[[PastReference], None]) -> JudgeReply:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + request["cpu_s"])
    _judging.set()
    try:
        return judge(request, tell)
    finally:
        _judging.clear()


def serve() -> None:
    """Serve until stdin ends, with stdout kept free of whatever a library prints."""
    _die_with_parent()
    _limit(resource.RLIMIT_CORE, 0)
    logging.disable()
    from sympy.core.cache import clear_cache

    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(message: WorkerReply) -> None:
        stream.write(encode_message(message))
        stream.flush()

    num_served = 0
    while (request := read_request(sys.stdin.buffer)) is not None:
        if request["do"] == "prepare":
            tell(load_libraries(request))
            continue
        if num_served == 0:
            _fall_silent()
            sys.dont_write_bytecode = True
            sys.addaudithook(_forbid)
        tell(_serve_one(request, tell))
        num_served += 1
        if num_served % _ITEMS_PER_CACHE == 0:
            clear_cache()


if __name__ == "__main__":
    serve()
