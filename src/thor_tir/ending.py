"""Signals that end work: what is under way in asyncio is cancelled first, so that each task puts its things away."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any


@contextmanager
def ended_by(number: int, fault: type[KeyboardInterrupt]) -> Iterator[None]:
    """Raise `fault` out of this block when the signal comes; for the main thread.

    Raised from whichever task is running it would leave asyncio's loop at once, and what the others wait for would end
    in tracebacks. So there the work is cancelled, as asyncio does at Ctrl-C, and the fault takes the place of whatever
    then leaves the block. At a second signal the fault is raised at once.
    """
    times = 0

    def end(_number: int, _frame: object) -> None:
        nonlocal times
        times += 1
        if times > 1 or not _is_cancelled():
            raise fault

    before = signal.signal(number, end)
    try:
        yield
    except BaseException as stop:
        if times and not isinstance(stop, fault):
            raise fault from stop
        raise
    finally:
        signal.signal(number, before)
    if times:
        raise fault


def _is_cancelled() -> bool:
    """True where this thread runs a loop, whose work is cancelled as soon as it goes on.

    False where nothing but the whole work itself is running, from which a fault may be raised.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return False
    main = _main_task()
    if main is not None and main is asyncio.current_task():
        return False

    def cancel() -> None:
        for task in asyncio.all_tasks(loop) if main is None else {main}:
            task.cancel()

    loop.call_soon_threadsafe(cancel)
    return True


def _main_task() -> "asyncio.Task[Any] | None":
    """The task of `asyncio.run`, which hands it to its handler of SIGINT; None where SIGINT is ignored."""
    handler = signal.getsignal(signal.SIGINT)
    return handler.keywords.get("main_task") if isinstance(handler, partial) else None
