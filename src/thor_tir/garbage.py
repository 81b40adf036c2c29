"""Python's collection of garbage, put off while objects are made that stay."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_WITHIN: list[bool] = []
"""For each thread that is within: True if collections were on when it came."""


@contextmanager
def uncollected() -> Iterator[None]:
    """Collect nothing for a while; of several threads the last one to leave lets it go on.

    Imports of torch and transformers make some hundred thousand objects that all stay, and every collection on the way
    looks at them again: a quarter of the processor time that they take.
    """
    with _LOCK:
        _WITHIN.append(gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _LOCK:
            was_on = _WITHIN[0]  # as the first one found it
            _WITHIN.pop()
            if was_on and not _WITHIN:
                gc.enable()
